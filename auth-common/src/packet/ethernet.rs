//! Ethernet II and VLAN tags (IEEE 802.1Q, 802.1ad).

use super::Cursor;
use crate::verdict::Reason;

/// Tags that are looked through; a third one is refused.
pub(super) const MAX_VLAN_TAGS: usize = 2;

pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const VLAN: u16 = 0x8100;
pub(super) const VLAN_SERVICE: u16 = 0x88a8;

/// What the frame carries.
pub(super) enum Payload {
    Ipv4,
    Ipv6,
    /// ARP, LLDP, spanning tree, 802.3 with a length: not this filter's business.
    Other,
}

/// Reads the Ethernet header and up to two VLAN tags.
#[inline(always)]
pub(super) fn parse(cursor: &mut Cursor) -> Result<Payload, Reason> {
    cursor.skip(12).ok_or(Reason::EthernetTruncated)?;
    let mut ethertype = u16::from_be_bytes(cursor.read().ok_or(Reason::EthernetTruncated)?);
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != VLAN && ethertype != VLAN_SERVICE {
            break;
        }
        let [_, _, high, low] = cursor.read().ok_or(Reason::VlanTruncated)?;
        ethertype = u16::from_be_bytes([high, low]);
    }
    match ethertype {
        IPV4 => Ok(Payload::Ipv4),
        IPV6 => Ok(Payload::Ipv6),
        VLAN | VLAN_SERVICE => Err(Reason::VlanTooDeep),
        _ => Ok(Payload::Other),
    }
}
