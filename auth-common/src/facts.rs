//! What the decision needs of a packet, as plain numbers.
//!
//! The BPF verifier follows every path with all that it knows of it. A parser has hundreds of paths; were each
//! followed through the rest of the program, the kernel would refuse it as too complex. So the parser's outcome
//! is put into a few numbers, which the program writes to memory and reads back: from there on the verifier
//! knows nothing of the path, and follows one.

use crate::packet::{Address, Packet, Transport};

/// A packet in numbers. No field's bits are bound to another's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Facts {
    /// Length of the frame in blocks of [`crate::layout::BYTES_PER_BLOCK`].
    pub blocks: u64,
    /// `IPV6`, `NEIGHBOUR`, `OPENS`, `PORT`, `TCP`, or'ed.
    pub flags: u64,
    /// Destination port, where there is one.
    pub port: u64,
    /// The source address, mapped, in network order.
    pub source: [u8; 16],
}

/// The source is an IPv6 address.
pub const IPV6: u64 = 1;
/// Neighbour discovery.
pub const NEIGHBOUR: u64 = 2;
/// Opens a TCP connection.
pub const OPENS: u64 = 4;
/// Has ports: TCP or UDP, and not a later fragment.
pub const PORT: u64 = 8;
/// TCP.
pub const TCP: u64 = 16;

impl Facts {
    /// The facts of a packet whose frame has so many blocks.
    #[inline(always)]
    pub fn of(packet: &Packet, blocks: u64) -> Self {
        let (flags, port) = match packet.transport {
            Transport::Fragment | Transport::Other { .. } => (0, 0),
            Transport::NeighbourDiscovery => (NEIGHBOUR, 0),
            Transport::Tcp { destination, opens: true, .. } => (OPENS | PORT | TCP, destination),
            Transport::Tcp { destination, .. } => (PORT | TCP, destination),
            Transport::Udp { destination, .. } => (PORT, destination),
        };
        let family = match packet.source {
            Address::V4(_) => 0,
            Address::V6(_) => IPV6,
        };
        Self { blocks, flags: flags | family, port: u64::from(port), source: packet.source.mapped() }
    }

    /// Whether all of these flags are set.
    #[inline(always)]
    pub fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }

    /// The source address.
    #[inline(always)]
    pub fn source(&self) -> Address {
        if self.has(IPV6) {
            return Address::V6(self.source);
        }
        let [.., a, b, c, d] = self.source;
        Address::V4([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_tell_source_port_and_kind() {
        let v4 = Address::V4([192, 0, 2, 1]);
        let v6 = Address::V6([0xfe; 16]);
        let tcp = |opens| Transport::Tcp { destination: 443, opens, source: 1 };
        for (source, transport, flags, port) in [
            (v4, tcp(true), OPENS | PORT | TCP, 443),
            (v6, tcp(false), IPV6 | PORT | TCP, 443),
            (v6, Transport::Udp { destination: 53, source: 1 }, IPV6 | PORT, 53),
            (v4, Transport::Fragment, 0, 0),
            (v4, Transport::Other { protocol: 1 }, 0, 0),
            (v6, Transport::NeighbourDiscovery, IPV6 | NEIGHBOUR, 0),
        ] {
            let facts = Facts::of(&Packet { destination: source, source, transport }, 3);
            assert_eq!((facts.flags, facts.port, facts.blocks), (flags, port, 3), "{transport:?}");
            assert_eq!(facts.source(), source);
        }
    }
}
