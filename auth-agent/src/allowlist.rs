//! The allowlist: sources that pass every limit and ban, in the kernel and in the agent (promise P11).
//!
//! It has two parts: what the configuration says, and what the operator added while the agent runs. Readers on
//! the request path never wait.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::network::NetworkSet;

/// The allowlist.
#[derive(Debug)]
pub struct Allowlist {
    configured: ArcSwap<Vec<IpNet>>,
    /// Both parts, merged.
    merged: ArcSwap<NetworkSet>,
}

impl Allowlist {
    /// The networks of `kernel.allow`.
    pub fn new(configured: Vec<IpNet>) -> Self {
        let merged = ArcSwap::from_pointee(NetworkSet::new(&configured));
        Self { configured: ArcSwap::from_pointee(configured), merged }
    }

    /// Replaces what the configuration says; it counts with the next [`Self::set_added`].
    pub fn configure(&self, configured: Vec<IpNet>) {
        self.configured.store(Arc::new(configured));
    }

    /// Replaces what was added while running.
    pub fn set_added(&self, added: impl IntoIterator<Item = IpNet>) {
        let all: Vec<_> = self.configured.load().iter().copied().chain(added).collect();
        self.merged.store(Arc::new(NetworkSet::new(&all)));
    }

    /// Whether `address` passes every limit and ban.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.merged.load().contains(address)
    }

    /// What the configuration says.
    pub fn configured(&self) -> Arc<Vec<IpNet>> {
        self.configured.load_full()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_added_can_be_taken_back_and_what_is_configured_stays() {
        let allowlist = Allowlist::new(vec![network("10.0.0.0/8")]);
        let address = |text: &str| allowlist.contains(text.parse().unwrap());
        assert!(address("10.1.2.3") && !address("192.0.2.1") && !address("2001:db8::1"));
        allowlist.set_added([network("192.0.2.0/24"), network("2001:db8::/32")]);
        assert!(address("10.1.2.3") && address("192.0.2.1") && address("2001:db8::1"));
        allowlist.set_added([]);
        assert!(address("10.1.2.3") && !address("192.0.2.1"));
    }

    fn networks() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..16, 24u8..=32).prop_map(|(bits, length)| {
            IpNet::new(IpAddr::V4((0xc000_0200 | bits << 4 | bits).into()), length).unwrap()
        });
        let v6 = (0u128..16, 0u8..=128)
            .prop_map(|(bits, length)| IpNet::new(IpAddr::V6((bits << 124 | bits).into()), length).unwrap());
        prop_oneof![v4, v6].prop_map(|network| network.trunc())
    }

    proptest! {
        #[test]
        fn merging_changes_nothing(
            configured in prop::collection::vec(networks(), 0..6),
            added in prop::collection::vec(networks(), 0..6),
            v4 in 0u32..256,
            v6 in 0u128..256,
        ) {
            let allowlist = Allowlist::new(configured.clone());
            allowlist.set_added(added.clone());
            for address in [
                IpAddr::V4((0xc000_0200 | v4).into()),
                IpAddr::V6(((v6 >> 4) << 124 | v6 & 15).into()),
            ] {
                let meant = configured.iter().chain(&added).any(|network| network.contains(&address));
                prop_assert_eq!(allowlist.contains(address), meant, "{}", address);
            }
        }
    }
}
