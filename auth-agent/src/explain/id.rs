//! What a request is called in its response, at its upstream and in logs.

use std::cell::RefCell;
use std::hash::{BuildHasher as _, RandomState};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of the longest id that is taken from a proxy.
pub const MAX_ID_BYTES: usize = 128;
/// Hexadecimal digits of an id that is made here: 128 bits.
const DIGITS: usize = 32;
/// Ids that share an allocation.
const IDS_PER_BLOCK: usize = 128;

/// The name of one request: a header value of 1 to 128 letters, digits and `-_.~+/=:@`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new one, that no other agent makes, nor this one after a restart.
    pub fn make() -> Self {
        MAKER.with_borrow_mut(Maker::make)
    }

    /// The id of that text, if it can be one.
    pub fn parse(text: &str) -> Option<Self> {
        let value = HeaderValue::from_str(text).ok().filter(|_| is_well_formed(text.as_bytes()));
        value.map(Self)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// For a header field.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::make()
    }
}

/// The id that a trusted proxy gave the request, if there is exactly one, and well formed.
pub fn accepted(headers: &HeaderMap, name: &HeaderName) -> Option<RequestId> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if is_well_formed(value.as_bytes()) => Some(RequestId(value.clone())),
        _ => None,
    }
}

/// Whether a text can be a request's id.
pub fn is_well_formed(id: &[u8]) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+/=:@".contains(byte))
}

thread_local! {
    static MAKER: RefCell<Maker> = RefCell::new(Maker::new());
}

/// Makes ids without asking the system: a thread asks once for what makes its own unlike any others.
struct Maker {
    block: BytesMut,
    key: u64,
    made: u64,
    thread: u64,
}

impl Maker {
    fn new() -> Self {
        let random = RandomState::new();
        Self { block: BytesMut::new(), key: random.hash_one(1), made: 0, thread: random.hash_one(2) }
    }

    fn make(&mut self) -> RequestId {
        self.made = self.made.wrapping_add(1);
        if self.block.capacity() < DIGITS {
            self.block = BytesMut::with_capacity(DIGITS * IDS_PER_BLOCK);
        }
        for word in [self.thread, mixed(self.made ^ self.key)] {
            self.block.extend_from_slice(&digits(word));
        }
        let value = HeaderValue::from_maybe_shared(self.block.split().freeze());
        RequestId(value.unwrap_or_else(|_| HeaderValue::from_static("none")))
    }
}

/// A permutation of 64-bit words (the finaliser of `SplitMix64`): no two numbers give the same word.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn digits(word: u64) -> [u8; DIGITS / 2] {
    let mut digits = [0; DIGITS / 2];
    for (at, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(word >> (60 - 4 * at)) as usize & 15];
    }
    digits
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_ids_are_the_same_on_any_thread() {
        let made = || (0..20_000).map(|_| RequestId::make().as_str().to_owned()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(made)).collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(ids.iter().all(|id| id.len() == DIGITS && is_well_formed(id.as_bytes())));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 80_000);
    }

    #[test]
    fn an_id_is_taken_if_there_is_one_and_it_is_well_formed() {
        let name = HeaderName::from_static("x-request-id");
        let long = "a".repeat(MAX_ID_BYTES + 1);
        for (values, expected) in [
            (&["f3b1"][..], Some("f3b1")),
            (&["Root=1-67891233-abcdef012345678912345678"], Some("Root=1-67891233-abcdef012345678912345678")),
            (&["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
            (&[&long[1..]], Some(&long[1..])),
            (&[&long], None),
            (&[], None),
            (&[""], None),
            (&["a", "a"], None),
            (&["a b"], None),
            (&["a\"b"], None),
            (&["a,b"], None),
            (&["a{b}"], None),
            (&["caf\u{e9}"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let found = accepted(&headers, &name);
            assert_eq!(found.as_ref().map(RequestId::as_str), expected, "{values:?}");
        }
    }
}
