//! What `status` reports of the request path. Labels come from the code alone, so they are bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::proxy::Board;

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections ended before their client was done, by reason.
    pub closed: Reasons,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Requests that an upstream answered.
    pub forwarded: AtomicU64,
    /// Requests that another proxy was told it may forward.
    pub permitted: AtomicU64,
    /// TLS handshakes that had to wait for others (`sizes.handshakes`).
    pub handshakes_delayed: AtomicU64,
    /// Lines of the access log, or refusals in the agent's own, that were dropped; once there is a log.
    pub log_dropped: OnceLock<Arc<AtomicU64>>,
    /// Requests refused, by reason.
    pub refusals: Reasons,
    /// Requests in all.
    pub requests: AtomicU64,
    /// What is done with tokens.
    pub tokens: Arc<TokenCounters>,
    /// How the upstreams are doing, once there is a way to them.
    pub upstreams: OnceLock<Arc<Board>>,
}

impl Counters {
    /// The counts at this moment.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            closed: self.closed.snapshot(),
            connections: self.connections.load(Relaxed),
            forwarded: self.forwarded.load(Relaxed),
            permitted: self.permitted.load(Relaxed),
            handshakes_delayed: self.handshakes_delayed.load(Relaxed),
            access_log_dropped: self.log_dropped.get().map_or(0, |dropped| dropped.load(Relaxed)),
            refusals: self.refusals.snapshot(),
            requests: self.requests.load(Relaxed),
            tokens: self.tokens.snapshot(),
        }
    }
}

/// What is done with tokens, and what is remembered of them.
#[derive(Debug, Default)]
pub struct TokenCounters {
    cached: AtomicU64,
    cached_bytes: AtomicU64,
    /// Remembered tokens that made room for others.
    pub evictions: AtomicU64,
    /// Tokens that had been verified a short while before.
    pub hits: AtomicU64,
    /// Tokens that nothing was known of.
    pub misses: AtomicU64,
    /// Tokens whose signature was known not to hold.
    pub negative_hits: AtomicU64,
    /// Tokens that carry what anyone can read, by `sensitive_claims`; remembered ones count once.
    pub sensitive: AtomicU64,
}

impl TokenCounters {
    /// Notes how many verified tokens are remembered, and in how many bytes.
    pub fn note_cached(&self, tokens: usize, bytes: u64) {
        self.cached.store(tokens as u64, Relaxed);
        self.cached_bytes.store(bytes, Relaxed);
    }

    fn snapshot(&self) -> TokenSnapshot {
        TokenSnapshot {
            cached: self.cached.load(Relaxed),
            cached_bytes: self.cached_bytes.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            negative_hits: self.negative_hits.load(Relaxed),
            sensitive: self.sensitive.load(Relaxed),
        }
    }
}

/// [`TokenCounters`] at one moment.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenSnapshot {
    /// Verified tokens that are remembered.
    pub cached: u64,
    /// Bytes that they take.
    pub cached_bytes: u64,
    /// Remembered tokens that made room for others.
    pub evictions: u64,
    /// Tokens that had been verified a short while before.
    pub hits: u64,
    /// Tokens that nothing was known of.
    pub misses: u64,
    /// Tokens whose signature was known not to hold.
    pub negative_hits: u64,
    /// Tokens that carry what anyone can read, by `sensitive_claims`; remembered ones count once.
    pub sensitive: u64,
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
    /// Requests that another proxy was told it may forward.
    #[serde(default)]
    pub permitted: u64,
    /// TLS handshakes that had to wait for others (`sizes.handshakes`).
    #[serde(default)]
    pub handshakes_delayed: u64,
    /// Lines of the access log, or refusals in the agent's own, that were dropped.
    #[serde(default)]
    pub access_log_dropped: u64,
    /// Requests refused, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Requests in all.
    pub requests: u64,
    /// What is done with tokens.
    #[serde(default)]
    pub tokens: TokenSnapshot,
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
