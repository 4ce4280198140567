//! Laws of the parser. Single packets and their verdicts are in the packet table of the `tests` package.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::verdict::Verdict;

/// A frame that the parser reads to the end of its transport header, of every shape it knows.
fn good_frame() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::collection::vec(prop::sample::select(vec![0x8100_u16, 0x88a8]), 0..=2);
    let network = prop_oneof![
        (0usize..=10).prop_map(|words| (0x0800, words)),
        (0usize..=6).prop_map(|headers| (0x86dd, headers)),
    ];
    let transport = prop::sample::select(vec![6u8, 17, 1, 58]);
    (tags, network, transport, any::<[u8; 4]>()).prop_map(|(tags, (ethertype, extra), protocol, ports)| {
        let mut frame = vec![0; 12];
        for tag in tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 1]);
        }
        frame.extend((ethertype as u16).to_be_bytes());
        let transport = transport_header(protocol, ports);
        if ethertype == 0x0800 {
            frame.extend(ipv4(extra, protocol, &transport));
        } else {
            frame.extend(ipv6(extra, protocol, &transport));
        }
        frame
    })
}

fn transport_header(protocol: u8, ports: [u8; 4]) -> Vec<u8> {
    let mut header = ports.to_vec();
    match protocol {
        6 => header.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]),
        17 => header.extend([0, 8, 0, 0]),
        _ => header.extend([0; 4]),
    }
    header
}

fn ipv4(words: usize, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let header = 20 + words * 4;
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + transport.len()) as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.resize(header, 1);
    packet.extend(transport);
    packet
}

fn ipv6(headers: usize, protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((headers * 8 + transport.len()) as u16).to_be_bytes());
    packet.extend([if headers == 0 { protocol } else { 60 }, 64]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    for header in 0..headers {
        packet.extend([if header + 1 == headers { protocol } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
    }
    packet.extend(transport);
    packet
}

/// Such frames come from the stack itself, in generic mode; no wire carries them.
#[test]
fn packets_longer_than_their_length_field_are_read_to_the_end_of_the_frame() {
    const PAYLOAD: usize = 100_000;
    for (network, length_field) in [
        (ipv4(0, 6, &transport_header(6, [0, 1, 0, 80])), 2),
        (ipv6(1, 6, &transport_header(6, [0, 1, 0, 80])), 4),
    ] {
        let ethertype: u16 = if length_field == 2 { 0x0800 } else { 0x86dd };
        let mut frame = vec![0; 12];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(network);
        frame[14 + length_field..14 + length_field + 2].fill(0);
        if length_field == 4 {
            frame[14 + 6] = 0;
        }
        frame.resize(frame.len() + PAYLOAD, 0xee);
        assert_eq!(ports(&frame), Some([0, 1, 0, 80]));
    }
}

fn ports(frame: &[u8]) -> Option<[u8; 4]> {
    let Frame::Ip(packet) = parse(Cursor::new(frame)).ok()? else { return None };
    let (Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination }) =
        packet.transport
    else {
        return None;
    };
    let [[a, b], [c, d]] = [source.to_be_bytes(), destination.to_be_bytes()];
    Some([a, b, c, d])
}

proptest! {
    #[test]
    fn a_good_frame_is_read_and_its_ports_are_where_the_layers_put_them(frame in good_frame()) {
        prop_assert!(parse(Cursor::new(&frame)).is_ok());
        if let Some(found) = ports(&frame) {
            prop_assert!(frame.windows(4).any(|window| window == found));
        }
    }

    /// The good frames end with their transport header, so that every cut goes through some header.
    #[test]
    fn every_truncation_is_a_named_drop(frame in good_frame()) {
        for length in 0..frame.len() {
            let result = parse(Cursor::new(&frame[..length]));
            prop_assert!(matches!(result, Err(reason) if reason.verdict() == Verdict::Drop), "{length}: {result:?}");
        }
    }

    #[test]
    fn padding_behind_the_packet_changes_nothing(frame in good_frame(), padding in 0usize..64) {
        let mut padded = frame.clone();
        padded.resize(frame.len() + padding, 0xee);
        prop_assert_eq!(parse(Cursor::new(&padded)), parse(Cursor::new(&frame)));
    }

    /// The good frames end with their transport header.
    #[test]
    fn the_headers_of_a_good_frame_end_where_the_parser_has_read_them(frame in good_frame(), payload in 0usize..64) {
        let mut first = [0xee; 1_024];
        first[..frame.len()].copy_from_slice(&frame);
        prop_assert_eq!(headers(&first), frame.len());
        let Ok(Frame::Ip(packet)) = parse(Cursor::new(&first[..frame.len() + payload])) else { panic!("not IP") };
        prop_assert_eq!(addresses(&first), Some((packet.source, packet.destination)));
    }

    /// Under Miri or a sanitizer this also shows that nothing reads past the end.
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Cursor::new(&bytes));
    }

    #[test]
    fn no_change_to_a_good_frame_makes_it_panic(
        frame in good_frame(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut frame = frame;
        for (index, value) in changes {
            let index = index.index(frame.len());
            frame[index] = value;
        }
        let _ = parse(Cursor::new(&frame));
    }
}
