//! What a packet says of itself: addresses, protocol and ports, as Linux would read them.
//!
//! Whatever can't be read is a named [`Reason`]; nothing here allocates, panics, or reads past the end.

mod cursor;
mod ethernet;
mod headers;
mod ipv4;
mod ipv6;
mod segment;
mod transport;

#[cfg(test)]
mod tests;

pub use cursor::Cursor;
pub use headers::{addresses, headers};
pub(crate) use segment::{ACK, RST};
#[cfg(test)]
pub(crate) use segment::{FIN, SYN};
pub use segment::{Segment, segment};

use crate::verdict::Reason;

/// An address as it stands in the packet.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// IPv4, network order.
    V4([u8; 4]),
    /// IPv6, network order.
    V6([u8; 16]),
}

impl Address {
    /// The address as 16 bytes, IPv4 mapped into `::ffff:0:0/96` (RFC 4291 2.5.5.2).
    #[inline(always)]
    pub fn mapped(self) -> [u8; 16] {
        match self {
            Self::V4([a, b, c, d]) => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            Self::V6(bytes) => bytes,
        }
    }

    /// The mapped address as two numbers, the upper half first.
    #[inline(always)]
    pub fn words(self) -> [u64; 2] {
        match self {
            Self::V4(bytes) => [0, 0xffff_0000_0000 | u64::from(u32::from_be_bytes(bytes))],
            Self::V6([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]) => {
                [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]].map(u64::from_be_bytes)
            }
        }
    }
}

/// A frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Frame {
    /// IPv4 or IPv6.
    Ip(Packet),
    /// Anything else: ARP, LLDP, and what this filter leaves to others.
    NonIp,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Where it is going.
    pub destination: Address,
    /// Where it says it comes from.
    pub source: Address,
    /// What it carries.
    pub transport: Transport,
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// A fragment other than the first: it has no ports.
    Fragment,
    /// ICMPv6 neighbour discovery from this link, without which IPv6 does not work.
    NeighbourDiscovery,
    /// Another protocol, ICMP among them.
    Other {
        /// The IANA protocol number.
        protocol: u8,
    },
    /// A TCP segment.
    Tcp {
        /// Destination port.
        destination: u16,
        /// SYN without ACK: asks for a new connection.
        opens: bool,
        /// Source port.
        source: u16,
    },
    /// A UDP datagram.
    Udp {
        /// Destination port.
        destination: u16,
        /// Source port.
        source: u16,
    },
}

/// Where in a fragmented packet this one stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fragment {
    First,
    Later {
        /// In 8-byte units.
        offset: u16,
    },
    Whole,
}

impl Fragment {
    #[inline(always)]
    fn new(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            (offset, _) => Self::Later { offset },
        }
    }
}

/// What the IP header says.
struct Network {
    destination: Address,
    fragment: Fragment,
    hop_limit: u8,
    /// Bytes of the transport header and its payload, as the IP header counts them.
    length: usize,
    protocol: u8,
    source: Address,
}

/// Parses an Ethernet frame.
///
/// # Errors
/// The reason why it can't be read; every such packet is dropped.
#[inline(always)]
pub fn parse(mut cursor: Cursor) -> Result<Frame, Reason> {
    let network = match ethernet::parse(&mut cursor)? {
        ethernet::Payload::Ipv4 => ipv4::parse(&mut cursor)?,
        ethernet::Payload::Ipv6 => ipv6::parse(&mut cursor)?,
        ethernet::Payload::Other => return Ok(Frame::NonIp),
    };
    let transport = transport::parse(&mut cursor, &network)?;
    Ok(Frame::Ip(Packet { destination: network.destination, source: network.source, transport }))
}
