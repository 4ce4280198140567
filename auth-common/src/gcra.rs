//! The generic cell rate algorithm (ITU-T I.371) over one word: the theoretical arrival time.
//!
//! A debt is how far that time lies ahead of now. It decays by itself, so there is no timer and nothing
//! to clean up, and a debt of zero is the same as having never been seen.

use crate::word::Word;

/// Lost compare-exchanges before a charge counts against the source. One source driven by more CPUs than
/// this within the same few nanoseconds is over any budget worth setting.
const ATTEMPTS: usize = 3;

/// A budget: one event per `increment`, with up to `tolerance / increment` at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Limit {
    /// Nanoseconds of debt that one event costs.
    pub increment: u64,
    /// Nanoseconds of debt up to which events are admitted.
    pub tolerance: u64,
}

impl Limit {
    /// The budget of `factor` sources together.
    pub const fn times(self, factor: u32) -> Self {
        match self.increment / factor as u64 {
            0 => Self { increment: 1, ..self },
            increment => Self { increment, ..self },
        }
    }

    /// `events` per `period` nanoseconds, `burst` of them at once. All three are at least 1.
    pub const fn new(events: u32, period: u64, burst: u32) -> Self {
        let increment = match period / events as u64 {
            0 => 1,
            increment => increment,
        };
        Self { increment, tolerance: increment.saturating_mul(burst as u64) }
    }
}

/// What happens to a source that goes on when it is refused: each refused event costs as much as an
/// admitted one, and at `threshold` the debt leaps by `sentence`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Escalation {
    /// Nanoseconds of debt from which the kernel drops the source.
    pub threshold: u64,
    /// Nanoseconds added to the debt on reaching the threshold: how long the source is dropped.
    pub sentence: u64,
}

/// The answer to a charge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Charge {
    /// Refused: over budget.
    Over {
        /// Nanoseconds until the next event is admitted.
        retry_after: u64,
    },
    /// Admitted and charged.
    Within,
}

/// Nanoseconds of debt.
#[inline(always)]
pub fn debt(arrival: &impl Word, now: u64) -> u64 {
    arrival.read().saturating_sub(now)
}

/// What a charge would answer, charging nothing.
#[inline(always)]
pub fn peek(arrival: &impl Word, now: u64, limit: Limit) -> Charge {
    assess(debt(arrival, now), limit)
}

/// Charges one event if the budget allows it; a refused event costs nothing.
#[inline(always)]
pub fn charge(arrival: &impl Word, now: u64, limit: Limit) -> Charge {
    if admits(arrival, now, limit, 1) {
        return Charge::Within;
    }
    match peek(arrival, now, limit) {
        // Lost to others that charge the same source, who may have been refused meanwhile.
        Charge::Within => Charge::Over { retry_after: limit.increment },
        over => over,
    }
}

/// Charges `events` at once, all or none, and says whether the budget allowed it; at most 2^16.
#[inline(always)]
pub fn admits(arrival: &impl Word, now: u64, limit: Limit, events: u64) -> bool {
    // No overflow: an increment is at most an hour, 2^42 ns. (A saturating product would take 128 bits, which
    // BPF does not have.)
    let cost = limit.increment.wrapping_mul(events);
    match attempt(arrival, now, cost, limit.tolerance) {
        Some(answer) => answer,
        None => attempt_again(arrival, now, cost, limit.tolerance),
    }
}

/// Nothing if another charge came in between.
#[inline(always)]
fn attempt(arrival: &impl Word, now: u64, cost: u64, tolerance: u64) -> Option<bool> {
    let seen = arrival.read();
    let debt = seen.saturating_sub(now).saturating_add(cost);
    if debt > tolerance {
        return Some(false);
    }
    arrival.replace(seen, now + debt).then_some(true)
}

/// Few packets come here. Inlined all the same: aya 0.14 mixes up the names of a static and a global function in one
/// program, and the kernel then takes this one for the global `auth_sample`.
#[inline(always)]
fn attempt_again(arrival: &impl Word, now: u64, cost: u64, tolerance: u64) -> bool {
    (1..ATTEMPTS).find_map(|_| attempt(arrival, now, cost, tolerance)).unwrap_or(false)
}

/// Charges one event if the budget allows it and no one else charges at that moment: for events that may be let
/// go. Says whether it did.
#[inline(always)]
pub fn charge_once(arrival: &impl Word, now: u64, limit: Limit) -> bool {
    let seen = arrival.read();
    let debt = seen.saturating_sub(now);
    assess(debt, limit) == Charge::Within && arrival.replace(seen, now + debt + limit.increment)
}

/// Charges one event, admitted or not.
#[inline(always)]
pub fn charge_escalating(arrival: &impl Word, now: u64, limit: Limit, escalation: Escalation) -> Charge {
    let ceiling = escalation.threshold.saturating_add(escalation.sentence);
    for _ in 0..ATTEMPTS {
        let seen = arrival.read();
        let before = seen.saturating_sub(now);
        let answer = assess(before, limit);
        let after = match before.saturating_add(limit.increment) {
            after if answer == Charge::Within => after,
            after if after < escalation.threshold => after,
            _ => ceiling,
        };
        if arrival.replace(seen, now.saturating_add(after)) {
            return match answer {
                Charge::Within => answer,
                Charge::Over { .. } => assess(after, limit),
            };
        }
    }
    Charge::Over { retry_after: limit.increment }
}

#[inline(always)]
fn assess(debt: u64, limit: Limit) -> Charge {
    match debt.saturating_add(limit.increment) {
        after if after <= limit.tolerance => Charge::Within,
        after => Charge::Over { retry_after: after - limit.tolerance },
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const HUNDRED_PER_MINUTE: Limit = Limit::new(100, 60 * SECOND, 100);
    const NOW: u64 = 1_000 * SECOND;

    #[test]
    fn a_burst_is_admitted_and_the_next_event_waits_one_increment() {
        let arrival = AtomicU64::new(0);
        for event in 1..=100 {
            assert_eq!(charge(&arrival, NOW, HUNDRED_PER_MINUTE), Charge::Within, "event {event}");
        }
        let wait = SECOND * 6 / 10;
        assert_eq!(charge(&arrival, NOW, HUNDRED_PER_MINUTE), Charge::Over { retry_after: wait });
        assert_eq!(peek(&arrival, NOW + wait - 1, HUNDRED_PER_MINUTE), Charge::Over { retry_after: 1 });
        assert_eq!(charge(&arrival, NOW + wait, HUNDRED_PER_MINUTE), Charge::Within);
    }

    #[test]
    fn many_events_cost_as_much_together_as_one_by_one_and_are_admitted_whole_or_not() {
        let arrival = AtomicU64::new(0);
        assert!(admits(&arrival, NOW, HUNDRED_PER_MINUTE, 60));
        assert!(!admits(&arrival, NOW, HUNDRED_PER_MINUTE, 41));
        assert!(admits(&arrival, NOW, HUNDRED_PER_MINUTE, 40));
        assert_eq!(debt(&arrival, NOW), 60 * SECOND);
    }

    #[test]
    fn a_budget_for_many_has_as_many_events_at_once_and_per_time() {
        let arrival = AtomicU64::new(0);
        let site = HUNDRED_PER_MINUTE.times(16);
        assert!(admits(&arrival, NOW, site, 1_600));
        assert_eq!(charge(&arrival, NOW, site), Charge::Over { retry_after: site.increment });
        assert_eq!(site.increment, HUNDRED_PER_MINUTE.increment / 16);
        assert_eq!(Limit::new(1, 1, 1).times(16).increment, 1);
    }

    #[test]
    fn a_paid_debt_is_the_same_as_none_and_a_long_pause_earns_no_more_than_a_burst() {
        let arrival = AtomicU64::new(NOW);
        let admitted = (0..1_000)
            .filter(|_| charge(&arrival, NOW + 3_600 * SECOND, HUNDRED_PER_MINUTE) == Charge::Within)
            .count();
        assert_eq!(admitted, 100);
    }

    #[test]
    fn refused_events_cost_up_to_the_threshold_and_then_the_sentence_once() {
        let arrival = AtomicU64::new(0);
        let limit = Limit::new(1, SECOND, 2);
        let escalation = Escalation { threshold: 5 * SECOND, sentence: 10 * SECOND };
        let debts: [u64; 7] = core::array::from_fn(|_| {
            charge_escalating(&arrival, NOW, limit, escalation);
            debt(&arrival, NOW) / SECOND
        });
        assert_eq!(debts, [1, 2, 3, 4, 15, 15, 15]);
    }

    #[test]
    fn retry_after_names_the_first_moment_that_is_admitted() {
        let arrival = AtomicU64::new(0);
        let limit = Limit::new(1, SECOND, 2);
        let escalation = Escalation { threshold: 50 * SECOND, sentence: 0 };
        let mut answer = Charge::Within;
        for _ in 0..5 {
            answer = charge_escalating(&arrival, NOW, limit, escalation);
        }
        let Charge::Over { retry_after } = answer else { panic!("five events in a budget of two") };
        assert!(matches!(peek(&arrival, NOW + retry_after - 1, limit), Charge::Over { .. }));
        assert_eq!(peek(&arrival, NOW + retry_after, limit), Charge::Within);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let arrival = AtomicU64::new(u64::MAX);
        let limit = Limit::new(1, u64::MAX, u32::MAX);
        assert!(matches!(charge(&arrival, 0, Limit::new(1, 1, 1)), Charge::Over { .. }));
        charge_escalating(&arrival, 0, limit, Escalation { threshold: u64::MAX, sentence: u64::MAX });
        assert_eq!(Limit::new(u32::MAX, 1, 1).increment, 1);
    }

    #[test]
    fn threads_that_share_a_source_never_get_more_than_its_burst() {
        let arrival = AtomicU64::new(0);
        let admitted: usize = thread::scope(|scope| {
            let threads: std::vec::Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000)
                            .filter(|_| charge(&arrival, NOW, HUNDRED_PER_MINUTE) == Charge::Within)
                            .count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100);
    }
}
