//! Allow and ban rules, as the kernel looks them up.
//!
//! One longest-prefix-match trie holds both. The agent writes each entry with what *all* rules that cover
//! it amount to (allow wins; else the latest ban deadline), so one look-up is the whole truth.

/// Key of the trie: the prefix length over the 128-bit mapped address.
pub const ADDRESS_BITS: u32 = 128;

/// What the rules say of an address. As a map value: 16 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Rule {
    /// Nanoseconds on `CLOCK_MONOTONIC` until which the address is banned; 0: not banned.
    pub banned_until: u64,
    /// Not 0: the address passes every limit and ban.
    pub allowed: u32,
    /// Not 0: other rules apply to a part of this source's prefix, so that the outcome belongs to the
    /// address and must not be cached for the source.
    pub mixed: u32,
}

/// What the rules mean for a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Passes limits and bans.
    Allowed,
    /// Dropped.
    Banned,
    /// No rule applies.
    None,
}

impl Rule {
    /// What it means at `now`.
    #[inline(always)]
    pub fn outcome(self, now: u64) -> Outcome {
        match self {
            Self { allowed: 1.., .. } => Outcome::Allowed,
            Self { banned_until, .. } if banned_until > now => Outcome::Banned,
            _ => Outcome::None,
        }
    }
}

/// An outcome cached in a table line: it holds for one source and one generation of the rules.
///
/// Layout: generation (24 bits), outcome (8 bits), tag of the source (32 bits). The tag keeps a line that
/// changes hands between two instructions from lending its old owner's outcome to the new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cached(u64);

const GENERATION_SHIFT: u32 = 40;
const OUTCOME_SHIFT: u32 = 32;

impl Cached {
    /// Packs an outcome; `generation` counts modulo 2^24.
    #[inline(always)]
    pub fn new(outcome: Outcome, generation: u64, tag: u32) -> Self {
        let outcome = match outcome {
            Outcome::Allowed => 1,
            Outcome::Banned => 2,
            Outcome::None => 3,
        };
        Self(generation << GENERATION_SHIFT | outcome << OUTCOME_SHIFT | u64::from(tag))
    }

    /// As stored in a line.
    #[inline(always)]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// To store in a line.
    #[inline(always)]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The outcome, if it holds for this generation and source.
    #[inline(always)]
    pub fn outcome(self, generation: u64, tag: u32) -> Option<Outcome> {
        [Outcome::None, Outcome::Allowed, Outcome::Banned]
            .into_iter()
            .find(|outcome| Self::new(*outcome, generation, tag) == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_outcome_holds_only_for_its_generation_and_source() {
        for outcome in [Outcome::Allowed, Outcome::Banned, Outcome::None] {
            let cached = Cached::new(outcome, 7, 42);
            assert_eq!(cached.outcome(7, 42), Some(outcome));
            assert_eq!(cached.outcome(8, 42), None);
            assert_eq!(cached.outcome(7, 43), None);
        }
        assert_eq!(Cached::from_bits(0).outcome(0, 0), None);
    }

    #[test]
    fn an_allowed_address_is_never_banned_and_a_ban_ends_at_its_deadline() {
        let banned = Rule { banned_until: 100, ..Rule::default() };
        assert_eq!(banned.outcome(99), Outcome::Banned);
        assert_eq!(banned.outcome(100), Outcome::None);
        assert_eq!(Rule { allowed: 1, ..banned }.outcome(0), Outcome::Allowed);
        assert_eq!(Rule::default().outcome(0), Outcome::None);
    }
}
