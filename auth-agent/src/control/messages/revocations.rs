//! Of `/v1/revocations`.

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::revocation::Target;

/// `POST /v1/revocations`: all of it is revoked, or nothing.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Only what was issued before; absent: all.
    #[serde(default)]
    pub before: Option<UnixTime>,
    /// The operator's remark.
    #[serde(default)]
    pub reason: Option<String>,
    /// What to revoke.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Tokens to revoke, each as it is sent, or as SHA-256 of its first two parts with the dot between.
    #[serde(default)]
    pub tokens: Vec<String>,
}

/// What was revoked, and what that ended.
#[derive(Debug, Deserialize, Serialize)]
pub struct Revoked {
    /// What it ended.
    pub ended: Ended,
    /// The revocations as they are in force now.
    pub revocations: Vec<RevocationEntry>,
}

/// What a revocation ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ended {
    /// Connections.
    pub connections: usize,
    /// Requests on connections that went on.
    pub requests: usize,
}

/// A revocation.
#[derive(Debug, Deserialize, Serialize)]
pub struct RevocationEntry {
    /// Only what was issued before; absent: all.
    pub before: Option<UnixTime>,
    /// When it was made, or last extended.
    pub created: UnixTime,
    /// Names it in `DELETE /v1/revocations/{id}`.
    pub id: String,
    /// The operator's remark.
    pub reason: Option<String>,
    /// What is revoked.
    pub target: Target,
    /// When all that it revokes is over, and so is it; absent: never.
    pub until: Option<UnixTime>,
}

/// The query of `GET /v1/revocations`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationQuery {
    /// Goes on behind this id.
    pub after: Option<String>,
    /// How many at most.
    pub limit: Option<usize>,
}

/// `GET /v1/revocations`
#[derive(Debug, Deserialize, Serialize)]
pub struct RevocationList {
    /// What to ask for next, with `after`; absent: there is no more.
    pub next: Option<String>,
    /// In the order of their ids.
    pub revocations: Vec<RevocationEntry>,
    /// How many there are in all.
    pub total: usize,
}
