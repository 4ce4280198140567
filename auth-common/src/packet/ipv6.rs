//! IPv6 (RFC 8200) and its extension headers.

use super::{Address, Cursor, Fragment, Network};
use crate::verdict::Reason;

/// Extension headers walked before the packet is refused: as many as RFC 8200 4.1 lets a packet have of those that
/// are walked here (each once, destination options twice). Longer chains occur only in attacks.
pub(super) const MAX_EXTENSION_HEADERS: usize = 6;

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const AUTHENTICATION: u8 = 51;
pub(super) const DESTINATION_OPTIONS: u8 = 60;

/// Reads the header and the extension headers that Linux itself walks; the cursor then stands at the
/// transport header, or behind the fragment header of a non-first fragment.
#[inline(always)]
pub(super) fn parse(cursor: &mut Cursor) -> Result<Network, Reason> {
    let [first, _, _, _, length_high, length_low, next_header, hop_limit] =
        cursor.read().ok_or(Reason::Ipv6Truncated)?;
    let source: [u8; 16] = cursor.read().ok_or(Reason::Ipv6Truncated)?;
    let destination: [u8; 16] = cursor.read().ok_or(Reason::Ipv6Truncated)?;
    if first >> 4 != 6 {
        return Err(Reason::Ipv6Version);
    }
    let length = match u16::from_be_bytes([length_high, length_low]) {
        // A jumbogram (RFC 2675), or what the stack hands to itself as one (BIG TCP): the rest of the frame.
        // Linux takes the rest without a jumbo option too.
        0 if next_header == HOP_BY_HOP => cursor.remaining(),
        length => usize::from(length),
    };
    if length > cursor.remaining() {
        return Err(Reason::Ipv6PayloadLength);
    }
    if !may_be_source(&source) {
        return Err(Reason::SourceInvalid);
    }
    let mut network = Network {
        destination: Address::V6(destination),
        fragment: Fragment::Whole,
        hop_limit,
        length,
        protocol: next_header,
        source: Address::V6(source),
    };
    walk(cursor, &mut network)?;
    Ok(network)
}

/// Multicast (RFC 4291 2.7) and v4-mapped addresses can't be a source. The latter belong on no wire, but not every
/// Linux drops them there; it would take them for the IPv4 host, and so would the rules. The source table relies on
/// both: see `source.rs`.
#[inline(always)]
fn may_be_source(address: &[u8; 16]) -> bool {
    let [high @ .., _, _, _, _] = *address;
    address[0] != 0xff && high != [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
}

#[inline(always)]
fn walk(cursor: &mut Cursor, network: &mut Network) -> Result<(), Reason> {
    for position in 0..MAX_EXTENSION_HEADERS {
        let header_length = match network.protocol {
            // RFC 8200 4.1: hop-by-hop options stand first or not at all.
            HOP_BY_HOP if position > 0 => return Err(Reason::Ipv6ExtensionOrder),
            AUTHENTICATION | DESTINATION_OPTIONS | FRAGMENT | HOP_BY_HOP | ROUTING => {
                let Some([next, length, field_high, field_low]) = cursor.read() else {
                    return Err(cut_short(network));
                };
                let bytes = match network.protocol {
                    // RFC 4302 2.2: in 4-byte words, minus 2.
                    AUTHENTICATION => (usize::from(length) + 2) * 4,
                    FRAGMENT => {
                        let field = u16::from_be_bytes([field_high, field_low]);
                        network.fragment = Fragment::new(field >> 3, field & 1 != 0);
                        8
                    }
                    // RFC 8200 4.2: in 8-byte words, not counting the first.
                    _ => (usize::from(length) + 1) * 8,
                };
                network.protocol = next;
                bytes
            }
            _ => return Ok(()),
        };
        if header_length > network.length || cursor.skip(header_length - 4).is_none() {
            return Err(cut_short(network));
        }
        network.length -= header_length;
        if let Fragment::Later { .. } = network.fragment {
            return Ok(());
        }
    }
    match network.protocol {
        AUTHENTICATION | DESTINATION_OPTIONS | FRAGMENT | HOP_BY_HOP | ROUTING => {
            Err(Reason::Ipv6ExtensionChain)
        }
        _ => Ok(()),
    }
}

/// RFC 7112: a first fragment holds the whole chain of headers. Linux would wait for the rest of it.
#[inline(always)]
fn cut_short(network: &Network) -> Reason {
    match network.fragment {
        Fragment::First => Reason::FragmentTiny,
        Fragment::Later { .. } | Fragment::Whole => Reason::Ipv6ExtensionTruncated,
    }
}
