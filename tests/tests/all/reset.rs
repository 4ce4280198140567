//! Plaintext ports that say so: the reset that answers them (promise P1).

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use auth_agent::config::{Kernel, PlaintextAnswer};
use auth_agent::events::Switch as _;
use auth_common::event;
use auth_common::gcra::Limit;
use auth_common::packet::{self, Cursor};
use auth_common::verdict::Reason;
use tests::frames::{ACK, Ip, SYN, checksum, tcp};
use tests::kernel::{FilterUnderTest, XDP_DROP, XDP_TX};
use tests::privilege;
use tests::stage::{EDGE, EDGE6, Stage};

use crate::filter::{RESETS, kernel, limits};

const HERE: [&str; 2] = ["10.0.0.1", "fd00::1"];
const VLAN: u16 = 0x8100;
const SERVICE: u16 = 0x88a8;
const RST: u8 = 0x04;

fn start() -> FilterUnderTest {
    let kernel = Kernel { plaintext: PlaintextAnswer::Reset, ..kernel() };
    FilterUnderTest::start(kernel, &limits(), &[], &[]).unwrap()
}

fn knock(source: &str, destination: &str, payload: usize) -> Ip {
    Ip::new(source, destination, 6, [tcp(40_000, 80, SYN), vec![7; payload]].concat())
}

/// The sum over the pseudo header and the TCP header of an answer.
fn tcp_checksum(network: &[u8]) -> u16 {
    match network[0] >> 4 {
        4 => checksum(&[&network[12..20], &[0, 6, 0, 20], &network[20..40]].concat()),
        _ => checksum(&[&network[8..40], &[0, 0, 0, 20, 0, 0, 0, 6], &network[40..60]].concat()),
    }
}

#[test]
fn a_segment_to_a_plaintext_port_becomes_its_own_reset() {
    if !privilege::kernel_usable("resets in the kernel") {
        return;
    }
    for (source, destination, tags, payload) in [
        ("192.0.2.1", HERE[0], &[][..], 0),
        ("192.0.2.1", HERE[0], &[VLAN], 1_000),
        ("192.0.2.1", HERE[0], &[SERVICE, VLAN], 1),
        ("2001:db8::1", HERE[1], &[], 0),
        ("2001:db8::1", HERE[1], &[VLAN], 700),
        ("2001:db8::1", HERE[1], &[SERVICE, VLAN], 5),
    ] {
        let mut filter = start();
        let frame = knock(source, destination, payload).tagged(tags);
        let (verdict, answer) = filter.transform(&frame).unwrap();
        let what = format!("{source} {tags:x?} {payload}");
        assert_eq!(verdict, XDP_TX, "{what}");
        assert_eq!((&answer[..6], &answer[6..12]), (&frame[6..12], &frame[..6]), "{what}: MAC addresses");
        let link = 14 + 4 * tags.len();
        assert_eq!(answer[12..link], frame[12..link], "{what}: tags and ethertype");
        let header = if source.contains(':') { 60 } else { 40 };
        assert_eq!(answer.len(), frame.len().min((link + header).max(60)), "{what}");
        let network = &answer[link..link + header];
        assert_eq!(tcp_checksum(network), 0, "{what}");
        if header == 40 {
            assert_eq!(checksum(&network[..20]), 0, "{what}");
        }
        let [asked, told] = [&frame, &answer].map(|frame| packet::segment(Cursor::new(frame)).unwrap());
        let address = if header == 40 { 4 } else { 16 };
        let [from, to] = [network.len() - 20 - 2 * address, network.len() - 20 - address];
        let before = &frame[link..];
        assert_eq!(network[from..][..address], before[to..][..address], "{what}: from");
        assert_eq!(network[to..][..address], before[from..][..address], "{what}: to");
        assert_eq!((told.source, told.destination), (80, 40_000), "{what}");
        assert_eq!((told.flags, told.sequence), (RST | ACK, 0), "{what}");
        assert_eq!(told.acknowledgment, asked.sequence + asked.length, "{what}");
        assert_eq!(filter.counts().unwrap()[&(Reason::PlaintextReset as usize)], 1, "{what}");
    }
}

#[test]
fn what_must_not_be_answered_is_dropped_as_it_is() {
    if !privilege::kernel_usable("what is not answered") {
        return;
    }
    let mut filter = start();
    let to_many = |octet: usize| {
        let mut frame = knock("192.0.2.1", HERE[0], 0).frame();
        frame[octet] |= 1;
        frame
    };
    let reset = Ip::new("192.0.2.1", HERE[0], 6, tcp(40_000, 80, RST)).frame();
    let first_fragment = Ip { fragment: 0x2000, ..knock("192.0.2.1", HERE[0], 8) }.frame();
    let nobody = knock("0.0.0.0", HERE[0], 0).frame();
    let multicast = knock("192.0.2.1", "224.0.0.1", 0).frame();
    for frame in [to_many(0), to_many(6), reset, first_fragment, nobody, multicast] {
        let (verdict, made) = filter.transform(&frame).unwrap();
        assert_eq!((verdict, &made), (XDP_DROP, &frame));
    }
    assert_eq!(filter.counts().unwrap()[&(Reason::PlaintextPort as usize)], 6);
}

#[test]
fn beyond_their_limit_segments_vanish() {
    if !privilege::kernel_usable("the limit of resets") {
        return;
    }
    let mut filter = start();
    let knocks: Vec<_> =
        (0..2 * RESETS).map(|host| knock(&format!("192.0.2.{host}"), HERE[0], 0).frame()).collect();
    let verdicts: Vec<_> = knocks.iter().map(|frame| filter.verdict(frame, 1).unwrap()).collect();
    assert_eq!(verdicts[..RESETS as usize], [XDP_TX; RESETS as usize]);
    assert_eq!(verdicts[RESETS as usize..], [XDP_DROP; RESETS as usize]);
}

#[test]
fn a_sample_shows_what_was_answered_and_not_the_answer() {
    if !privilege::kernel_usable("samples of what is answered") {
        return;
    }
    let mut filter = start();
    filter.switch.set(event::bit(Reason::PlaintextReset), Limit::new(1_000, 1_000_000_000, 1_000)).unwrap();
    let frame = knock("192.0.2.1", HERE[0], 0).frame();
    assert_eq!(filter.verdict(&frame, 1).unwrap(), XDP_TX);
    let sample = filter.ring.pop().unwrap();
    assert_eq!((sample.reason(), sample.headers()), (Some(Reason::PlaintextReset), frame.as_slice()));
    assert!(filter.ring.pop().is_none());
}

#[test]
fn a_client_is_told_at_once_that_nobody_listens() {
    if !privilege::kernel_usable("resets on the wire") {
        return;
    }
    let mut stage = Stage::without_agent("").unwrap();
    // Native XDP on veth sends only if the peer has a program, too.
    stage.setup.configure("edge0", "generic", "http://127.0.0.1:9000", "").unwrap();
    stage.setup.configure_kernel("plaintext = \"reset\"").unwrap();
    stage.restart().unwrap();
    let addresses: [IpAddr; 2] = [EDGE.into(), Ipv6Addr::into(EDGE6)];
    for address in addresses {
        let refused = stage
            .crowd
            .run(|| {
                let connected =
                    TcpStream::connect_timeout(&SocketAddr::new(address, 80), Duration::from_secs(10));
                Ok(connected.map(drop).map_err(|error| error.kind()))
            })
            .unwrap();
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{address}");
    }
    assert_eq!(stage.setup.counter("plaintext-reset").unwrap(), 2);
}
