//! Refusals in the agent's own log, where there is no access log: each one that matters, up to so many a second, and how
//! many more there were. Whoever sends much that is refused fills no disk.

use std::collections::BTreeMap;

use tracing::{debug, info};

use super::line::Line;
use crate::clock::Monotonic;

/// Refusals that are told one by one within a second.
const PER_SECOND: u32 = 100;
const SECOND: u64 = 1_000_000_000;

/// What was told of refusals lately.
#[derive(Debug, Default)]
pub(super) struct Told {
    since: u64,
    told: u32,
    untold: BTreeMap<&'static str, u64>,
}

impl Told {
    /// Tells of a refusal, or counts it.
    pub fn tell(&mut self, line: &Line) {
        let Some(refusal) = line.outcome.refusal else { return };
        if self.told == PER_SECOND {
            *self.untold.entry(refusal.name()).or_default() += 1;
            return;
        }
        self.told += 1;
        // Debug formatting escapes what could forge a log line; the query may hold a secret and was left out.
        let Line { id, method, path, source, outcome, .. } = line;
        let (reason, status) = (refusal.name(), outcome.status);
        if refusal.is_notable() {
            info!(reason, status, %source, %method, ?path, request_id = %id, "refused");
        } else {
            debug!(reason, status, %source, %method, ?path, request_id = %id, "refused");
        }
    }

    /// To be called now and then: says what was only counted, and begins another second. Says whether it is to be called
    /// again although nothing comes.
    pub fn pass(&mut self, now: Monotonic) -> bool {
        if now.0.saturating_sub(self.since) >= SECOND {
            if !self.untold.is_empty() {
                let count: u64 = self.untold.values().sum();
                let reasons = std::mem::take(&mut self.untold);
                info!(count, ?reasons, "more were refused than are told one by one");
            }
            (self.since, self.told) = (now.0, 0);
        }
        !self.untold.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Outcome;
    use crate::refusal::Refusal;

    #[test]
    fn what_is_too_much_to_tell_is_counted_by_reason_and_told_once_a_second() {
        let mut told = Told::default();
        told.pass(Monotonic(5 * SECOND));
        let of = |refusal| Line { outcome: Outcome::refused(refusal), ..Line::default() };
        for _ in 0..PER_SECOND + 7 {
            told.tell(&of(Refusal::CredentialMissing));
        }
        told.tell(&of(Refusal::ScopeMissing));
        assert_eq!(told.untold, BTreeMap::from([("credential-missing", 7), ("scope-missing", 1)]));
        assert!(told.pass(Monotonic(6 * SECOND - 1)));
        assert!(!told.pass(Monotonic(6 * SECOND)));
        told.tell(&of(Refusal::ScopeMissing));
        assert_eq!((told.told, told.untold.len()), (1, 0));
    }
}
