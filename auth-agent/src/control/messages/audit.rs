//! Who did what.

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;

/// `GET /v1/audit`, with `?since_seconds=N` and `?limit=N` (100 by default): the last ones, oldest first.
#[derive(Debug, Deserialize, Serialize)]
pub struct AuditList {
    /// The entries.
    pub entries: Vec<AuditRecord>,
}

/// One entry.
#[derive(Debug, Deserialize, Serialize)]
pub struct AuditRecord {
    /// What was done, or tried: `ban.add`, `key.rotate`, `config.reload` and so on.
    pub action: String,
    /// `agent` by itself, a `client`, an `operator`, or a `stranger`, who may not use the control socket.
    pub actor: String,
    /// What it was done to.
    pub detail: serde_json::Value,
    /// The peer's group.
    pub gid: Option<u32>,
    /// `done`, `failed` or `refused`.
    pub outcome: String,
    /// The peer's process.
    pub pid: Option<i32>,
    /// Its number.
    pub seq: i64,
    /// When.
    pub time: UnixTime,
    /// The peer's user.
    pub uid: Option<u32>,
}
