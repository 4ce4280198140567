//! Who is banned, for the request path: clients behind a trusted proxy, whose packets the kernel does not see.

use std::net::IpAddr;

use arc_swap::ArcSwap;

use crate::clock::UnixTime;
use crate::network::NetworkSet;
use crate::store::Ban;

/// The bans that hold. Readers never wait.
#[derive(Debug)]
pub struct BanList(ArcSwap<Bans>);

#[derive(Debug)]
struct Bans {
    /// When the first of them is over.
    end: Option<UnixTime>,
    networks: NetworkSet,
}

impl Bans {
    fn new(bans: &[Ban]) -> Self {
        let networks: Vec<_> = bans.iter().map(|ban| ban.network).collect();
        Self { end: bans.iter().filter_map(|ban| ban.until).min(), networks: NetworkSet::new(&networks) }
    }
}

impl BanList {
    /// Replaces them.
    pub fn set(&self, bans: &[Ban]) {
        self.0.store(Bans::new(bans).into());
    }

    /// Whether `address` is banned.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.load().networks.contains(address.to_canonical())
    }

    /// Whether one of them is over: it is to be replaced.
    pub fn has_ended(&self, now: UnixTime) -> bool {
        self.0.load().end.is_some_and(|end| end <= now)
    }
}

impl Default for BanList {
    /// Nobody.
    fn default() -> Self {
        Self(ArcSwap::from_pointee(Bans::new(&[])))
    }
}
