//! The packet table: what it is, the frame, the reason.
//!
//! Rows don't share sources unless they mean to, so their order does not matter but in the last group.

mod flows;

use auth_common::verdict::Reason;
use tests::frames::{ACK, Ip, SYN, tcp, udp};

pub use flows::revoked;

use super::{CONNECTIONS, HTTPS, PACKETS};

/// The budgets of the two classes.
const MORE_PACKETS: u32 = PACKETS * 2;
/// As many as a slow machine is late: what is paid in between must not count.
const BEYOND: u32 = 50;
const LESS_PACKETS: u32 = PACKETS / 2;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const NO_NEXT: u8 = 59;
const DESTINATION: u8 = 60;
const HOP_BY_HOP: u8 = 0;
const MORE: u16 = 0x2000;

const VLAN: u16 = 0x8100;
const SERVICE: u16 = 0x88a8;

const HERE: &str = "10.0.0.1";
const HERE6: &str = "fd00::1";

/// What the agent has charged the source with beforehand.
#[derive(Clone, Copy)]
pub enum Debt {
    AuthFailures,
    /// None: it authenticated lately.
    Known,
    None,
    Requests,
}

pub struct Row {
    pub debt: Debt,
    pub frame: Vec<u8>,
    pub reason: Reason,
    pub source: &'static str,
    /// The reason is that of the last time.
    pub times: u32,
    pub what: &'static str,
}

fn row(what: &'static str, frame: Vec<u8>, reason: Reason) -> Row {
    Row { debt: Debt::None, frame, reason, source: "192.0.2.255", times: 1, what }
}

fn v4(source: &str, payload: Vec<u8>) -> Ip {
    Ip::new(source, HERE, TCP, payload)
}

fn v6(source: &str, payload: Vec<u8>) -> Ip {
    Ip::new(source, HERE6, TCP, payload)
}

fn syn(port: u16) -> Vec<u8> {
    tcp(40_000, port, SYN)
}

fn ack(port: u16) -> Vec<u8> {
    tcp(40_000, port, ACK)
}

/// A frame with byte `index` of the IP packet changed.
fn with(ip: &Ip, index: usize, value: u8) -> Vec<u8> {
    let mut frame = ip.frame();
    frame[14 + index] = value;
    frame
}

fn cut(ip: &Ip, bytes: usize) -> Vec<u8> {
    ip.frame()[..14 + bytes].to_vec()
}

/// An IPv6 packet behind extension headers, each as (number, bytes); each names the next.
fn chain(source: &str, headers: &[(u8, Vec<u8>)], protocol: u8, payload: Vec<u8>) -> Ip {
    let mut extra = Vec::new();
    for (index, (_, bytes)) in headers.iter().enumerate() {
        let next = headers.get(index + 1).map_or(protocol, |(number, _)| *number);
        extra.push(next);
        extra.extend(&bytes[1..]);
    }
    let first_extension = headers.first().map(|(number, _)| *number);
    Ip { extra, first_extension, ..Ip::new(source, HERE6, protocol, payload) }
}

/// An extension header of `words` times eight bytes.
fn options(words: usize) -> Vec<u8> {
    let mut header = vec![0; words * 8];
    header[1] = (words - 1) as u8;
    header
}

/// A fragment header.
fn fragment(offset: u16, more: bool) -> Vec<u8> {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![0, 0xff, high, low, 0, 0, 0, 7]
}

/// An authentication header of `words` times four bytes.
fn authentication(words: usize) -> Vec<u8> {
    let mut header = vec![0; words * 4];
    header[1] = (words - 2) as u8;
    header
}

fn neighbour_solicitation() -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend([0; 16]);
    message
}

pub fn table() -> Vec<Row> {
    [link(), ipv4(), ipv6(), transport(), fragments(), plaintext(), policy(), flows::table(), shared()]
        .into_iter()
        .flatten()
        .collect()
}

fn link() -> Vec<Row> {
    let arp = || {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
        frame.extend([0; 28]);
        frame
    };
    let length_field = || {
        let mut frame = vec![0; 12];
        frame.extend([0, 40]);
        frame.extend([0; 46]);
        frame
    };
    let good = v4("192.0.2.1", ack(HTTPS));
    let bare_tag = || {
        let mut frame = vec![0; 12];
        frame.extend(VLAN.to_be_bytes());
        frame.extend([0, 7]);
        frame
    };
    vec![
        row("ARP passes", arp(), Reason::NonIp),
        row("802.3 with a length passes", length_field(), Reason::NonIp),
        row("an Ethernet header cut short", vec![0; 13], Reason::EthernetTruncated),
        row("no bytes at all", vec![], Reason::EthernetTruncated),
        row("one VLAN tag", good.tagged(&[VLAN]), Reason::WithinBudget),
        row("QinQ", good.tagged(&[SERVICE, VLAN]), Reason::WithinBudget),
        row("two 802.1Q tags", good.tagged(&[VLAN, VLAN]), Reason::WithinBudget),
        row("three tags", good.tagged(&[SERVICE, VLAN, VLAN]), Reason::VlanTooDeep),
        row("a tag cut short", bare_tag(), Reason::VlanTruncated),
    ]
}

fn ipv4() -> Vec<Row> {
    let good = v4("192.0.2.1", ack(HTTPS));
    let options = Ip { extra: vec![7, 39, 4], ..good.clone() };
    let options = Ip { extra: [options.extra, vec![0; 37]].concat(), ..good.clone() };
    let mut padded = v4("192.0.2.1", vec![]).frame();
    padded.extend(ack(HTTPS));
    vec![
        row("plain IPv4", good.frame(), Reason::WithinBudget),
        row("40 bytes of options", options.frame(), Reason::WithinBudget),
        row("options cut short", cut(&options, 59), Reason::Ipv4TotalLength),
        row("a header cut short", cut(&good, 19), Reason::Ipv4Truncated),
        row("version 5", with(&good, 0, 0x55), Reason::Ipv4Version),
        row("version 6 under the IPv4 ethertype", with(&good, 0, 0x65), Reason::Ipv4Version),
        row("header length 4 words", with(&good, 0, 0x44), Reason::Ipv4HeaderLength),
        row("header length 0", with(&good, 0, 0x40), Reason::Ipv4HeaderLength),
        row("header longer than the packet", with(&good, 0, 0x4f), Reason::Ipv4TotalLength),
        row("total length beyond the frame", with(&good, 3, 41), Reason::Ipv4TotalLength),
        row("total length within the header", with(&good, 3, 19), Reason::Ipv4TotalLength),
        row("total length 0", with(&good, 3, 0), Reason::Ipv4TotalLength),
        row("a TCP header that lies in the padding", padded, Reason::TcpTruncated),
        row("a multicast source", v4("224.0.0.1", ack(HTTPS)).frame(), Reason::SourceInvalid),
        row("a broadcast source", v4("255.255.255.255", ack(HTTPS)).frame(), Reason::SourceInvalid),
        row("a source from 240.0.0.0/4 may be", v4("240.0.0.1", ack(HTTPS)).frame(), Reason::WithinBudget),
        row("no source yet (DHCP)", v4("0.0.0.0", ack(HTTPS)).frame(), Reason::WithinBudget),
    ]
}

fn ipv6() -> Vec<Row> {
    let s = "2001:db8::1";
    let good = v6(s, ack(HTTPS));
    let all = chain(
        s,
        &[
            (HOP_BY_HOP, options(1)),
            (DESTINATION, options(2)),
            (ROUTING, options(3)),
            (AUTHENTICATION, authentication(6)),
            (FRAGMENT, fragment(0, false)),
            (DESTINATION, options(1)),
        ],
        TCP,
        ack(HTTPS),
    );
    let long = |count: usize| chain(s, &vec![(DESTINATION, options(1)); count], TCP, ack(HTTPS));
    let late = chain(s, &[(DESTINATION, options(1)), (HOP_BY_HOP, options(1))], TCP, ack(HTTPS));
    let lying = {
        let mut header = options(1);
        header[1] = 200;
        chain(s, &[(DESTINATION, header)], TCP, ack(HTTPS))
    };
    let jumbo = |port| {
        let mut frame = chain(s, &[(HOP_BY_HOP, options(1))], TCP, ack(port)).frame();
        frame[14 + 4..14 + 6].fill(0);
        frame
    };
    let no_next = Ip { protocol: NO_NEXT, ..v6(s, vec![]) };
    vec![
        row("plain IPv6", good.frame(), Reason::WithinBudget),
        row("a header cut short", cut(&good, 39), Reason::Ipv6Truncated),
        row("version 4 under the IPv6 ethertype", with(&good, 0, 0x45), Reason::Ipv6Version),
        row("payload length beyond the frame", with(&good, 5, 21), Reason::Ipv6PayloadLength),
        row("payload length that hides the TCP header", with(&good, 5, 19), Reason::TcpTruncated),
        row("payload length 0", with(&good, 5, 0), Reason::TcpTruncated),
        row("payload length 0 before hop-by-hop options", jumbo(HTTPS), Reason::WithinBudget),
        row("the same to port 80", jumbo(80), Reason::PlaintextPort),
        row("nothing behind the header", no_next.frame(), Reason::WithinBudget),
        row("every extension header", all.frame(), Reason::WithinBudget),
        row("six extension headers", long(6).frame(), Reason::WithinBudget),
        row("seven extension headers", long(7).frame(), Reason::Ipv6ExtensionChain),
        row("hop-by-hop options that don't come first", late.frame(), Reason::Ipv6ExtensionOrder),
        row("an extension header longer than the packet", lying.frame(), Reason::Ipv6ExtensionTruncated),
        row("a multicast source", v6("ff02::1", ack(HTTPS)).frame(), Reason::SourceInvalid),
        row("a v4-mapped source", v6("::ffff:192.0.2.1", ack(HTTPS)).frame(), Reason::SourceInvalid),
        row("loopback", v6("::1", ack(HTTPS)).frame(), Reason::WithinBudget),
    ]
}

fn transport() -> Vec<Row> {
    let s = "192.0.2.2";
    let as_protocol = |protocol, payload| Ip::new(s, HERE, protocol, payload);
    let mut short_offset = ack(HTTPS);
    short_offset[12] = 4 << 4;
    let mut long_offset = ack(HTTPS);
    long_offset[12] = 6 << 4;
    let mut udp_long = udp(53, 5_353, &[0; 4]);
    udp_long[5] = 13;
    let mut udp_short = udp(53, 5_353, &[0; 4]);
    udp_short[5] = 7;
    let mut udp_zero = udp(53, 5_353, &[0; 4]);
    udp_zero[5] = 0;
    let neighbour =
        |hop_limit| Ip { hop_limit, ..Ip::new("fe80::1", HERE6, ICMPV6, neighbour_solicitation()) };
    let fragmented = Ip {
        hop_limit: 255,
        ..chain("fe80::1", &[(FRAGMENT, fragment(0, true))], ICMPV6, neighbour_solicitation())
    };
    vec![
        row("TCP cut short", as_protocol(TCP, vec![0; 19]).frame(), Reason::TcpTruncated),
        row("TCP header length below 20", as_protocol(TCP, short_offset).frame(), Reason::TcpHeaderLength),
        row("TCP header beyond the packet", as_protocol(TCP, long_offset).frame(), Reason::TcpHeaderLength),
        row("UDP", as_protocol(UDP, udp(53, 5_353, b"hi")).frame(), Reason::WithinBudget),
        row("UDP cut short", as_protocol(UDP, vec![0; 7]).frame(), Reason::UdpTruncated),
        row("UDP length beyond the packet", as_protocol(UDP, udp_long).frame(), Reason::UdpLength),
        row("UDP length below 8", as_protocol(UDP, udp_short).frame(), Reason::UdpLength),
        row("UDP length 0 over IPv4", as_protocol(UDP, udp_zero.clone()).frame(), Reason::UdpLength),
        row(
            "UDP length 0 over IPv6",
            Ip::new("2001:db8::2", HERE6, UDP, udp_zero).frame(),
            Reason::WithinBudget,
        ),
        row("ICMP", as_protocol(ICMP, vec![8, 0, 0, 0, 0, 0, 0, 0]).frame(), Reason::WithinBudget),
        row("ICMP cut short", as_protocol(ICMP, vec![8, 0, 0, 0]).frame(), Reason::IcmpTruncated),
        row("GRE", as_protocol(47, vec![0; 8]).frame(), Reason::WithinBudget),
        // Linux takes what is behind it for a segment only if the sender and this host share its key.
        row(
            "an authentication header over IPv4 is a protocol of its own",
            as_protocol(AUTHENTICATION, [authentication(6), syn(80)].concat()).frame(),
            Reason::WithinBudget,
        ),
        row("neighbour discovery", neighbour(255).frame(), Reason::NeighbourDiscovery),
        row("neighbour discovery from afar", neighbour(64).frame(), Reason::WithinBudget),
        row("neighbour discovery in fragments", fragmented.frame(), Reason::WithinBudget),
    ]
}

fn fragments() -> Vec<Row> {
    let s = "192.0.2.3";
    let part = |fragment, payload| Ip { fragment, ..v4(s, payload) };
    let part6 = |offset, more, payload| {
        chain("2001:db8::3", &[(FRAGMENT, fragment(offset, more))], TCP, payload).frame()
    };
    let mut options_follow = ack(HTTPS);
    options_follow[12] = 15 << 4;
    options_follow.extend([0; 4]);
    vec![
        row("a first fragment with its header", part(MORE, ack(HTTPS)).frame(), Reason::WithinBudget),
        row("a first fragment, options to follow", part(MORE, options_follow).frame(), Reason::WithinBudget),
        row("a first fragment to port 80", part(MORE, ack(80)).frame(), Reason::PlaintextPort),
        row("a tiny first fragment", part(MORE, ack(HTTPS)[..16].to_vec()).frame(), Reason::FragmentTiny),
        row("a later fragment", part(3, vec![0; 8]).frame(), Reason::WithinBudget),
        row("the last fragment, tiny", part(100, vec![0]).frame(), Reason::WithinBudget),
        row("a later fragment over the ports", part(1, vec![0; 8]).frame(), Reason::FragmentOverlap),
        row("a later fragment over the flags", part(MORE | 2, vec![0; 8]).frame(), Reason::FragmentOverlap),
        row("IPv6 first fragment to port 80", part6(0, true, syn(80)), Reason::PlaintextPort),
        row("IPv6 atomic fragment to port 80", part6(0, false, syn(80)), Reason::PlaintextPort),
        row("IPv6 tiny first fragment", part6(0, true, vec![0; 8]), Reason::FragmentTiny),
        row("IPv6 later fragment", part6(3, true, vec![0; 8]), Reason::WithinBudget),
        row("IPv6 later fragment over the ports", part6(1, false, vec![0; 8]), Reason::FragmentOverlap),
        row(
            "a first fragment whose chain goes on in the next",
            chain("2001:db8::3", &[(FRAGMENT, fragment(0, true)), (DESTINATION, options(1))], TCP, vec![])
                .frame(),
            Reason::FragmentTiny,
        ),
        row(
            "a first fragment that cuts an extension header in two",
            chain("2001:db8::3", &[(FRAGMENT, fragment(0, true))], DESTINATION, options(2)[..8].to_vec())
                .frame(),
            Reason::FragmentTiny,
        ),
    ]
}

fn plaintext() -> Vec<Row> {
    let s = "192.0.2.4";
    let reason = Reason::PlaintextPort;
    let six = |headers: &[(u8, Vec<u8>)]| chain("2001:db8::4", headers, TCP, syn(80)).frame();
    vec![
        row("SYN to port 80", v4(s, syn(80)).frame(), reason),
        row("ACK to port 80", v4(s, ack(80)).frame(), reason),
        row("the other plaintext port", v4(s, syn(8_080)).frame(), reason),
        row("port 80 in a VLAN", v4(s, syn(80)).tagged(&[VLAN]), reason),
        row("port 80 in QinQ", v4(s, syn(80)).tagged(&[SERVICE, VLAN]), reason),
        row("port 80 behind options", Ip { extra: vec![1; 8], ..v4(s, syn(80)) }.frame(), reason),
        row("port 80 over IPv6", v6("2001:db8::4", syn(80)).frame(), reason),
        row(
            "port 80 behind extension headers",
            six(&[(HOP_BY_HOP, options(1)), (ROUTING, options(2))]),
            reason,
        ),
        row("port 80 behind an authentication header", six(&[(AUTHENTICATION, authentication(4))]), reason),
        row("port 80 from an allowed source", v4("203.0.113.1", syn(80)).frame(), reason),
        row("from port 80", v4(s, tcp(80, 40_000, ACK)).frame(), Reason::WithinBudget),
        row("UDP to port 80", Ip::new(s, HERE, UDP, udp(1, 80, b"")).frame(), Reason::WithinBudget),
    ]
}

fn policy() -> Vec<Row> {
    let from = |what, source: &'static str, payload: Vec<u8>, times, reason| {
        let ip = if source.contains(':') { v6(source, payload) } else { v4(source, payload) };
        Row { source, times, ..row(what, ip.frame(), reason) }
    };
    let owing = |what, source, debt, port, reason| Row { debt, ..from(what, source, ack(port), 1, reason) };
    vec![
        from("a banned network", "198.51.100.1", ack(HTTPS), 1, Reason::Banned),
        from("a banned network again, from the cache", "198.51.100.1", ack(HTTPS), 2, Reason::Banned),
        from("an allowed address in a banned network", "198.51.100.7", ack(HTTPS), 2, Reason::Allowed),
        from("a banned IPv6 network", "2001:db8:bad:7::1", ack(HTTPS), 2, Reason::Banned),
        from("a banned IPv6 address", "2001:db8:1::bad", ack(HTTPS), 2, Reason::Banned),
        from("its neighbour in the same /64", "2001:db8:1::900d", ack(HTTPS), 2, Reason::WithinBudget),
        from("the banned address, after its neighbour", "2001:db8:1::bad", ack(HTTPS), 1, Reason::Banned),
        from("an allowed IPv6 network", "2001:db8:900d::1", ack(HTTPS), 2 * PACKETS, Reason::Allowed),
        from("a guarded port from a banned source", "198.51.100.1", syn(22), 1, Reason::Guarded),
        from("a guarded port over budget", "192.0.2.10", syn(22), 2 * PACKETS, Reason::Guarded),
        from("the last packet of a budget", "192.0.2.11", ack(HTTPS), PACKETS, Reason::WithinBudget),
        from("one packet more", "192.0.2.12", ack(HTTPS), PACKETS + 1, Reason::PacketBudget),
        from(
            "a /64 shares its budget: first half",
            "2001:db8:5::1",
            ack(HTTPS),
            PACKETS,
            Reason::WithinBudget,
        ),
        from("a /64 shares its budget: second half", "2001:db8:5::2", ack(HTTPS), 1, Reason::PacketBudget),
        from("a class with more: within", "192.0.3.1", ack(HTTPS), MORE_PACKETS, Reason::WithinBudget),
        from("a class with more: beyond", "192.0.3.1", ack(HTTPS), BEYOND, Reason::PacketBudget),
        from("a class with less: within", "192.0.3.129", ack(HTTPS), LESS_PACKETS, Reason::WithinBudget),
        from("a class with less: beyond", "192.0.3.129", ack(HTTPS), BEYOND, Reason::PacketBudget),
        from(
            "a ban that is over leaves the class",
            "192.0.3.77",
            ack(HTTPS),
            MORE_PACKETS,
            Reason::WithinBudget,
        ),
        from("an IPv6 class with less", "2001:db8:c1a5:1::1", ack(HTTPS), LESS_PACKETS, Reason::WithinBudget),
        from("the same /64, beyond", "2001:db8:c1a5:1::2", ack(HTTPS), BEYOND, Reason::PacketBudget),
        from("an IPv6 class with more", "2001:db8:c1a5:2::1", ack(HTTPS), MORE_PACKETS, Reason::WithinBudget),
        from("a /64 with a banned address", "2001:db8:c1a5:2::2", ack(HTTPS), BEYOND, Reason::PacketBudget),
        Row {
            // Known, so that the breaker is left as it is.
            debt: Debt::Known,
            ..from(
                "a class with less, one connection more",
                "192.0.3.130",
                syn(HTTPS),
                2,
                Reason::ConnectionBudget,
            )
        },
        owing("far over, for its class as well", "192.0.3.131", Debt::Requests, HTTPS, Reason::RequestDebt),
        owing("far over, but not for its class", "192.0.3.2", Debt::Requests, HTTPS, Reason::WithinBudget),
        from("as many bytes as a budget has", "192.0.2.17", large(), 700, Reason::WithinBudget),
        from("more bytes", "192.0.2.18", large(), 720, Reason::ByteBudget),
        from("the last new connection", "192.0.2.13", syn(HTTPS), CONNECTIONS, Reason::WithinBudget),
        from("one connection more", "192.0.2.14", syn(HTTPS), CONNECTIONS + 1, Reason::ConnectionBudget),
        from(
            "an old connection, when new ones are refused",
            "192.0.2.14",
            ack(HTTPS),
            1,
            Reason::WithinBudget,
        ),
        owing("far over its requests", "192.0.2.15", Debt::Requests, HTTPS, Reason::RequestDebt),
        owing("requests don't count elsewhere", "192.0.2.15", Debt::None, 9_000, Reason::WithinBudget),
        owing("far over its failures", "192.0.2.16", Debt::AuthFailures, HTTPS, Reason::AuthFailureDebt),
        owing("far over over IPv6", "2001:db8:6::1", Debt::Requests, HTTPS, Reason::RequestDebt),
        owing("an allowed source that owes", "203.0.113.9", Debt::Requests, HTTPS, Reason::Allowed),
    ]
}

/// A segment with 1,400 bytes of payload: 23 blocks of 64 in its frame.
fn large() -> Vec<u8> {
    [ack(HTTPS), vec![0; 1_400]].concat()
}

/// Budgets that sources share. The rows before have opened six connections of the eight that strangers have.
fn shared() -> Vec<Row> {
    let six = |what, source: &'static str, times, reason| Row {
        source,
        times,
        ..row(what, v6(source, ack(HTTPS)).frame(), reason)
    };
    let opens = |what, source: &'static str, debt, times, reason| Row {
        debt,
        source,
        times,
        ..row(what, v4(source, syn(HTTPS)).frame(), reason)
    };
    vec![
        six("a site's first /64", "2001:db8:7:1::1", PACKETS, Reason::WithinBudget),
        six("a site's second /64", "2001:db8:7:2::1", PACKETS, Reason::WithinBudget),
        six("rotating to a third /64 does not help", "2001:db8:7:3::1", BEYOND, Reason::SiteBudget),
        six("another site is not concerned", "2001:db8:8:3::1", 1, Reason::WithinBudget),
        opens("the last stranger", "192.0.2.21", Debt::None, 2, Reason::WithinBudget),
        opens("one stranger more", "192.0.2.22", Debt::None, 1, Reason::Breaker),
        opens("a known source, with the breaker open", "192.0.2.23", Debt::Known, 1, Reason::WithinBudget),
    ]
}
