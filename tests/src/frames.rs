//! Frames, built by layers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// TCP SYN.
pub const SYN: u8 = 0x02;
/// TCP ACK.
pub const ACK: u8 = 0x10;

/// A TCP header with no options and no payload.
pub fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut header = Vec::with_capacity(20);
    header.extend(source.to_be_bytes());
    header.extend(destination.to_be_bytes());
    header.extend([0; 8]);
    header.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

/// A UDP datagram.
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(source.to_be_bytes());
    datagram.extend(destination.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// An IPv4 or IPv6 packet; the protocol is the transport's number.
#[derive(Clone, Debug)]
pub struct Ip {
    /// Whom it is to.
    pub destination: IpAddr,
    /// IPv4: the flags and fragment offset field.
    pub fragment: u16,
    /// IPv4: options, a multiple of four bytes. IPv6: extension headers, the first's number first.
    pub extra: Vec<u8>,
    /// IPv6: the number of the first extension header, if `extra` holds any.
    pub first_extension: Option<u8>,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Protocol number.
    pub protocol: u8,
    /// Whom it is from.
    pub source: IpAddr,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Ip {
    /// A packet between two addresses of one family.
    pub fn new(source: &str, destination: &str, protocol: u8, payload: Vec<u8>) -> Self {
        let parse = |text: &str| text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self {
            destination: parse(destination),
            extra: Vec::new(),
            first_extension: None,
            fragment: 0,
            hop_limit: 64,
            payload,
            protocol,
            source: parse(source),
        }
    }

    /// With the right checksum in its TCP, UDP or ICMPv6 header.
    pub fn summed(mut self) -> Self {
        let at = match self.protocol {
            ICMPV6 => 2,
            TCP => 16,
            UDP => 6,
            _ => return self,
        };
        let mut summed = match (self.source, self.destination) {
            (IpAddr::V4(source), destination) => [source.octets(), as_v4(destination).octets()].concat(),
            (IpAddr::V6(source), destination) => [source.octets(), as_v6(destination).octets()].concat(),
        };
        summed.extend([0, self.protocol]);
        summed.extend((self.payload.len() as u16).to_be_bytes());
        if let Some(field) = self.payload.get_mut(at..at + 2) {
            field.fill(0);
            summed.extend(&self.payload);
            self.payload[at..at + 2].copy_from_slice(&checksum(&summed).to_be_bytes());
        }
        self
    }

    /// As bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V6(source), destination) => self.v6(source, as_v6(destination)),
            (IpAddr::V4(source), destination) => self.v4(source, as_v4(destination)),
        }
    }

    /// In an Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        self.tagged(&[])
    }

    /// In an Ethernet frame with VLAN tags of these ethertypes.
    pub fn tagged(&self, tags: &[u16]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        let ethertype = if self.source.is_ipv6() { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        frame.extend(ethertype.to_be_bytes());
        frame.extend(self.bytes());
        frame
    }

    fn v4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let header = 20 + self.extra.len();
        let mut packet = vec![0x40 | (header / 4) as u8, 0];
        packet.extend(((header + self.payload.len()) as u16).to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([self.hop_limit, self.protocol, 0, 0]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(&self.extra);
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(&self.payload);
        packet
    }

    fn v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(((self.extra.len() + self.payload.len()) as u16).to_be_bytes());
        packet.extend([self.first_extension.unwrap_or(self.protocol), self.hop_limit]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(&self.extra);
        packet.extend(&self.payload);
        packet
    }
}

fn as_v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
