//! Whose budget it is: a keyed hash of a limit and of what it tells apart.
//!
//! 128 bits under a secret that stays with the store, so that nobody outside can have two clients share a budget, and so
//! that counts which were stored are found again. Who is meant can't be read from it.

use std::net::IpAddr;

use siphasher::sip128::SipHasher13;

use crate::api_key::{KeyId, Pepper};
use crate::config::{By, Dimension};
use crate::identity::{Facts, Method};

const PURPOSE: &[u8] = b"auth-agent: whose limits and quotas";

/// 2^128 divided by the golden ratio, odd: limits lie far apart.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// Odd, so that no part is lost, and another for each dimension, so that none takes the place of another's: the first
/// digits of pi.
const FACTORS: [u128; Dimension::ALL.len()] = [
    0x243f_6a88_85a3_08d3_1319_8a2e_0370_7345,
    0xa409_3822_299f_31d0_082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377_be54_66cf_34e9_0c6d,
    0xc0ac_29b7_c97c_50dd_3f84_d5b5_b547_0917,
    0x9216_d5d9_8979_fb1b_d131_0ba6_98df_b5ad,
];

/// What is hashed in one piece without room of its own, as it is as a rule: many small pieces cost more than their bytes.
const AT_ONCE_BYTES: usize = 192;
const LENGTH_BYTES: usize = size_of::<u32>();

/// What the hashes are keyed with.
#[derive(Clone)]
pub struct Secret([u8; 16]);

/// Whose budget.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    /// Where it lies.
    pub high: u64,
    /// What tells it from the others there; never 0.
    pub tag: u64,
}

/// A hash of one thing that requests are told apart by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part(u64, u64);

/// What a budget belongs to, as far as `auth-agent limit` asks for it: 0 where it is not told apart by that.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Marks {
    /// [`Dimension::Key`]
    pub key: u32,
    /// [`Dimension::Principal`]
    pub principal: u32,
    /// [`Dimension::Source`]
    pub source: u32,
    /// [`Dimension::Tenant`]
    pub tenant: u32,
}

/// What a request is told apart by; what it has none of is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// The API key.
    pub key: Option<Part>,
    /// Who sent it.
    pub principal: Option<Part>,
    /// Where it goes.
    pub route: Option<Part>,
    /// Where it comes from.
    pub source: Option<Part>,
    /// For whom it was sent.
    pub tenant: Option<Part>,
}

impl Part {
    fn mark(self) -> u32 {
        (self.0 as u32).max(1)
    }
}

impl Key {
    /// Whose budget of a limit it is; none where the request lacks something that the limit tells apart.
    ///
    /// A sum, as the parts are hashes under the secret already: two budgets of one limit have one key only where parts of
    /// theirs, which nobody can foresee, differ by exactly what the others do.
    pub fn of(limit: u64, by: By, mut parts: Parts) -> Option<Self> {
        let mut sum = u128::from(limit).wrapping_mul(SPREAD);
        for (dimension, factor) in Dimension::ALL.into_iter().zip(FACTORS) {
            if by.has(dimension) {
                let Part(first, second) = (*parts.of(dimension))?;
                let part = (u128::from(first) << 64) | u128::from(second);
                sum = sum.wrapping_add(part.wrapping_mul(factor));
            }
        }
        Some(Self { high: (sum >> 64) as u64, tag: (sum as u64).max(1) })
    }

    /// As it is stored.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.high) << 64) | u128::from(self.tag)).to_be_bytes()
    }

    /// As it was stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        Self { high: (number >> 64) as u64, tag: number as u64 }
    }
}

impl Parts {
    /// Of one thing alone.
    pub fn only(dimension: Dimension, part: Part) -> Self {
        let mut parts = Self::default();
        *parts.of(dimension) = Some(part);
        parts
    }

    fn of(&mut self, dimension: Dimension) -> &mut Option<Part> {
        match dimension {
            Dimension::Key => &mut self.key,
            Dimension::Principal => &mut self.principal,
            Dimension::Route => &mut self.route,
            Dimension::Source => &mut self.source,
            Dimension::Tenant => &mut self.tenant,
        }
    }

    /// The marks of a budget by these.
    pub fn marks(mut self, by: By) -> Marks {
        let mut mark = |dimension| match *self.of(dimension) {
            Some(part) if by.has(dimension) => part.mark(),
            _ => 0,
        };
        Marks {
            key: mark(Dimension::Key),
            principal: mark(Dimension::Principal),
            source: mark(Dimension::Source),
            tenant: mark(Dimension::Tenant),
        }
    }
}

impl Secret {
    /// Derived from the secret beside the database.
    pub fn new(pepper: &Pepper) -> Self {
        let derived = pepper.derive(PURPOSE);
        Self(std::array::from_fn(|at| derived[at]))
    }

    /// For tests and benchmarks, which store nothing.
    pub fn fixed(number: u8) -> Self {
        Self([number; 16])
    }

    /// The number of a limit: the same as long as its name, what it tells apart and what it counts are. `kind` tells
    /// limits from quotas of each period.
    pub fn limit(&self, kind: &str, name: &str, by: By, counted: &str) -> u64 {
        self.hash(b'l', &[kind.as_bytes(), name.as_bytes(), &[by.bits()], counted.as_bytes()]).0
    }

    /// A source: an IPv6 client's prefix.
    pub fn source(&self, source: IpAddr) -> Part {
        match source {
            IpAddr::V4(source) => self.hash(b's', &[&source.octets()]),
            IpAddr::V6(source) => self.hash(b's', &[&source.octets()]),
        }
    }

    /// A route.
    pub fn route(&self, label: &str) -> Part {
        self.hash(b'r', &[label.as_bytes()])
    }

    /// An API key.
    pub fn key(&self, id: KeyId) -> Part {
        self.hash(b'k', &[id.as_bytes()])
    }

    /// Who a credential stands for. Subjects of two issuers may be alike.
    pub fn principal(&self, method: Method, issuer: Option<&str>, subject: &str) -> Part {
        let issuer = issuer.unwrap_or_default().as_bytes();
        self.hash(b'p', &[method.name().as_bytes(), issuer, subject.as_bytes()])
    }

    /// A tenant of an issuer.
    pub fn tenant(&self, issuer: Option<&str>, tenant: &str) -> Part {
        self.hash(b't', &[issuer.unwrap_or_default().as_bytes(), tenant.as_bytes()])
    }

    /// What a credential says, as far as any of `by` asks for it.
    pub fn identity(&self, parts: &mut Parts, facts: &Facts, by: By) {
        let issuer = facts.issuer.as_deref();
        if by.has(Dimension::Principal) && parts.principal.is_none() {
            parts.principal = Some(self.principal(facts.method, issuer, &facts.subject));
        }
        if by.has(Dimension::Key) && parts.key.is_none() {
            parts.key = facts.key.map(|key| self.key(key));
        }
        if by.has(Dimension::Tenant) && parts.tenant.is_none() {
            parts.tenant = facts.tenant.as_deref().map(|tenant| self.tenant(issuer, tenant));
        }
    }

    /// Each part with its length, so that none can pass for another.
    fn hash(&self, what: u8, parts: &[&[u8]]) -> Part {
        let length = 1 + parts.iter().map(|part| LENGTH_BYTES + part.len()).sum::<usize>();
        let (mut room, mut more) = ([0; AT_ONCE_BYTES], Vec::new());
        let whole = match room.get_mut(..length) {
            Some(whole) => whole,
            None => {
                more.resize(length, 0);
                &mut *more
            }
        };
        lay_out(whole, what, parts);
        let hash = SipHasher13::new_with_key(&self.0).hash(whole);
        Part(hash.h1, hash.h2)
    }
}

fn lay_out(mut whole: &mut [u8], what: u8, parts: &[&[u8]]) {
    let mut put = |bytes: &[u8]| {
        let (place, rest) = std::mem::take(&mut whole).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        whole = rest;
    };
    put(&[what]);
    for part in parts {
        put(&(part.len() as u32).to_le_bytes());
        put(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_told_apart_has_a_budget_of_its_own() {
        let secret = Secret::fixed(1);
        let by = |dimensions: &[Dimension]| dimensions.iter().copied().collect::<By>();
        let mut alice = Facts::new(Method::Jwt, "alice");
        alice.issuer = Some("main".into());
        let mut others =
            vec![alice.clone(), Facts::new(Method::Jwt, "bob"), Facts::new(Method::ApiKey, "alice")];
        others.push(Facts { issuer: Some("partner".into()), ..alice.clone() });
        others.push(Facts { tenant: Some("alice".into()), ..Facts::new(Method::Jwt, "x") });
        let mut keys = Vec::new();
        for facts in &others {
            for route in ["/a", "/b"] {
                let mut parts = Parts { route: Some(secret.route(route)), ..Parts::default() };
                secret.identity(&mut parts, facts, by(&[Dimension::Principal]));
                for limit in [1, 2] {
                    keys.extend(Key::of(limit, by(&[Dimension::Principal, Dimension::Route]), parts));
                }
            }
        }
        let distinct: std::collections::HashSet<_> = keys.iter().copied().collect();
        assert_eq!((keys.len(), distinct.len()), (20, 20));
    }

    #[test]
    fn what_is_told_apart_by_two_things_is_not_what_is_by_them_the_other_way_round() {
        let pair: By = [Dimension::Principal, Dimension::Tenant].into_iter().collect();
        let parts = [Part(1, 2), Part(3, 4)];
        let key = |[principal, tenant]: [Part; 2]| {
            let parts = Parts { principal: Some(principal), tenant: Some(tenant), ..Parts::default() };
            Key::of(7, pair, parts).unwrap()
        };
        assert_ne!(key(parts), key([parts[1], parts[0]]));
        let alone =
            |by: Dimension| Key::of(7, [by].into_iter().collect(), Parts::only(by, parts[0])).unwrap();
        let distinct: std::collections::HashSet<_> = Dimension::ALL.map(alone).into_iter().collect();
        assert_eq!(distinct.len(), Dimension::ALL.len());
    }

    #[test]
    fn a_part_is_told_apart_however_long_it_is_and_wherever_it_ends() {
        let secret = Secret::fixed(1);
        let principal = |issuer: &str, subject: &str| secret.principal(Method::Jwt, Some(issuer), subject);
        let mut parts = Vec::new();
        for length in [0, 1, 150, 177, 178, 179, 180, 300, 5_000] {
            let subject = "s".repeat(length);
            parts.extend([principal("a", &subject), principal("as", &subject), principal("", &subject)]);
        }
        for (at, part) in parts.iter().enumerate() {
            assert!(!parts[..at].contains(part), "{at}");
        }
        assert_eq!(parts[3], principal("a", "s"));
    }

    #[test]
    fn a_request_without_what_is_told_apart_has_no_budget() {
        let secret = Secret::fixed(1);
        let tenant: By = [Dimension::Tenant].into_iter().collect();
        let mut parts = Parts::default();
        secret.identity(&mut parts, &Facts::new(Method::Jwt, "alice"), tenant);
        assert_eq!(Key::of(1, tenant, parts), None);
    }

    #[test]
    fn a_key_is_read_as_it_was_stored() {
        let key = Key { high: 1 << 63 | 5, tag: 7 };
        assert_eq!(Key::from_bytes(key.to_bytes()), key);
    }
}
