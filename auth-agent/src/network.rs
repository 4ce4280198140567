//! Networks as operators write them: an address or a CIDR, with one meaning or none.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a text is not a network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// `10.0.0.1/8`: the network, or the address?
    #[error(
        "{written} has bits set beyond its prefix: write {network} for the network, or {address} for the address"
    )]
    HostBits {
        /// The address alone.
        address: IpAddr,
        /// The network it is in.
        network: IpNet,
        /// As given.
        written: IpNet,
    },
    /// Not an address, not a CIDR.
    #[error("{0:?} is no address and no network: write it like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
    Syntax(String),
}

/// Reads an address or a CIDR; v4-mapped IPv6 becomes IPv4.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let network = text.parse().or_else(|_| text.parse().map(host));
    let network: IpNet = network.map_err(|_| NetworkError::Syntax(text.chars().take(64).collect()))?;
    if network.addr() != network.network() {
        let (address, written) = (network.addr(), network);
        return Err(NetworkError::HostBits { address, network: network.trunc(), written });
    }
    match network {
        IpNet::V4(_) => Ok(network),
        IpNet::V6(v6) => Ok(unmapped(v6)),
    }
}

/// Networks to look addresses up in: disjoint and in order, so that a look-up is a binary search.
#[derive(Debug)]
pub struct NetworkSet(Vec<IpNet>);

impl NetworkSet {
    /// What is in any of `networks`.
    pub fn new(networks: &[IpNet]) -> Self {
        Self(IpNet::aggregate(&networks.to_vec()))
    }

    /// Whether `address` is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let behind = self.0.partition_point(|network| network.network() <= address);
        behind.checked_sub(1).is_some_and(|last| self.0[last].contains(&address))
    }
}

/// The network that holds this address alone.
pub fn host(address: IpAddr) -> IpNet {
    address.to_canonical().into()
}

/// A v4-mapped network as the IPv4 network that it is.
fn unmapped(network: Ipv6Net) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    match (network.addr().to_ipv4_mapped(), network.prefix_len().checked_sub(MAPPED_BITS)) {
        // `bits` is at most 32, since the prefix is at most 128.
        (Some(v4), Some(bits)) => Ipv4Net::new(v4, bits).map_or(network.into(), IpNet::from),
        _ => network.into(),
    }
}

/// serde: a network as text.
pub(crate) mod as_text {
    use ipnet::IpNet;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(network: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(network)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_network(&text).map_err(serde::de::Error::custom)
    }
}
