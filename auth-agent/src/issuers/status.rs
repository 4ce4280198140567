//! What the operator gets to see of an issuer's keys.

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::token::KnownKeys;

/// One issuer and its keys.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IssuerStatus {
    /// Why the last attempt to get its keys failed; absent: it did not.
    pub error: Option<String>,
    /// Attempts that failed, since the start.
    pub failures: u64,
    /// When the keys in use were had; absent: there are none.
    pub fetched: Option<UnixTime>,
    /// Attempts that brought keys, since the start.
    pub fetches: u64,
    /// The exact `iss` of its tokens.
    pub issuer: String,
    /// The keys in use; none: its tokens are answered `token-keys-unavailable`.
    pub keys: Vec<IssuerKey>,
    /// Its name in the configuration.
    pub name: String,
    /// When its keys are fetched again; absent: they are not fetched.
    pub next_refresh: Option<UnixTime>,
    /// Why the keys in use are not kept for the next start; absent: they are, or need not be.
    pub save_error: Option<String>,
    /// Why other keys of the same set are not used.
    pub skipped: Vec<String>,
    /// Where its keys come from.
    pub source: String,
}

/// One key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IssuerKey {
    /// The algorithm it is pinned to.
    pub algorithm: String,
    /// Its `kid`, if it has one.
    pub id: Option<String>,
}

/// For a status and for the log.
pub(super) fn listed(known: Option<KnownKeys>) -> (Vec<IssuerKey>, Vec<String>) {
    let KnownKeys { keys, skipped } = known.unwrap_or_default();
    let keys =
        keys.into_iter().map(|key| IssuerKey { algorithm: format!("{:?}", key.algorithm), id: key.id });
    (keys.collect(), skipped)
}
