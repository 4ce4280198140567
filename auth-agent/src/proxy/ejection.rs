//! When an endpoint that fails is left alone, and for how long.
//!
//! An endpoint goes after so many failures in a row, comes back by itself, and goes again for twice as long if it fails
//! at once. The last endpoint goes only where nothing could be sent to it, and never for longer than the first time:
//! what an application answers is no reason to leave its clients without any.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::config::Ejection;

/// How a request failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// The endpoint can't be connected to: nothing was sent.
    Connect,
    /// The connection broke off, or no answer came in time.
    Exchange,
    /// It answered 502, 503 or 504.
    Gateway,
}

/// What is remembered of one endpoint.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Record {
    /// Times in a row that it was ejected.
    ejections: u32,
    /// Failures since the last success.
    failures: u32,
    until: Option<Monotonic>,
}

impl Record {
    /// Notes a failure; the end of the ejection that follows, if one does. It is the `last` one if no other is in.
    pub fn fail(
        &mut self,
        failure: Failure,
        last: bool,
        limits: &Ejection,
        now: Monotonic,
    ) -> Option<Monotonic> {
        self.failures = self.failures.saturating_add(1);
        let on_trial = self.ejections > 0;
        let enough = limits.failures > 0 && (on_trial || self.failures >= limits.failures);
        if !enough || self.is_out(now) || last && failure != Failure::Connect {
            return None;
        }
        let period = if last { limits.first } else { period(limits, self.ejections) };
        self.ejections = self.ejections.saturating_add(1);
        self.failures = 0;
        self.until = Some(Monotonic(now.0.saturating_add(nanoseconds(period))));
        self.until
    }

    /// Notes a success, after which nothing is held against it.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }

    fn is_out(&self, now: Monotonic) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

fn period(limits: &Ejection, ejections: u32) -> Duration {
    limits.first.saturating_mul(2_u32.saturating_pow(ejections)).min(limits.longest)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Ejection =
        Ejection { failures: 3, first: Duration::from_secs(1), longest: Duration::from_secs(5) };

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_forgives_them() {
        let mut record = Record::default();
        for failure in [Failure::Connect, Failure::Gateway] {
            assert_eq!(record.fail(failure, false, &LIMITS, at(0)), None);
        }
        record.succeed();
        for failure in [Failure::Exchange, Failure::Gateway] {
            assert_eq!(record.fail(failure, false, &LIMITS, at(0)), None);
        }
        assert_eq!(record.fail(Failure::Gateway, false, &LIMITS, at(0)), Some(at(1)));
    }

    #[test]
    fn whoever_fails_again_at_once_is_out_for_twice_as_long_up_to_the_longest() {
        let mut record = Record { failures: 2, ..Record::default() };
        let mut now = 0;
        for expected in [1, 2, 4, 5, 5] {
            let until = record.fail(Failure::Connect, false, &LIMITS, at(now));
            assert_eq!(until, Some(at(now + expected)));
            now += expected;
        }
        record.succeed();
        assert_eq!(record.fail(Failure::Connect, false, &LIMITS, at(now)), None);
    }

    #[test]
    fn what_fails_while_it_is_out_changes_nothing() {
        let mut record = Record { failures: 2, ..Record::default() };
        assert_eq!(record.fail(Failure::Connect, false, &LIMITS, at(10)), Some(at(11)));
        assert_eq!(
            record.fail(Failure::Connect, false, &LIMITS, at(10)),
            None,
            "a request that was under way"
        );
    }

    #[test]
    fn the_last_one_goes_only_if_it_cannot_be_connected_to() {
        for (failure, expected) in
            [(Failure::Connect, Some(at(1))), (Failure::Exchange, None), (Failure::Gateway, None)]
        {
            let mut record = Record { failures: 9, ..Record::default() };
            assert_eq!(record.fail(failure, true, &LIMITS, at(0)), expected, "{failure:?}");
            let mut record = Record { ejections: 9, ..Record::default() };
            assert_eq!(
                record.fail(failure, true, &LIMITS, at(0)),
                expected,
                "{failure:?}: no longer than at first"
            );
        }
    }

    #[test]
    fn without_a_limit_nothing_is_ejected() {
        let limits = Ejection { failures: 0, ..LIMITS };
        let mut record = Record::default();
        assert!((0..100).all(|_| record.fail(Failure::Connect, false, &limits, at(0)).is_none()));
    }

    proptest! {
        #[test]
        fn nobody_is_out_for_longer_than_the_longest(
            failures in prop::collection::vec((0_u64..20, any::<bool>(), any::<bool>()), 0..50),
        ) {
            let mut record = Record::default();
            let mut now = 0;
            for (after, last, succeeds) in failures {
                now += after;
                if succeeds {
                    record.succeed();
                } else if let Some(until) = record.fail(Failure::Connect, last, &LIMITS, at(now)) {
                    prop_assert!(until > at(now) && until <= at(now + 5));
                }
            }
        }
    }
}
