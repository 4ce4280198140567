//! How much, and for how long.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// `[sizes]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// Request body, bytes.
    pub body_bytes: u64,
    /// Request body, bytes per second at least, once `timeouts.body_grace` is used up; 0: as slow as it likes.
    pub body_rate: u64,
    /// Open client connections in all.
    pub connections: NonZeroUsize,
    /// Open client connections per source address.
    pub connections_per_source: NonZeroUsize,
    /// TLS handshakes under way; what is over waits.
    pub handshakes: NonZeroUsize,
    /// All header fields together, bytes.
    pub header_bytes: NonZeroUsize,
    /// Number of header fields.
    pub headers: NonZeroUsize,
    /// Whose debts are kept at a time by all `[[limit]]`s together, and whose counts by all `[[quota]]`s.
    pub limit_entries: NonZeroUsize,
    /// Concurrent HTTP/2 streams per connection.
    pub streams: NonZeroU32,
    /// Bearer token, bytes.
    pub token_bytes: NonZeroUsize,
    /// Request target, bytes.
    pub uri_bytes: NonZeroUsize,
    /// Threads that serve; `None`: as many as there are processors for the agent.
    pub workers: Option<NonZeroUsize>,
}

/// `[timeouts]`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// For how long a request body may be waited for before it has to keep up with `sizes.body_rate`.
    pub body_grace: Duration,
    /// Between two reads of a request body.
    pub body_idle: Duration,
    /// TCP connection to an upstream.
    pub connect: Duration,
    /// How long a request may go on once its credential is over.
    pub credential_grace: Duration,
    /// How long open requests may go on after SIGTERM.
    pub drain: Duration,
    /// TLS handshake.
    pub handshake: Duration,
    /// From the connection to the end of the first request's headers, and for those of each later one.
    pub headers: Duration,
    /// Without a request, on a connection that has served one.
    pub idle: Duration,
    /// From the whole request to the upstream's response headers.
    pub response: Duration,
    /// Without a byte in either direction on a connection that was upgraded.
    pub upgraded_idle: Duration,
    /// Between two reads of a response body.
    pub upstream_idle: Duration,
}
