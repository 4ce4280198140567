//! The key of a source: 64 bits, exact, so that no source is ever charged for another.

use crate::packet::Address;

/// IPv4 addresses live inside `ffff:ffff::/32`, and `::/64` at `ff00::`, both of which are multicast and
/// so can't be an IPv6 source: the parser refuses them (RFC 4291 2.7).
const IPV4: u64 = 0xffff_ffff_0000_0000;
const IPV6_ZERO: u64 = 0xff00_0000_0000_0000;
/// Sites live inside `ff01::/16`.
const IPV6_SITE: u64 = 0xff01_0000_0000_0000;

/// An IPv4 address or an IPv6 prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SourceKey(u64);

impl SourceKey {
    /// The key of `address`, IPv6 cut off by `ipv6_mask` (the upper half of a netmask).
    #[inline(always)]
    pub fn new(address: Address, ipv6_mask: u64) -> Self {
        match address {
            Address::V4(octets) => Self::v4(u32::from_be_bytes(octets)),
            Address::V6(_) => Self::v6(address.words()[0], ipv6_mask),
        }
    }

    /// The key of an IPv4 address.
    #[inline(always)]
    pub(crate) fn v4(address: u32) -> Self {
        Self(IPV4 | u64::from(address))
    }

    /// The key of an IPv6 address, of which this is the upper half.
    #[inline(always)]
    pub(crate) fn v6(upper: u64, ipv6_mask: u64) -> Self {
        match upper & ipv6_mask {
            0 => Self(IPV6_ZERO),
            prefix => Self(prefix),
        }
    }

    /// The key of the IPv6 site that `address` belongs to, cut off by `site_mask`, which covers at most 48 bits.
    #[inline(always)]
    pub fn site(address: Address, site_mask: u64) -> Option<Self> {
        match address {
            Address::V4(_) => None,
            Address::V6(_) => Some(Self::v6_site(address.words()[0], site_mask)),
        }
    }

    /// The key of the site of an IPv6 address, of which this is the upper half.
    #[inline(always)]
    pub(crate) fn v6_site(upper: u64, site_mask: u64) -> Self {
        Self(IPV6_SITE | (upper & site_mask) >> 16)
    }

    /// An address that has this key: for IPv6, the first one. The key is that of a source, not of a site.
    pub const fn address(key: u64) -> Address {
        match key {
            IPV6_ZERO => Address::V6([0; 16]),
            key if key & IPV4 == IPV4 => Address::V4((key as u32).to_be_bytes()),
            key => Address::V6(((key as u128) << 64).to_be_bytes()),
        }
    }

    /// The key as it stands in a table line; never 0, which means that a line is free.
    #[inline(always)]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// The mask of an IPv6 prefix length of 1 to 64.
pub const fn ipv6_mask(prefix: u8) -> u64 {
    match prefix {
        0 => 0,
        1..=63 => !(u64::MAX >> prefix),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::string::ToString as _;

    use super::*;

    fn v6(text: &str, prefix: u8) -> SourceKey {
        SourceKey::new(Address::V6(text.parse::<Ipv6Addr>().unwrap().octets()), ipv6_mask(prefix))
    }

    fn v4(text: &str) -> SourceKey {
        SourceKey::new(Address::V4(text.parse::<Ipv4Addr>().unwrap().octets()), u64::MAX)
    }

    #[test]
    fn sources_share_a_key_only_within_their_prefix() {
        assert_eq!(v6("2001:db8::1", 64), v6("2001:db8::ffff:2", 64));
        assert_ne!(v6("2001:db8::1", 64), v6("2001:db8:0:1::1", 64));
        assert_eq!(v6("2001:db8::1", 48), v6("2001:db8:0:ffff::1", 48));
        assert_ne!(v6("2001:db8::1", 48), v6("2001:db8:1::1", 48));
        assert_ne!(v4("192.0.2.1"), v4("192.0.2.2"));
    }

    #[test]
    fn a_key_leads_back_to_its_source() {
        let back = |key: SourceKey| match SourceKey::address(key.get()) {
            Address::V4(octets) => Ipv4Addr::from(octets).to_string(),
            Address::V6(octets) => Ipv6Addr::from(octets).to_string(),
        };
        for (key, expected) in [
            (v4("0.0.0.0"), "0.0.0.0"),
            (v4("203.0.113.9"), "203.0.113.9"),
            (v6("2001:db8:1:2:3::4", 64), "2001:db8:1:2::"),
            (v6("2001:db8:1:2:3::4", 40), "2001:db8::"),
            (v6("::1", 64), "::"),
        ] {
            assert_eq!(back(key), expected);
        }
    }

    #[test]
    fn sources_of_a_site_share_its_key_and_no_source_has_it() {
        let site = |text: &str| {
            let address = Address::V6(text.parse::<Ipv6Addr>().unwrap().octets());
            SourceKey::site(address, ipv6_mask(48)).unwrap()
        };
        assert_eq!(site("2001:db8:1:2::3"), site("2001:db8:1:ffff::"));
        assert_ne!(site("2001:db8:1::"), site("2001:db8:2::"));
        assert_ne!(site("2001:db8:1::"), v6("2001:db8:1::", 64));
        assert_ne!(site("::"), v6("::", 64));
        assert_eq!(site("::").get() >> 56, 0xff, "multicast is no source");
        assert_eq!(SourceKey::site(Address::V4([192, 0, 2, 1]), ipv6_mask(48)), None);
    }

    #[test]
    fn no_key_is_the_free_one_and_the_families_stay_apart() {
        assert_ne!(v4("0.0.0.0").get(), 0);
        assert_ne!(v6("::1", 64).get(), 0);
        assert_ne!(v6("::1", 64), v4("0.0.0.1"));
        assert_ne!(v6("::1", 64), v6("1::", 64));
    }
}
