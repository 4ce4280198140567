//! Allow and ban rules and classes, as the kernel looks them up.
//!
//! One longest-prefix-match trie holds them all. The agent writes each entry with what *all* rules that cover
//! it amount to (allow wins; else the latest ban deadline; else the class of the longest prefix that has one), so
//! one look-up is the whole truth.

/// Key of the trie: the prefix length over the 128-bit mapped address.
pub const ADDRESS_BITS: u32 = 128;

/// What the rules say of an address. As a map value: 16 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Rule {
    /// Nanoseconds on `CLOCK_MONOTONIC` until which the address is banned; 0: not banned.
    pub banned_until: u64,
    /// Not 0: the address passes every limit and ban.
    pub allowed: u16,
    /// Which class's limits hold for the address: an index of [`crate::layout::CLASSES`].
    pub class: u16,
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
    /// Held to the limits of its class.
    Limited {
        /// The class's number.
        class: u32,
    },
}

impl Rule {
    /// What it means at `now`.
    #[inline(always)]
    pub fn outcome(self, now: u64) -> Outcome {
        match self {
            Self { allowed: 1.., .. } => Outcome::Allowed,
            Self { banned_until, .. } if banned_until > now => Outcome::Banned,
            Self { class, .. } => Outcome::Limited { class: class.into() },
        }
    }
}

/// An outcome cached in a table line: it holds for one source and one generation of the rules; a ban, besides,
/// only for the rest of the [`TICK`] in which it was looked up, so that it ends when the rule says.
///
/// Layout: generation (20 bits), detail (18 bits), outcome (2 bits), tag of the source (24 bits). The detail is the
/// tick of a ban, the class of a source that is limited, and 0 of one that is allowed. The tag keeps a line
/// that changes hands between two instructions from lending its old owner's outcome to the new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cached(u64);

/// How long a banned source costs no look-up, in nanoseconds: a little over a second.
pub const TICK: u64 = 1 << TICK_SHIFT;

const TICK_SHIFT: u32 = 30;
const GENERATION_SHIFT: u32 = 44;
const DETAIL_SHIFT: u32 = 26;
const DETAIL_MASK: u64 = (1 << (GENERATION_SHIFT - DETAIL_SHIFT)) - 1;
const OUTCOME_SHIFT: u32 = 24;
const OUTCOME_MASK: u64 = (1 << (DETAIL_SHIFT - OUTCOME_SHIFT)) - 1;
const TAG_MASK: u64 = (1 << OUTCOME_SHIFT) - 1;

const ALLOWED: u64 = 1;
const BANNED: u64 = 2;
/// Not 0, so that a line that nobody wrote to holds no outcome.
const LIMITED: u64 = 3;

const _: () = assert!(crate::layout::MAX_CLASSES as u64 <= DETAIL_MASK + 1);

impl Cached {
    /// What a line may remember of `rule` at `now`; nothing where that would not hold for the whole source, or
    /// for the whole tick. `generation` counts modulo 2^20.
    #[inline(always)]
    pub fn of(rule: Rule, generation: u64, tag: u32, now: u64) -> Option<Self> {
        let outcome = rule.outcome(now);
        let ends_within_tick = rule.banned_until <= now | (TICK - 1);
        if rule.mixed != 0 || (outcome == Outcome::Banned && ends_within_tick) {
            return None;
        }
        Some(Self::new(outcome, generation, tag, now))
    }

    #[inline(always)]
    fn new(outcome: Outcome, generation: u64, tag: u32, now: u64) -> Self {
        let (outcome, detail) = match outcome {
            Outcome::Allowed => (ALLOWED, 0),
            Outcome::Banned => (BANNED, tick(now)),
            Outcome::Limited { class } => (LIMITED, u64::from(class)),
        };
        Self(context(generation, tag) | detail << DETAIL_SHIFT | outcome << OUTCOME_SHIFT)
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

    /// The outcome, if it holds for this generation, source and time.
    #[inline(always)]
    pub fn outcome(self, generation: u64, tag: u32, now: u64) -> Option<Outcome> {
        const CONTEXT: u64 = !(DETAIL_MASK << DETAIL_SHIFT | OUTCOME_MASK << OUTCOME_SHIFT);
        if self.0 & CONTEXT != context(generation, tag) {
            return None;
        }
        let detail = self.0 >> DETAIL_SHIFT & DETAIL_MASK;
        match self.0 >> OUTCOME_SHIFT & OUTCOME_MASK {
            LIMITED => Some(Outcome::Limited { class: detail as u32 }),
            ALLOWED => Some(Outcome::Allowed),
            BANNED if detail == tick(now) => Some(Outcome::Banned),
            _ => None,
        }
    }
}

/// What a cached outcome belongs to.
#[inline(always)]
fn context(generation: u64, tag: u32) -> u64 {
    generation << GENERATION_SHIFT | u64::from(tag) & TAG_MASK
}

#[inline(always)]
fn tick(now: u64) -> u64 {
    now >> TICK_SHIFT & DETAIL_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 5 * TICK + 7;

    #[test]
    fn a_cached_outcome_holds_only_for_its_generation_and_source() {
        let rules = [
            (Rule { allowed: 1, ..Rule::default() }, Outcome::Allowed),
            (Rule { banned_until: u64::MAX, ..Rule::default() }, Outcome::Banned),
            (Rule::default(), Outcome::Limited { class: 0 }),
            (Rule { class: 255, ..Rule::default() }, Outcome::Limited { class: 255 }),
        ];
        for (rule, outcome) in rules {
            let cached = Cached::of(rule, 7, 42, NOW).unwrap();
            assert_eq!(cached.outcome(7, 42, NOW), Some(outcome));
            assert_eq!(cached.outcome(8, 42, NOW), None);
            assert_eq!(cached.outcome(7, 43, NOW), None);
            let later = (outcome != Outcome::Banned).then_some(outcome);
            assert_eq!(cached.outcome(7, 42, 6 * TICK), later, "a ban is asked for again in the next tick");
        }
        assert_eq!(Cached::from_bits(0).outcome(0, 0, 0), None);
    }

    #[test]
    fn a_ban_that_ends_within_the_tick_and_a_part_of_a_source_are_not_cached() {
        let until = |banned_until| Rule { banned_until, ..Rule::default() };
        assert_eq!(Cached::of(until(6 * TICK - 1), 7, 42, NOW), None);
        assert!(Cached::of(until(6 * TICK), 7, 42, NOW).is_some());
        assert_eq!(Cached::of(Rule { mixed: 1, ..Rule::default() }, 7, 42, NOW), None);
    }

    #[test]
    fn an_allowed_address_is_never_banned_and_a_ban_ends_at_its_deadline() {
        let banned = Rule { banned_until: 100, ..Rule::default() };
        assert_eq!(banned.outcome(99), Outcome::Banned);
        assert_eq!(banned.outcome(100), Outcome::Limited { class: 0 });
        assert_eq!(Rule { allowed: 1, ..banned }.outcome(0), Outcome::Allowed);
        assert_eq!(Rule { class: 7, ..banned }.outcome(100), Outcome::Limited { class: 7 });
    }
}
