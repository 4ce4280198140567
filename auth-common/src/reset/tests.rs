use std::vec::Vec;

use super::*;
use crate::packet::{self, Cursor, FIN, SYN};

const PORT: u16 = 80;
const CLIENT: u16 = 40_000;
const SEQUENCE: u32 = 0xffff_fffe;
const ACKNOWLEDGED: u32 = 0x0102_0304;

fn v4(source: [u8; 4], destination: [u8; 4], tcp: &[u8]) -> Vec<u8> {
    let total = (IPV4_HEADER + tcp.len()) as u16;
    let mut packet = std::vec![0x45, 0, (total >> 8) as u8, total as u8, 0, 9, 0, 0, 50, TCP, 0, 0];
    packet.extend(source.into_iter().chain(destination).chain(tcp.iter().copied()));
    packet
}

fn v6(source: [u8; 16], destination: [u8; 16], tcp: &[u8]) -> Vec<u8> {
    let mut packet = std::vec![0x60, 1, 2, 3, (tcp.len() >> 8) as u8, tcp.len() as u8, TCP, 50];
    packet.extend(source.into_iter().chain(destination).chain(tcp.iter().copied()));
    packet
}

const HERE: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const THERE: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7, 0, 9, 0, 0, 0, 3, 0, 7];

/// The same segment over both families.
fn asked(flags: u8, payload: usize) -> [Vec<u8>; 2] {
    let mut tcp: Vec<u8> = CLIENT.to_be_bytes().into_iter().chain(PORT.to_be_bytes()).collect();
    tcp.extend(SEQUENCE.to_be_bytes().into_iter().chain(ACKNOWLEDGED.to_be_bytes()));
    tcp.extend([0x50, flags, 1, 2, 3, 4, 5, 6]);
    tcp.extend(std::iter::repeat_n(7, payload));
    [v4([192, 0, 2, 7], [198, 51, 100, 1], &tcp), v6(THERE, HERE, &tcp)]
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    [0; 12].into_iter().chain(ethertype).chain(packet.iter().copied()).collect()
}

fn segment(packet: &[u8]) -> Option<Segment> {
    packet::segment(Cursor::new(&frame(packet)))
}

fn answer(mut packet: Vec<u8>) -> Vec<u8> {
    let segment = segment(&packet).unwrap();
    match segment.ipv6 {
        false => {
            answer_ipv4(packet.first_chunk_mut().unwrap(), &segment);
            packet.truncate(IPV4_REPLY);
        }
        true => {
            answer_ipv6(packet.first_chunk_mut().unwrap(), &segment);
            packet.truncate(IPV6_REPLY);
        }
    }
    packet
}

#[test]
fn a_segment_is_answered_as_by_a_host_without_the_connection() {
    for (flags, payload, sequence, acknowledgment, told) in [
        (SYN, 0, 0, 0xffff_ffff, RST | ACK),
        (SYN, 3, 0, 2, RST | ACK),
        (FIN, 0, 0, 0xffff_ffff, RST | ACK),
        (0, 100, 0, 98, RST | ACK),
        (ACK, 100, ACKNOWLEDGED, 0, RST),
        (SYN | ACK, 0, ACKNOWLEDGED, 0, RST),
    ] {
        for asked in asked(flags, payload) {
            let answered = segment(&answer(asked)).unwrap();
            assert_eq!((answered.source, answered.destination), (PORT, CLIENT));
            let found = (answered.sequence, answered.acknowledgment, answered.flags);
            assert_eq!(found, (sequence, acknowledgment, told), "to {flags:#x} with {payload} bytes");
            assert_eq!(answered.length, 0);
            assert!(!is_answered(&answered), "or it would be answered in turn");
        }
    }
}

#[test]
fn an_answer_goes_back_with_right_checksums() {
    let [v4, v6] = asked(SYN, 0).map(answer);
    assert_eq!((&v4[12..16], &v4[16..20]), (&[198, 51, 100, 1][..], &[192, 0, 2, 7][..]));
    assert_eq!((&v6[8..24], &v6[24..40]), (&HERE[..], &THERE[..]));
    // RFC 1071: over what is sent with its checksum, the sum is all ones.
    assert_eq!(fold(sum(&v4[..20])), [0, 0]);
    assert_eq!(fold(sum(&v4[12..]) + PSEUDO), [0, 0]);
    assert_eq!(fold(sum(&v6[8..]) + PSEUDO), [0, 0]);
}

#[test]
fn what_is_not_a_whole_segment_between_two_hosts_has_no_answer() {
    let [whole, whole6] = asked(SYN, 0);
    assert!(segment(&whole).is_some() && segment(&whole6).is_some());
    let with = |packet: &[u8], at: usize, bytes: &[u8]| {
        let mut packet = packet.to_vec();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    for (what, packet) in [
        ("from nobody", with(&whole, 12, &[0, 0, 0, 0])),
        ("to multicast", with(&whole, 16, &[224, 0, 0, 1])),
        ("to broadcast", with(&whole, 16, &[255; 4])),
        ("from nobody over IPv6", with(&whole6, 8, &[0; 16])),
        ("to multicast over IPv6", with(&whole6, 24, &[0xff, 2])),
        ("a first fragment", with(&whole, 6, &[0x20, 0])),
        ("a later fragment", with(&whole, 6, &[0, 9])),
        ("another protocol", with(&whole, 9, &[17])),
        ("a header longer than the packet", with(&whole, 32, &[0x60])),
        ("a cut header", whole[..39].to_vec()),
    ] {
        assert_eq!(segment(&packet), None, "{what}");
    }
}
