//! Budgets of what can be guessed: the secret of an API key, the signature of a token. A botnet that spreads its
//! guesses over many sources stays within the budget of each, and meets this one.
//!
//! Only failures are counted, and only failures are refused for it: nobody can lock the owner of a key out. The
//! table has a fixed size; where two things share a word, they share its budget.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use auth_common::gcra::{self, Limit};

use crate::authenticate::Guess;
use crate::clock::Monotonic;
use crate::config::Rate;
use crate::limits::Charge;

/// Words, a power of two: 512 KiB.
const WORDS: usize = 1 << 16;

/// How often each thing may be guessed at.
pub struct Guesses {
    debts: Box<[AtomicU64]>,
    limit: ArcSwap<Limit>,
}

impl Guesses {
    /// Each thing may be guessed at so often.
    pub fn new(rate: &Rate) -> Self {
        let debts = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { debts, limit: ArcSwap::from_pointee(limit(rate)) }
    }

    /// From now on so often; what is owed stays.
    pub fn limit_to(&self, rate: &Rate) {
        self.limit.store(Arc::new(limit(rate)));
    }

    /// Charges one guess.
    pub fn charge(&self, Guess(hash): Guess, now: Monotonic) -> Charge {
        let debt = &self.debts[hash as usize % WORDS];
        gcra::charge(debt, now.0, **self.limit.load()).into()
    }
}

fn limit(rate: &Rate) -> Limit {
    Limit::new(rate.events.get(), rate.period.as_nanos() as u64, rate.burst.get())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_thing_may_be_guessed_at_so_often_and_again_when_time_has_passed() {
        const SECOND: u64 = 1_000_000_000;
        let [events, burst] = [10, 3].map(|number| NonZeroU32::new(number).unwrap());
        let guesses = Guesses::new(&Rate { burst, events, period: Duration::from_secs(60) });
        let now = |seconds| Monotonic(seconds * SECOND);
        let over = |seconds| Charge::Over { retry_after: Duration::from_secs(seconds) };
        for (guess, at, expected) in [
            (1, 100, Charge::Within),
            (1, 100, Charge::Within),
            (1, 100, Charge::Within),
            (1, 100, over(6)),
            (1, 100, over(6)),
            (2, 100, Charge::Within),
            (1, 102, over(4)),
            (1, 106, Charge::Within),
            (1, 106, over(6)),
            (1 + WORDS as u64, 106, over(6)),
        ] {
            assert_eq!(guesses.charge(Guess(guess), now(at)), expected, "{guess} at {at}");
        }
    }
}
