//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792) and ICMPv6 (RFC 4443).

use super::{Address, Cursor, Fragment, Network, Transport};
use crate::verdict::Reason;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

pub(super) const TCP_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;
pub(super) const ICMP_HEADER: usize = 8;

const TCP_ACK: u8 = 0x10;
const TCP_SYN: u8 = 0x02;

/// Router and neighbour solicitation and advertisement, and redirect (RFC 4861 4).
const NEIGHBOUR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;
/// RFC 4861 asks for it on every such packet: one that was routed can't have it.
const NEIGHBOUR_HOP_LIMIT: u8 = 255;

/// Reads the transport header as far as the filter needs it.
#[inline(always)]
pub(super) fn parse(cursor: &mut Cursor, network: &Network) -> Result<Transport, Reason> {
    if let Fragment::Later { offset } = network.fragment {
        // RFC 3128: a later fragment must not lie over the TCP header of the first.
        let overlaps = network.protocol == TCP && usize::from(offset) * 8 < TCP_HEADER;
        return if overlaps { Err(Reason::FragmentOverlap) } else { Ok(Transport::Fragment) };
    }
    match network.protocol {
        TCP => tcp(cursor, network),
        UDP => udp(cursor, network),
        ICMP => icmp(cursor, network).map(|_| Transport::Other { protocol: ICMP }),
        ICMPV6 => icmp(cursor, network).map(|kind| icmpv6(kind, network)),
        protocol => Ok(Transport::Other { protocol }),
    }
}

#[inline(always)]
fn tcp(cursor: &mut Cursor, network: &Network) -> Result<Transport, Reason> {
    require(network, TCP_HEADER, Reason::TcpTruncated)?;
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, flags] =
        cursor.read().ok_or(Reason::TcpTruncated)?;
    let header_length = usize::from(offset >> 4) * 4;
    // The rest of a first fragment's options may come in the next one.
    let lies = header_length > network.length && network.fragment == Fragment::Whole;
    if header_length < TCP_HEADER || lies {
        return Err(Reason::TcpHeaderLength);
    }
    Ok(Transport::Tcp {
        destination: u16::from_be_bytes([d0, d1]),
        opens: flags & (TCP_SYN | TCP_ACK) == TCP_SYN,
        source: u16::from_be_bytes([s0, s1]),
    })
}

#[inline(always)]
fn udp(cursor: &mut Cursor, network: &Network) -> Result<Transport, Reason> {
    require(network, UDP_HEADER, Reason::UdpTruncated)?;
    let [s0, s1, d0, d1, l0, l1] = cursor.read().ok_or(Reason::UdpTruncated)?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    // RFC 2675 4: over IPv6, 0 stands for a length that does not fit.
    let jumbo = length == 0 && matches!(network.source, Address::V6(_));
    let lies = length > network.length && network.fragment == Fragment::Whole;
    if (length < UDP_HEADER && !jumbo) || lies {
        return Err(Reason::UdpLength);
    }
    Ok(Transport::Udp { destination: u16::from_be_bytes([d0, d1]), source: u16::from_be_bytes([s0, s1]) })
}

/// The type of an ICMP message.
#[inline(always)]
fn icmp(cursor: &mut Cursor, network: &Network) -> Result<u8, Reason> {
    require(network, ICMP_HEADER, Reason::IcmpTruncated)?;
    let [kind] = cursor.read().ok_or(Reason::IcmpTruncated)?;
    Ok(kind)
}

#[inline(always)]
fn icmpv6(kind: u8, network: &Network) -> Transport {
    // RFC 6980: neighbour discovery is never fragmented.
    let neighbour = NEIGHBOUR_DISCOVERY.contains(&kind)
        && network.hop_limit == NEIGHBOUR_HOP_LIMIT
        && network.fragment == Fragment::Whole;
    if neighbour { Transport::NeighbourDiscovery } else { Transport::Other { protocol: ICMPV6 } }
}

/// RFC 1858, RFC 7112: a first fragment holds the whole transport header, or is not let in.
#[inline(always)]
fn require(network: &Network, header: usize, truncated: Reason) -> Result<(), Reason> {
    match network.fragment {
        _ if network.length >= header => Ok(()),
        Fragment::Whole => Err(truncated),
        Fragment::First | Fragment::Later { .. } => Err(Reason::FragmentTiny),
    }
}
