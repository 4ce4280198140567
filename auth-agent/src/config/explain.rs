//! What is told of requests and of changes: to whom, and for how long.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

/// `[explain]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explain {
    /// The header field that carries a request's id; `None`: none does.
    pub header: Option<HeaderName>,
    /// Requests that each serving thread remembers for `auth-agent why`: so many answered ones, and so many refused ones.
    pub remembered: u32,
}

/// `[access_log]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// Whether it says who sent a request.
    pub principals: bool,
    /// Of so many forwarded requests, one is logged; refused ones all are.
    pub sample: NonZeroU32,
    /// Where it goes.
    pub to: LogTarget,
}

/// `access_log.to`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogTarget {
    /// A file, made where there is none.
    File(PathBuf),
    /// Nowhere: refusals are told in the agent's own log.
    Off,
    /// The standard output.
    Stdout,
}

/// `[audit]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Audit {
    /// Entries that are kept of those who use the control socket, and as many of what clients and the agent itself did.
    pub entries: NonZeroU32,
    /// How long an entry is kept.
    pub keep: Duration,
}
