//! The answer to a segment that is refused: a reset, as a host without that connection sends it (RFC 9293 3.10.7.1).
//!
//! It is made in place of what it answers: the headers of the IP packet become those of the answer. It is never longer
//! than a minimal frame or than what it answers, and the program limits how many go out: a spoofed source gains
//! nothing by having us answer.

#[cfg(test)]
mod tests;

use crate::packet::{ACK, RST, Segment};

/// Hop limit of what is sent: the Internet's default (RFC 1700).
const HOP_LIMIT: u8 = 64;
const TCP: u8 = 6;
const TCP_HEADER: usize = 20;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Bytes of an answer over IPv4, from the IP header on.
pub const IPV4_REPLY: usize = IPV4_HEADER + TCP_HEADER;
/// Bytes of an answer over IPv6, from the IP header on.
pub const IPV6_REPLY: usize = IPV6_HEADER + TCP_HEADER;

/// Whether a segment is answered at all: a reset is not, lest two hosts answer each other for ever.
#[inline(always)]
pub fn is_answered(segment: &Segment) -> bool {
    segment.flags & RST == 0
}

/// Makes an IPv4 packet, of which these are the first bytes, the answer to its `segment`.
#[inline(always)]
pub fn answer_ipv4(packet: &mut [u8; IPV4_REPLY], segment: &Segment) {
    const DONT_FRAGMENT: u8 = 0x40;
    packet[..12].copy_from_slice(&[
        0x45,
        0,
        0,
        IPV4_REPLY as u8,
        0,
        0,
        DONT_FRAGMENT,
        0,
        HOP_LIMIT,
        TCP,
        0,
        0,
    ]);
    for index in 12..16 {
        packet.swap(index, index + 4);
    }
    packet[IPV4_HEADER..].copy_from_slice(&tcp(segment));
    let checksum = fold(sum(&packet[..IPV4_HEADER]));
    packet[10..12].copy_from_slice(&checksum);
    // Both addresses, and the TCP header behind them.
    let checksum = fold(sum(&packet[12..]) + PSEUDO);
    packet[IPV4_HEADER + CHECKSUM..][..2].copy_from_slice(&checksum);
}

/// Makes an IPv6 packet, of which these are the first bytes, the answer to its `segment`.
#[inline(always)]
pub fn answer_ipv6(packet: &mut [u8; IPV6_REPLY], segment: &Segment) {
    packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, TCP_HEADER as u8, TCP, HOP_LIMIT]);
    for index in 8..24 {
        packet.swap(index, index + 16);
    }
    packet[IPV6_HEADER..].copy_from_slice(&tcp(segment));
    // Both addresses, and the TCP header behind them.
    let checksum = fold(sum(&packet[8..]) + PSEUDO);
    packet[IPV6_HEADER + CHECKSUM..][..2].copy_from_slice(&checksum);
}

/// The TCP header of the answer, without its checksum.
#[inline(always)]
fn tcp(segment: &Segment) -> [u8; TCP_HEADER] {
    const WORDS: u8 = (TCP_HEADER / 4) as u8;
    let (sequence, acknowledgment, flags) = match segment.flags & ACK {
        0 => (0, segment.sequence.wrapping_add(segment.length), RST | ACK),
        _ => (segment.acknowledgment, 0, RST),
    };
    let [s0, s1] = segment.destination.to_be_bytes();
    let [d0, d1] = segment.source.to_be_bytes();
    let [q0, q1, q2, q3] = u32::to_be_bytes(sequence);
    let [a0, a1, a2, a3] = u32::to_be_bytes(acknowledgment);
    [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, WORDS << 4, flags, 0, 0, 0, 0, 0, 0]
}

/// Where the checksum stands in a TCP header.
const CHECKSUM: usize = 16;

/// Protocol and length, as the pseudo header has them (RFC 9293 3.1, RFC 8200 8.1).
const PSEUDO: u32 = TCP as u32 + TCP_HEADER as u32;

/// Sum of the 16-bit words of an even number of bytes; far too few to overflow.
#[inline(always)]
fn sum(bytes: &[u8]) -> u32 {
    let (words, _) = bytes.as_chunks::<2>();
    words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum()
}

/// The Internet checksum (RFC 1071).
#[inline(always)]
fn fold(sum: u32) -> [u8; 2] {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}
