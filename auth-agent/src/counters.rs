//! What `status` reports of the request path. Labels come from the code alone, so they are bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections ended before their client was done, by reason.
    pub closed: Reasons,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Requests that an upstream answered.
    pub forwarded: AtomicU64,
    /// Requests refused, by reason.
    pub refusals: Reasons,
    /// Requests in all.
    pub requests: AtomicU64,
}

impl Counters {
    /// The counts at this moment.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            closed: self.closed.snapshot(),
            connections: self.connections.load(Relaxed),
            forwarded: self.forwarded.load(Relaxed),
            refusals: self.refusals.snapshot(),
            requests: self.requests.load(Relaxed),
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// [`Counters`] at one moment.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Snapshot {
    /// Connections ended before their client was done, by reason.
    pub closed: BTreeMap<String, u64>,
    /// Connections accepted.
    pub connections: u64,
    /// Requests that an upstream answered.
    pub forwarded: u64,
    /// Requests refused, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Requests in all.
    pub requests: u64,
}

/// One counter per reason. The lock is taken for writing only when a reason is seen for the first time.
#[derive(Debug, Default)]
pub struct Reasons(RwLock<BTreeMap<&'static str, AtomicU64>>);

impl Reasons {
    /// Adds one to `reason`.
    pub fn count(&self, reason: &'static str) {
        if let Some(counter) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(reason) {
            count(counter);
            return;
        }
        count(self.0.write().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default());
    }

    fn snapshot(&self) -> BTreeMap<String, u64> {
        let reasons = self.0.read().unwrap_or_else(PoisonError::into_inner);
        reasons.iter().map(|(reason, counter)| ((*reason).to_owned(), counter.load(Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let counters = Counters::default();
        for reason in ["path-invalid", "scope-missing", "path-invalid"] {
            counters.refusals.count(reason);
        }
        count(&counters.requests);
        let snapshot = counters.snapshot();
        assert_eq!(
            snapshot.refusals,
            BTreeMap::from([("path-invalid".to_owned(), 2), ("scope-missing".to_owned(), 1)])
        );
        assert_eq!((snapshot.requests, snapshot.forwarded), (1, 0));
    }
}
