//! Whose request it is, where proxies stand between the client and this edge.
//!
//! Invariant: what a request or a connection says about its client's address counts only if it comes from a proxy that
//! the configuration trusts, and only in the one form that this proxy writes; from anyone else it is never looked at. Of
//! the addresses in a header field, the last one that is no trusted proxy's is the client's: those before it are the
//! client's own words. A trusted proxy that says nothing is refused: taken for the client, it would lend everyone behind it
//! its own address, with what that may do (networks of API keys, limits of its network) and what it owes.
//!
//! Budgets of the agent, networks of API keys and logs go by that address. What is counted and dropped in the kernel goes
//! by the peer's: no packet says more.

mod fields;
mod proxy_protocol;

use std::net::IpAddr;

use http::HeaderMap;

pub use self::fields::{forwarded, parse_address};
pub use self::proxy_protocol::{ProxyProtocolError, Said, read};
use crate::config::{Forwarding, Proxies};
use crate::network::NetworkSet;
use crate::refusal::Refusal;

/// The proxies in front of this edge.
#[derive(Debug)]
pub struct TrustedProxies {
    read: Forwarding,
    trusted: NetworkSet,
}

impl TrustedProxies {
    /// Those of a configuration.
    pub fn new(proxies: &Proxies) -> Self {
        Self { read: proxies.read, trusted: NetworkSet::new(&proxies.trusted) }
    }

    /// Whether there is a trusted proxy at `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.trusted.contains(address)
    }

    /// The client's address of a request that came from `peer`. A proxy asks for itself by naming itself.
    ///
    /// # Errors
    /// A trusted proxy names no client, or one that is no address.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Refusal> {
        if !self.contains(peer) {
            return Ok(peer);
        }
        let is_proxy = |address| self.contains(address);
        let client = match self.read {
            Forwarding::Forwarded => fields::client_of_forwarded(headers, is_proxy),
            Forwarding::XForwarded => fields::client_of_x_forwarded_for(headers, is_proxy),
        };
        client.ok().flatten().ok_or(Refusal::ClientAddressInvalid)
    }
}

#[cfg(test)]
mod tests;
