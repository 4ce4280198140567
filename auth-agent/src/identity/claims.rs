//! What a credential claims, as far as the configuration asks for it.
//!
//! A claim has one canonical text by which it is compared: `1` is `1`, never `01` or `1.0`. What has none (fractions,
//! objects, text that could be trimmed on the way) is [`Claim::Unreadable`]: it is equal to nothing, and no policy decides
//! by it.

use std::sync::Arc;

use crate::config::ClaimPath;

/// Values of a list; real ones hold some dozens.
pub const MAX_LIST: usize = 256;

/// A claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim<'i> {
    /// The credential does not have it.
    Absent,
    /// `true` or `false`
    Boolean(bool),
    /// Canonical texts.
    List(&'i [Box<str>]),
    /// A whole number.
    Number(i64),
    /// Fit for a header and a log line as it stands.
    Text(&'i str),
    /// There is something that can't be compared, or nobody looked when the token was verified.
    Unreadable,
}

impl Claim<'_> {
    /// Whether it is `text`, or has it among its values. Looks at all of them, wherever the text is.
    pub fn has(&self, text: &str) -> bool {
        match self {
            Self::Absent | Self::Unreadable => false,
            Self::Boolean(value) => text == if *value { "true" } else { "false" },
            Self::List(values) => values.iter().fold(false, |found, value| found | (**value == *text)),
            Self::Number(number) => is_decimal(text, *number),
            Self::Text(value) => *value == text,
        }
    }
}

/// Whether `text` is how JSON writes `number`, and not another spelling of it.
fn is_decimal(text: &str, number: i64) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical =
        if number == 0 { text == "0" } else { digits.starts_with(|first| ('1'..='9').contains(&first)) };
    canonical && text.parse() == Ok(number)
}

/// A claim that was kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kept {
    /// `true` or `false`
    Boolean(bool),
    /// Canonical texts, at most [`MAX_LIST`].
    List(Box<[Box<str>]>),
    /// A whole number.
    Number(i64),
    /// An identifier.
    Text(Box<str>),
    /// Anything else.
    Unreadable,
}

impl Kept {
    fn claim(&self) -> Claim<'_> {
        match self {
            Self::Boolean(value) => Claim::Boolean(*value),
            Self::List(values) => Claim::List(values),
            Self::Number(number) => Claim::Number(*number),
            Self::Text(text) => Claim::Text(text),
            Self::Unreadable => Claim::Unreadable,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::List(values) => {
                block(size_of_val(&**values)) + values.iter().map(|value| block(value.len())).sum::<usize>()
            }
            Self::Text(text) => block(text.len()),
            Self::Boolean(_) | Self::Number(_) | Self::Unreadable => 0,
        }
    }
}

/// The claims of a token that were asked for when it was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeptClaims {
    /// Those that were asked for, there or not.
    names: Arc<[ClaimPath]>,
    /// In the same order.
    values: Box<[Option<Kept>]>,
}

impl KeptClaims {
    /// What `read` finds for each of `names`; `None`: nothing was asked for.
    pub fn read(names: &Arc<[ClaimPath]>, read: impl Fn(&ClaimPath) -> Option<Kept>) -> Option<Arc<Self>> {
        let values = || names.iter().map(read).collect();
        (!names.is_empty()).then(|| Arc::new(Self { names: Arc::clone(names), values: values() }))
    }

    /// The claim of that name.
    pub fn claim(&self, name: &ClaimPath) -> Claim<'_> {
        let found = self.names.iter().position(|known| known == name);
        match found.and_then(|place| self.values.get(place)) {
            None => Claim::Unreadable,
            Some(None) => Claim::Absent,
            Some(Some(kept)) => kept.claim(),
        }
    }

    /// Whether a claim of that name was looked for.
    pub fn has_looked_for(&self, name: &ClaimPath) -> bool {
        self.names.contains(name)
    }

    /// What they take, without what tokens share.
    pub fn heap_bytes(&self) -> usize {
        let values = self.values.iter().flatten().map(Kept::heap_bytes).sum::<usize>();
        block(16 + size_of::<Self>()) + block(size_of_val(&*self.values)) + values
    }
}

/// What a block takes, rounded as allocators do, with their own word.
const fn block(bytes: usize) -> usize {
    bytes.next_multiple_of(16) + 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_claim_is_compared_by_its_one_canonical_text() {
        let list: Box<[Box<str>]> = ["a", "b", "1"].map(Box::from).into();
        for (claim, equal, unequal) in [
            (Claim::Absent, &[][..], &["", "null", "absent"][..]),
            (Claim::Unreadable, &[], &["", "null", "1.0"]),
            (Claim::Boolean(true), &["true"], &["True", "1", "", "false"]),
            (Claim::Boolean(false), &["false"], &["0", "", "true", "null"]),
            (Claim::Number(1), &["1"], &["01", "1.0", "+1", "1e0", " 1", "1 ", "-1", "", "0x1", "१"]),
            (Claim::Number(0), &["0"], &["-0", "00", "+0", "", "0.0"]),
            (Claim::Number(-7), &["-7"], &["7", "-07", "--7", "- 7", "−7"]),
            (Claim::Number(i64::MAX), &["9223372036854775807"], &["9223372036854775808", "-1"]),
            (Claim::Number(i64::MIN), &["-9223372036854775808"], &["9223372036854775808"]),
            (Claim::Text("1"), &["1"], &["01", "1.0", "1 "]),
            (Claim::Text("01"), &["01"], &["1"]),
            (Claim::Text("alice"), &["alice"], &["Alice", "alice ", "alic", "alicee", "alice\0", ""]),
            (Claim::Text("é"), &["é"], &["e\u{301}", "E"]),
            (Claim::List(&list), &["a", "b", "1"], &["", "ab", "a,b", "[a]", "c", "01"]),
            (Claim::List(&[]), &[], &["", "[]"]),
        ] {
            for text in equal {
                assert!(claim.has(text), "{claim:?} {text}");
            }
            for text in unequal {
                assert!(!claim.has(text), "{claim:?} {text}");
            }
        }
    }

    #[test]
    fn what_nobody_looked_for_is_unreadable_and_what_was_not_there_absent() {
        let path = |text| ClaimPath::parse(text).unwrap();
        let names: Arc<[_]> = [path("role"), path("/a/b")].into();
        let claims =
            KeptClaims::read(&names, |name| (*name == path("/a/b")).then_some(Kept::Number(3))).unwrap();
        assert_eq!(claims.claim(&path("role")), Claim::Absent);
        assert_eq!(claims.claim(&path("/a/b")), Claim::Number(3));
        assert_eq!(claims.claim(&path("tenant")), Claim::Unreadable);
        assert!(KeptClaims::read(&Arc::default(), |_| Some(Kept::Number(3))).is_none());
    }

    proptest! {
        #[test]
        fn a_number_is_equal_to_its_own_decimal_and_to_nothing_else(number in any::<i64>(), text in "[-+0-9. ]{0,6}|[0-9]{1,20}") {
            prop_assert!(Claim::Number(number).has(&number.to_string()));
            let small = number % 100;
            prop_assert_eq!(Claim::Number(small).has(&text), text == small.to_string());
        }

        #[test]
        fn text_is_equal_to_itself_and_to_nothing_else(one in "\\PC{0,4}", other in "\\PC{0,4}") {
            prop_assert!(Claim::Text(&one).has(&one));
            prop_assert_eq!(Claim::Text(&one).has(&other), one == other);
        }
    }
}
