//! What is sent, and what stands against it.

use std::net::Ipv4Addr;

use auth_common::flood::Flood;
use auth_common::sequence::{ALL, Sequence};

use crate::frames::{Ip, SYN, checksum, tcp};

/// The plaintext port.
pub const HTTP: u16 = 80;
/// The agent's port.
pub const HTTPS: u16 = 443;

/// 198.51.100.7
const ONE: Sequence = Sequence::new(0xc633_6407, 1);
const SPOOFED: Sequence = Sequence::new(0x8000_0000, ALL);

/// A flood of packets that ask for a connection.
pub struct Attack {
    /// As in the report.
    pub name: &'static str,
    /// Where they go.
    pub port: u16,
    /// Where they seem to come from.
    pub sources: Sequence,
}

/// The cell without a flood.
pub const UNDISTURBED: &str = "none";

/// The floods, in the order of the report.
pub const ATTACKS: [Attack; 4] = [
    Attack { name: "one_80", port: HTTP, sources: ONE },
    Attack { name: "one_443_syn", port: HTTPS, sources: ONE },
    Attack { name: "spoofed_80", port: HTTP, sources: SPOOFED },
    Attack { name: "spoofed_443_syn", port: HTTPS, sources: SPOOFED },
];

impl Attack {
    /// Its packet, which lacks source and checksums; the generator's program writes them.
    pub fn frame(&self, destination: Ipv4Addr) -> Vec<u8> {
        let header = tcp(0, self.port, SYN);
        Ip::new("0.0.0.0", &destination.to_string(), 6, header).frame()
    }

    /// What the generator's program is told; packets are numbered from `next` on.
    pub fn flood(&self, frame: &[u8], interface: u32, per_second: u32, next: u64) -> Flood {
        let (network, transport) = (&frame[14..34], &frame[34..]);
        // The header that goes before the TCP header in its sum (RFC 9293, 3.1).
        let mut pseudo = network[12..20].to_vec();
        pseudo.extend([0, 6]);
        pseudo.extend((transport.len() as u16).to_be_bytes());
        pseudo.extend(transport);
        let mut network = network.to_vec();
        network[10..12].fill(0);
        let sum = |bytes: &[u8]| u64::from(!checksum(bytes));
        Flood {
            sources: Sequence { next, ..self.sources },
            due: 0,
            gap: 1_000_000_000 / u64::from(per_second),
            interface: interface.into(),
            network_sum: sum(&network),
            transport_sum: sum(&pseudo),
        }
    }
}

/// What drops the flood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Variant {
    /// A ruleset that does what the filter does.
    Nftables,
    /// Nothing but the host's own stack.
    Unfiltered,
    /// The filter.
    Xdp,
}

impl Variant {
    /// In the order of the report.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::Nftables, Self::Unfiltered];

    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Unfiltered => "unfiltered",
            Self::Xdp => "xdp",
        }
    }
}

#[cfg(test)]
mod tests {
    use auth_common::flood;

    use super::*;

    /// As the generator's program writes them; a right checksum makes the whole sum up to nothing.
    #[test]
    fn every_packet_of_a_flood_has_the_checksums_that_linux_accepts() {
        for attack in &ATTACKS {
            let mut frame = attack.frame(Ipv4Addr::new(10, 77, 0, 1));
            let flood = attack.flood(&frame, 1, 100_000, 0);
            for packet in [0, 1, 4_711, 1 << 29] {
                let (address, port) = (flood.sources.address(packet), Flood::port(packet));
                frame[26..30].copy_from_slice(&address.to_be_bytes());
                frame[34..36].copy_from_slice(&port.to_be_bytes());
                let transport = flood::checksum(flood.transport_sum + u64::from(port), address);
                frame[24..26].copy_from_slice(&flood::checksum(flood.network_sum, address).to_be_bytes());
                frame[50..52].copy_from_slice(&transport.to_be_bytes());
                assert_eq!(checksum(&frame[14..34]), 0, "{}: packet {packet}", attack.name);
                let pseudo = [&frame[26..34], &[0, 6, 0, 20], &frame[34..]].concat();
                assert_eq!(checksum(&pseudo), 0, "{}: packet {packet}", attack.name);
            }
        }
    }
}
