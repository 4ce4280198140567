//! IPv4 (RFC 791), options skipped.

use super::{Address, Cursor, Fragment, Network};
use crate::verdict::Reason;

pub(super) const HEADER: usize = 20;
const MAX_TOTAL: usize = 65_535;
const MORE_FRAGMENTS: u16 = 0x2000;
pub(super) const OFFSET: u16 = 0x1fff;

/// Reads the header; the cursor then stands at the transport header.
///
/// Bytes behind `total length` are padding that Linux cuts off before it looks at the transport header,
/// so [`Network::length`] counts from `total length`, not from what is left in the frame.
#[inline(always)]
pub(super) fn parse(cursor: &mut Cursor) -> Result<Network, Reason> {
    let available = cursor.remaining();
    let header: [u8; HEADER] = cursor.read().ok_or(Reason::Ipv4Truncated)?;
    let [first, _, total_high, total_low, _, _, fragment_high, fragment_low, ttl, protocol, ..] = header;
    if first >> 4 != 4 {
        return Err(Reason::Ipv4Version);
    }
    let header_length = usize::from(first & 0x0f) * 4;
    if header_length < HEADER {
        return Err(Reason::Ipv4HeaderLength);
    }
    let total = match u16::from_be_bytes([total_high, total_low]) {
        // What the stack hands to itself in one piece, longer than the field can say (BIG TCP).
        0 if available > MAX_TOTAL => available,
        total => usize::from(total),
    };
    if total < header_length || total > available {
        return Err(Reason::Ipv4TotalLength);
    }
    cursor.skip(header_length - HEADER).ok_or(Reason::Ipv4Truncated)?;

    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    // Multicast and broadcast can't be a source (RFC 1122 3.2.1.3; net/ipv4/route.c drops both).
    let broadcast = [s0, s1, s2, s3] == [255; 4];
    if s0 & 0xf0 == 224 || broadcast {
        return Err(Reason::SourceInvalid);
    }
    let flags = u16::from_be_bytes([fragment_high, fragment_low]);
    Ok(Network {
        destination: Address::V4([d0, d1, d2, d3]),
        fragment: Fragment::new(flags & OFFSET, flags & MORE_FRAGMENTS != 0),
        hop_limit: ttl,
        length: total - header_length,
        protocol,
        source: Address::V4([s0, s1, s2, s3]),
    })
}
