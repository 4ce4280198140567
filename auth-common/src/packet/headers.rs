//! What a report may show of a frame, be it well-formed or not: its headers, and the addresses in them.
//!
//! A walk of its own over a copy of the first bytes: unlike [`super::parse`] it judges nothing, and so costs the BPF
//! verifier next to nothing. A law in the tests holds it to where `parse` finds the headers.

use super::ethernet::{IPV4, IPV6, MAX_VLAN_TAGS, VLAN, VLAN_SERVICE};
use super::ipv6::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, MAX_EXTENSION_HEADERS, ROUTING,
};
use super::transport::{ICMP, ICMP_HEADER, ICMPV6, TCP, TCP_HEADER, UDP, UDP_HEADER};
use super::{Address, ipv4};

const IPV6_HEADER: usize = 40;

/// Bytes from the start of a frame to the end of its transport header, given its first `N` bytes: what lies behind
/// may be a secret. A fragment's headers end with those of IP, as does what carries another protocol. `N` where the
/// headers go on beyond.
#[inline(always)]
pub fn headers<const N: usize>(frame: &[u8; N]) -> usize {
    end(frame).unwrap_or(N).min(N)
}

/// Source and destination of a frame, given its first bytes, also where the parser refuses it.
pub fn addresses(frame: &[u8]) -> Option<(Address, Address)> {
    let (at, ethertype) = network(frame)?;
    let version = byte(frame, at)? >> 4;
    match (ethertype, version) {
        (IPV4, 4) => Some((Address::V4(read(frame, at + 12)?), Address::V4(read(frame, at + 16)?))),
        (IPV6, 6) => Some((Address::V6(read(frame, at + 8)?), Address::V6(read(frame, at + 24)?))),
        _ => None,
    }
}

#[inline(always)]
fn end(frame: &[u8]) -> Option<usize> {
    let (at, ethertype) = network(frame)?;
    match ethertype {
        IPV4 => behind_ipv4(frame, at),
        IPV6 => behind_ipv6(frame, at),
        _ => Some(at),
    }
}

/// Where the network header starts, and the ethertype.
#[inline(always)]
fn network(frame: &[u8]) -> Option<(usize, u16)> {
    let mut at = 14;
    let mut ethertype = word(frame, 12)?;
    for _ in 0..MAX_VLAN_TAGS {
        if ethertype != VLAN && ethertype != VLAN_SERVICE {
            break;
        }
        ethertype = word(frame, at + 2)?;
        at += 4;
    }
    Some((at, ethertype))
}

#[inline(always)]
fn behind_ipv4(frame: &[u8], at: usize) -> Option<usize> {
    let words = byte(frame, at)? & 0x0f;
    let later = word(frame, at + 6)? & ipv4::OFFSET != 0;
    let protocol = byte(frame, at + 9)?;
    let behind = at + (usize::from(words) * 4).max(ipv4::HEADER);
    if later { Some(behind) } else { behind_transport(frame, behind, protocol) }
}

#[inline(always)]
fn behind_ipv6(frame: &[u8], at: usize) -> Option<usize> {
    let mut protocol = byte(frame, at + 6)?;
    let mut at = at + IPV6_HEADER;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !matches!(protocol, AUTHENTICATION | DESTINATION_OPTIONS | FRAGMENT | HOP_BY_HOP | ROUTING) {
            break;
        }
        let [next, length, high, low] = read(frame, at)?;
        at += match protocol {
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            FRAGMENT if u16::from_be_bytes([high, low]) >> 3 != 0 => return Some(at + 8),
            FRAGMENT => 8,
            _ => (usize::from(length) + 1) * 8,
        };
        protocol = next;
    }
    behind_transport(frame, at, protocol)
}

#[inline(always)]
fn behind_transport(frame: &[u8], at: usize, protocol: u8) -> Option<usize> {
    let header = match protocol {
        TCP => (usize::from(byte(frame, at + 12)? >> 4) * 4).max(TCP_HEADER),
        UDP => UDP_HEADER,
        ICMP | ICMPV6 => ICMP_HEADER,
        _ => 0,
    };
    Some(at + header)
}

#[inline(always)]
fn byte(frame: &[u8], at: usize) -> Option<u8> {
    frame.get(at).copied()
}

#[inline(always)]
fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(read(frame, at)?))
}

/// One check for all `M` bytes: the BPF verifier does not tie a second one to the pointer of the first.
#[inline(always)]
fn read<const M: usize>(frame: &[u8], at: usize) -> Option<[u8; M]> {
    frame.get(at..at + M)?.first_chunk().copied()
}
