//! Who is banned, for the request path: clients behind a trusted proxy, whose packets the kernel does not see.

use std::net::IpAddr;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::network::NetworkSet;

/// The bans that hold. Readers never wait.
#[derive(Debug)]
pub struct BanList(ArcSwap<NetworkSet>);

impl BanList {
    /// Replaces them.
    pub fn set(&self, banned: &[IpNet]) {
        self.0.store(NetworkSet::new(banned).into());
    }

    /// Whether `address` is banned.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.load().contains(address.to_canonical())
    }
}

impl Default for BanList {
    /// Nobody.
    fn default() -> Self {
        Self(ArcSwap::from_pointee(NetworkSet::new(&[])))
    }
}
