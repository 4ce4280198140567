//! What the decision needs of a packet, as plain numbers.
//!
//! The BPF verifier follows every path with all that it knows of it. A parser has hundreds of paths; were each
//! followed through the rest of the program, the kernel would refuse it as too complex. So the parser's outcome
//! is put into a few numbers, which the program writes to memory and reads back: from there on the verifier
//! knows nothing of the path, and follows one.

use crate::cells::Cell;
use crate::flow::Flow;
use crate::packet::{Address, Packet, Transport};
use crate::source::SourceKey;

/// A packet in numbers. No field's bits are bound to another's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Facts {
    /// Length of the frame in blocks of [`crate::layout::BYTES_PER_BLOCK`].
    pub blocks: u64,
    /// `IPV6`, `OPENS`, `PROTECTED`, `TCP`, or'ed.
    pub flags: u64,
    /// Addresses, and ports where there are some; else 0. Whole, so that it can be looked up where it lies.
    pub flow: Flow,
}

/// The source is an IPv6 address.
pub const IPV6: u64 = 1;
/// Opens a TCP connection.
pub const OPENS: u64 = 2;
/// To a port that the agent listens on.
pub const PROTECTED: u64 = 4;
/// TCP, and not a later fragment.
pub const TCP: u64 = 8;

impl Facts {
    /// The facts of a packet whose frame has so many blocks, and whether the agent listens on its port.
    #[inline(always)]
    pub fn of(packet: &Packet, blocks: u64, protected: bool) -> Self {
        let (flags, from, to) = match packet.transport {
            Transport::Fragment | Transport::NeighbourDiscovery | Transport::Other { .. } => (0, 0, 0),
            Transport::Tcp { destination, opens: true, source } => (OPENS | TCP, source, destination),
            Transport::Tcp { destination, source, .. } => (TCP, source, destination),
            Transport::Udp { destination, source } => (0, source, destination),
        };
        let family = match packet.source {
            Address::V4(_) => 0,
            Address::V6(_) => IPV6,
        };
        let flow = Flow::new((packet.source, from), (packet.destination, to));
        let protected = if protected { PROTECTED } else { 0 };
        Self { blocks, flags: flags | family | protected, flow }
    }

    /// Whether all of these flags are set.
    #[inline(always)]
    pub fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }

    /// The source address, mapped, in network order.
    #[inline(always)]
    pub fn address(&self) -> [u8; 16] {
        let [upper, lower] = self.flow.source();
        (u128::from(upper) << 64 | u128::from(lower)).to_be_bytes()
    }

    /// The source's cell of the rules' bitmap.
    #[inline(always)]
    pub fn cell(&self) -> Cell {
        let [upper, lower] = self.flow.source();
        if self.has(IPV6) { Cell::v6((upper >> 32) as u32) } else { Cell::v4(lower as u32) }
    }

    /// The source's key: see [`SourceKey::new`].
    #[inline(always)]
    pub fn key(&self, ipv6_mask: u64) -> SourceKey {
        let [upper, lower] = self.flow.source();
        if self.has(IPV6) { SourceKey::v6(upper, ipv6_mask) } else { SourceKey::v4(lower as u32) }
    }

    /// The key of the source's site: see [`SourceKey::site`].
    #[inline(always)]
    pub fn site(&self, site_mask: u64) -> Option<SourceKey> {
        self.has(IPV6).then(|| SourceKey::v6_site(self.flow.source()[0], site_mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_tell_source_port_and_kind() {
        let v4 = Address::V4([192, 0, 2, 1]);
        let v6 = Address::V6(core::array::from_fn(|index| 0x20 + index as u8));
        let there = Address::V4([10, 0, 0, 1]);
        let tcp = |opens| Transport::Tcp { destination: 443, opens, source: 1 };
        for (source, transport, flags, [from, to]) in [
            (v4, tcp(true), OPENS | TCP, [1, 443]),
            (v6, tcp(false), IPV6 | TCP, [1, 443]),
            (v6, Transport::Udp { destination: 53, source: 1 }, IPV6, [1, 53]),
            (v4, Transport::Fragment, 0, [0, 0]),
            (v4, Transport::Other { protocol: 1 }, 0, [0, 0]),
            (v6, Transport::NeighbourDiscovery, IPV6, [0, 0]),
        ] {
            let packet = Packet { destination: there, source, transport };
            let facts = Facts::of(&packet, 3, false);
            assert_eq!((facts.flags, facts.blocks), (flags, 3), "{transport:?}");
            assert_eq!(Facts::of(&packet, 3, true).flags, flags | PROTECTED, "{transport:?}");
            assert_eq!(facts.flow, Flow::new((source, from), (there, to)), "{transport:?}");
            assert_eq!(facts.address(), source.mapped());
            assert_eq!(facts.key(u64::MAX), SourceKey::new(source, u64::MAX));
            assert_eq!(facts.site(u64::MAX << 16), SourceKey::site(source, u64::MAX << 16));
        }
    }
}
