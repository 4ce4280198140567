//! What the word of a budget says, and what a charge makes of it. No clock, no memory.
//!
//! A limit's word is a theoretical arrival time ([`auth_common::gcra`]). A quota's holds the day on which its period
//! ends, in the upper 16 bits, and below what was counted; one of another period counts nothing.

use std::num::NonZeroU64;
use std::time::Duration;

use auth_common::gcra::Limit;

use super::period;
use crate::clock::Now;
use crate::config::{Counted, Period, RequestBudget, VolumeRate};

const COUNT_BITS: u32 = 48;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// A response is charged at least so often on the way through a burst.
const STEPS_PER_BURST: u64 = 64;
/// As much as comes at once over HTTP/2.
const MAX_STEP: u64 = 16 << 10;

/// No debt is longer, whatever was sent: 36 years.
const MAX_DEBT: u64 = 1 << 60;

/// How much there may be, and in which words clients are told.
#[derive(Clone, Debug)]
pub struct Budget {
    /// How much there may be.
    pub amount: RequestBudget,
    /// The member of `RateLimit-Policy`.
    pub policy: Box<str>,
    measure: Measure,
}

#[derive(Clone, Copy, Debug)]
enum Measure {
    Quota { amount: u64, period: Period },
    Rate { amount: NonZeroU64, burst: u64, counted: Counted, limit: Limit, period: u64 },
}

/// A debt as people see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Level {
    /// What there may be at once, or in the period.
    pub most: u64,
    /// Until nothing is owed.
    pub paid_in: Duration,
    /// How much more there may be now.
    pub remaining: u64,
}

impl Budget {
    /// The budget of a limit called `name`.
    pub fn new(name: &str, counted: Counted, amount: RequestBudget) -> Self {
        let measure = match amount {
            RequestBudget::Quota { amount, period } => Measure::Quota { amount: amount.get(), period },
            RequestBudget::Rate(rate) => measure(counted, rate),
        };
        Self { amount, policy: policy(name, counted, amount).into(), measure }
    }

    /// Whether it is a quota's.
    pub fn is_quota(&self) -> bool {
        matches!(self.measure, Measure::Quota { .. })
    }

    /// The word of whoever owes nothing.
    pub fn empty(&self, now: Now) -> u64 {
        match self.measure {
            Measure::Quota { period, .. } => packed(period::end(period, now.unix), 0),
            Measure::Rate { .. } => now.monotonic.0,
        }
    }

    /// The word with `volume` more, if there is so much left.
    ///
    /// # Errors
    /// Until when there is not.
    pub fn charge(&self, word: u64, volume: u64, now: Now) -> Result<u64, Duration> {
        match self.measure {
            Measure::Quota { amount, period } => {
                let (end, count) = counted(word, period, now);
                let after = count.saturating_add(volume);
                if after > amount {
                    return Err(Duration::from_secs(period::seconds_to(end, now.unix)));
                }
                Ok(packed(end, after))
            }
            Measure::Rate { limit, .. } => {
                let after = word.saturating_sub(now.monotonic.0).saturating_add(self.cost(volume));
                if after > limit.tolerance {
                    return Err(Duration::from_nanos(after - limit.tolerance));
                }
                Ok(now.monotonic.0 + after)
            }
        }
    }

    /// The word with `volume` more, whether there is so much left or not.
    pub fn owe(&self, word: u64, volume: u64, now: Now) -> u64 {
        match self.measure {
            Measure::Quota { period, .. } => {
                let (end, count) = counted(word, period, now);
                packed(end, count.saturating_add(volume).min(COUNT))
            }
            Measure::Rate { .. } => {
                let after = word.saturating_sub(now.monotonic.0).saturating_add(self.cost(volume));
                now.monotonic.0 + after.min(MAX_DEBT)
            }
        }
    }

    /// The word without a charge that made `after` of `before`; none where it can't be told what is owed without it:
    /// others have changed it, and what they owe must not be forgotten.
    pub fn undone(&self, word: u64, (before, after): (u64, u64)) -> Option<u64> {
        match self.measure {
            Measure::Quota { .. } => {
                let same_period = word >> COUNT_BITS == after >> COUNT_BITS;
                // What it was before may be of an earlier period, where nothing of this one was counted.
                let counted_before =
                    if before >> COUNT_BITS == after >> COUNT_BITS { before & COUNT } else { 0 };
                let volume = (after & COUNT).saturating_sub(counted_before);
                (same_period && word & COUNT >= volume).then(|| word - volume)
            }
            Measure::Rate { .. } => (word == after).then_some(before),
        }
    }

    /// What the word says.
    pub fn level(&self, word: u64, now: Now) -> Level {
        match self.measure {
            Measure::Quota { amount, period } => {
                let (end, count) = counted(word, period, now);
                let paid_in = Duration::from_secs(period::seconds_to(end, now.unix));
                Level { most: amount, paid_in, remaining: amount.saturating_sub(count) }
            }
            Measure::Rate { amount, burst, counted, limit, period } => {
                let debt = word.saturating_sub(now.monotonic.0);
                let free = limit.tolerance.saturating_sub(debt);
                let remaining = match counted {
                    Counted::Requests => free / limit.increment,
                    Counted::ResponseBytes => {
                        (u128::from(free) * u128::from(amount.get()) / u128::from(period)) as u64
                    }
                };
                let paid_in = Duration::from_nanos(debt);
                Level { most: burst, paid_in, remaining: remaining.min(burst) }
            }
        }
    }

    /// Nanoseconds that are owed to a limit, where that is more than a burst.
    pub fn beyond_burst(&self, word: u64, now: Now) -> Option<u64> {
        let debt = word.saturating_sub(now.monotonic.0);
        match self.measure {
            Measure::Rate { limit, .. } => (debt > limit.tolerance).then_some(debt),
            Measure::Quota { .. } => None,
        }
    }

    /// The bytes that a response may have on it before it is charged: so few that many responses at once do not come to
    /// much beside a burst.
    pub fn step(&self) -> u64 {
        match self.measure {
            Measure::Rate { burst, .. } => (burst / STEPS_PER_BURST).clamp(1, MAX_STEP),
            Measure::Quota { amount, .. } => (amount / STEPS_PER_BURST).clamp(1, MAX_STEP),
        }
    }

    /// Nanoseconds of debt.
    fn cost(&self, volume: u64) -> u64 {
        match self.measure {
            Measure::Rate { limit, .. } if volume == 1 => limit.increment,
            Measure::Rate { amount, period, .. } => nanoseconds(volume, amount, period),
            Measure::Quota { .. } => 0,
        }
    }
}

fn measure(counted: Counted, VolumeRate { amount, burst, period }: VolumeRate) -> Measure {
    let (burst, period) = (burst.get(), period.as_nanos() as u64);
    let increment = nanoseconds(1, amount, period);
    let tolerance = match counted {
        // What the burst costs one by one, so that rounding adds none.
        Counted::Requests => increment.saturating_mul(burst),
        Counted::ResponseBytes => nanoseconds(burst, amount, period),
    };
    Measure::Rate { amount, burst, counted, limit: Limit { increment, tolerance }, period }
}

/// What so much costs, rounded up to one.
fn nanoseconds(volume: u64, amount: NonZeroU64, period: u64) -> u64 {
    let cost = u128::from(volume) * u128::from(period) / u128::from(amount.get());
    (cost.min(u128::from(MAX_DEBT)) as u64).max(1)
}

/// End and count of the period of `now`.
fn counted(word: u64, period: Period, now: Now) -> (u16, u64) {
    let end = period::end(period, now.unix);
    (end, if ends(word) == end { word & COUNT } else { 0 })
}

/// The word of a quota.
pub fn packed(end: u16, count: u64) -> u64 {
    (u64::from(end) << COUNT_BITS) | (count & COUNT)
}

/// The day on which the period of a quota's word ends.
pub fn ends(word: u64) -> u16 {
    (word >> COUNT_BITS) as u16
}

/// What a quota's word has counted.
pub fn count(word: u64) -> u64 {
    word & COUNT
}

/// `"per-user";q=100;w=10`: what may come at once, and in how many seconds it may come again.
fn policy(name: &str, counted: Counted, amount: RequestBudget) -> String {
    let unit = match counted {
        Counted::Requests => "",
        Counted::ResponseBytes => ";qu=\"content-bytes\"",
    };
    match amount {
        RequestBudget::Quota { amount, period } => {
            // A month's is that of its longest: no client is told that it may do more than it may.
            let window = match period {
                Period::Day => 86_400,
                Period::Month => 31 * 86_400,
            };
            format!("\"{name}\";q={amount}{unit};w={window}")
        }
        RequestBudget::Rate(rate) => {
            let window = gcra_window(rate);
            format!("\"{name}\";q={}{unit};w={window}", rate.burst)
        }
    }
}

/// Seconds in which a whole burst is paid off.
fn gcra_window(VolumeRate { amount, burst, period }: VolumeRate) -> u64 {
    let seconds = u128::from(burst.get()) * u128::from(period.as_secs());
    seconds.div_ceil(u128::from(amount.get())) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Monotonic, UnixTime};

    const DAY: u64 = 86_400;

    fn at(seconds: f64) -> Now {
        Now { monotonic: Monotonic((seconds * 1e9) as u64), unix: UnixTime(20 * DAY + seconds as u64) }
    }

    fn rate(counted: Counted, amount: u64, seconds: u64, burst: u64) -> Budget {
        let [amount, burst] = [amount, burst].map(|number| NonZeroU64::new(number).unwrap());
        let rate = VolumeRate { amount, burst, period: Duration::from_secs(seconds) };
        Budget::new("a", counted, RequestBudget::Rate(rate))
    }

    fn quota(amount: u64, period: Period) -> Budget {
        let amount = NonZeroU64::new(amount).unwrap();
        Budget::new("a", Counted::Requests, RequestBudget::Quota { amount, period })
    }

    #[test]
    fn a_burst_passes_and_then_what_the_rate_allows() {
        let budget = rate(Counted::Requests, 60, 60, 3);
        let mut word = budget.empty(at(100.0));
        for (seconds, expected) in [
            (100.0, Ok(2)),
            (100.0, Ok(1)),
            (100.0, Ok(0)),
            (100.0, Err(1_000)),
            (100.4, Err(600)),
            (101.0, Ok(0)),
            (101.0, Err(1_000)),
            (500.0, Ok(2)),
        ] {
            let outcome = budget.charge(word, 1, at(seconds)).map_err(|wait| wait.as_millis());
            let shown = outcome.map(|word| budget.level(word, at(seconds)).remaining);
            assert_eq!(shown, expected, "{seconds}");
            word = outcome.unwrap_or(word);
        }
    }

    #[test]
    fn no_burst_is_larger_than_it_says_whatever_the_rate() {
        for (amount, burst) in [(1, 1), (3, 1_000), (7, 7), (999_983, 999_983), (10_000_000, 1)] {
            let budget = rate(Counted::Requests, amount, 1, burst);
            let mut word = budget.empty(at(1.0));
            let mut admitted = 0;
            while let Ok(after) = budget.charge(word, 1, at(1.0)) {
                (word, admitted) = (after, admitted + 1);
                assert_eq!(budget.level(word, at(1.0)).remaining, burst - admitted);
            }
            assert_eq!(admitted, burst, "{amount}/s");
        }
    }

    #[test]
    fn bytes_are_owed_whatever_is_left_and_refuse_what_comes_next() {
        let budget = rate(Counted::ResponseBytes, 1_000, 1, 10_000);
        let word = budget.owe(budget.empty(at(1.0)), 9_999, at(1.0));
        assert!(budget.charge(word, 1, at(1.0)).is_ok());
        let word = budget.owe(word, 5_001, at(1.0));
        assert_eq!(budget.charge(word, 1, at(1.0)), Err(Duration::from_millis(5_001)));
        assert_eq!(budget.level(word, at(1.0)).remaining, 0);
        assert_eq!(budget.level(word, at(7.0)).remaining, 1_000);
        let huge = budget.owe(word, u64::MAX, at(1.0));
        assert!(budget.owe(huge, u64::MAX, at(1.0)) < u64::MAX / 8);
    }

    #[test]
    fn a_quota_starts_anew_with_its_period_and_only_then() {
        let budget = quota(2, Period::Day);
        let mut word = budget.empty(at(0.0));
        let almost = (DAY - 1) as f64;
        for (seconds, expected) in [
            (0.0, Ok(1)),
            (10.0, Ok(0)),
            (10.0, Err(DAY - 10)),
            (almost, Err(1)),
            (DAY as f64, Ok(1)),
            // The clock is set back into the day before: that is another period.
            (almost, Ok(1)),
        ] {
            let outcome = budget.charge(word, 1, at(seconds)).map_err(|wait| wait.as_secs());
            assert_eq!(outcome.map(|word| budget.level(word, at(seconds)).remaining), expected, "{seconds}");
            word = outcome.unwrap_or(word);
        }
    }

    #[test]
    fn a_charge_is_undone_whole_or_not_at_all() {
        let (limit, quota) = (rate(Counted::Requests, 1, 1, 5), quota(5, Period::Month));
        for budget in [&limit, &quota] {
            let before = budget.empty(at(0.0));
            let after = budget.charge(before, 1, at(0.0)).unwrap();
            assert_eq!(budget.undone(after, (before, after)), Some(before));
        }
        let before = limit.empty(at(0.0));
        let after = limit.charge(before, 1, at(0.0)).unwrap();
        let later = limit.charge(after, 1, at(0.0)).unwrap();
        assert_eq!(limit.undone(later, (before, after)), None);
        let before = quota.empty(at(0.0));
        let after = quota.charge(before, 1, at(0.0)).unwrap();
        let later = quota.charge(after, 1, at(0.0)).unwrap();
        assert_eq!(quota.undone(later, (before, after)), Some(after));
        assert_eq!(quota.undone(packed(9, 3), (before, after)), None);
    }

    #[test]
    fn clients_are_told_the_policy_in_the_words_of_the_draft() {
        for (budget, expected) in [
            (rate(Counted::Requests, 100, 60, 20), r#""a";q=20;w=12"#),
            (rate(Counted::Requests, 7, 1, 1), r#""a";q=1;w=1"#),
            (rate(Counted::ResponseBytes, 1 << 20, 60, 1 << 21), r#""a";q=2097152;qu="content-bytes";w=120"#),
            (quota(10, Period::Day), r#""a";q=10;w=86400"#),
            (quota(10, Period::Month), r#""a";q=10;w=2678400"#),
        ] {
            assert_eq!(&*budget.policy, expected);
        }
    }
}
