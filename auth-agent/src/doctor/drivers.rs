//! What is known of drivers: whether they run XDP programs, and up to which MTU.

use super::facts::Version;

/// Our program takes packets in one piece, which must fit into a page after the headroom (256) and with the shared
/// info (320). What the drivers leave of that differs by a few bytes: this is the least of those known.
const USUAL_MTU: u32 = 3498;

/// Drivers that run XDP programs on every kernel that the agent supports, by ethtool's name for them. Complete up
/// to 6.2: from 6.3 on the kernel itself is asked.
const NATIVE: [&str; 27] = [
    "bnxt_en",
    "bonding",
    "cpsw",
    "ena",
    "fsl_dpa",
    "fsl_dpaa2_eth",
    "fsl_enetc",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "nicvf",
    "qede",
    "sfc",
    "st_gmac",
    "tun",
    "veth",
    "virtio_net",
];

/// Drivers that learned it later.
const NATIVE_SINCE: [(&str, Version); 5] = [
    ("atlantic", Version(5, 19)),
    ("fec", Version(6, 2)),
    ("lan966x-switch", Version(6, 2)),
    ("mana", Version(5, 17)),
    ("mtk_soc_eth", Version(6, 0)),
];

/// The largest MTU with XDP, in pages of 4 KiB: 4096 less headroom, shared info and the link header (14; ENA keeps
/// 8 more for a VLAN tag and the checksum).
const MTU: [(&str, u32); 3] = [("ena", 3498), ("veth", 3506), ("virtio_net", 3506)];

/// Whether the driver runs XDP programs; nothing where it is not known.
pub fn native(driver: &str, kernel: Version) -> Option<bool> {
    let later = NATIVE_SINCE.iter().find(|(name, _)| *name == driver).map(|(_, since)| kernel >= *since);
    later.or_else(|| NATIVE.contains(&driver).then_some(true))
}

/// The largest MTU with native XDP, and whether that is known of this driver rather than usual. Nothing where
/// pages have another size than 4 KiB: no driver comes near then.
pub fn mtu(driver: Option<&str>, page: usize) -> Option<(u32, bool)> {
    let known = MTU.iter().find(|(name, _)| Some(*name) == driver);
    (page == 4096).then(|| known.map_or((USUAL_MTU, false), |(_, mtu)| (*mtu, true)))
}
