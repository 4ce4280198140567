//! Proxies in front of this edge.

use ipnet::IpNet;

/// `[proxies]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxies {
    /// What trusted proxies tell of a request's way in.
    pub read: Forwarding,
    /// What upstreams are told of it.
    pub send: Vec<Forwarding>,
    /// Whose word counts; none unless the operator says so.
    pub trusted: Vec<IpNet>,
}

/// Header fields about the way of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Forwarding {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto`.
    XForwarded,
}
