//! A whole TCP segment, for who wants to answer it.

use super::transport::{TCP, TCP_HEADER};
use super::{Address, Cursor, Fragment, Network, ethernet, ipv4, ipv6};

/// What the answer to a segment depends on (RFC 9293 3.10.7.1), but for the addresses, which stand where they stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// The number that its sender expects next.
    pub acknowledgment: u32,
    /// Destination port.
    pub destination: u16,
    /// Its control bits.
    pub flags: u8,
    /// It came over IPv6.
    pub ipv6: bool,
    /// What it takes up of the sequence space: payload, SYN and FIN.
    pub length: u32,
    /// Bytes of the Ethernet header and the VLAN tags before the IP header.
    pub link: usize,
    /// The number of its first byte.
    pub sequence: u32,
    /// Source port.
    pub source: u16,
}

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Reads the TCP header of a frame; nothing where there is none, where a fragment holds only a part of it, or where
/// the addresses are not those of two hosts.
#[inline(always)]
pub fn segment(mut cursor: Cursor) -> Option<Segment> {
    let frame = cursor.remaining();
    let payload = ethernet::parse(&mut cursor).ok()?;
    let link = frame - cursor.remaining();
    let network = match payload {
        ethernet::Payload::Ipv4 => ipv4::parse(&mut cursor).ok()?,
        ethernet::Payload::Ipv6 => ipv6::parse(&mut cursor).ok()?,
        ethernet::Payload::Other => return None,
    };
    if network.protocol != TCP || network.fragment != Fragment::Whole || !between_hosts(&network) {
        return None;
    }
    let header: [u8; TCP_HEADER] = cursor.read()?;
    let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, ..] = header;
    let header_length = usize::from(offset >> 4) * 4;
    let payload = network.length.checked_sub(header_length)?;
    Some(Segment {
        acknowledgment: u32::from_be_bytes([a0, a1, a2, a3]),
        destination: u16::from_be_bytes([d0, d1]),
        flags,
        ipv6: matches!(network.source, Address::V6(_)),
        length: payload as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0),
        link,
        sequence: u32::from_be_bytes([q0, q1, q2, q3]),
        source: u16::from_be_bytes([s0, s1]),
    })
}

/// RFC 1122 4.2.3.10: neither from nobody nor to many. Sources that stand for many are refused before.
#[inline(always)]
fn between_hosts(network: &Network) -> bool {
    match (network.source, network.destination) {
        // From 0.0.0.0/8 (RFC 1122 3.2.1.3); to multicast, the reserved block and broadcast.
        (Address::V4([from, ..]), Address::V4([to, ..])) => from != 0 && to < 224,
        (Address::V6(from), Address::V6([to, ..])) => from != [0; 16] && to != 0xff,
        _ => false,
    }
}
