//! Which cases are generated, and how often.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::select;
use tests::frames::{ACK, SYN};
use tests::raw;

use super::case::{
    ALLOWED, Address, BANNED, Case, Change, Cut, Extension, Mutation, Network, Payload, Pieces,
};

const VLAN: [u8; 2] = [0x81, 0x00];
const SERVICE: [u8; 2] = [0x88, 0xa8];

pub fn cases() -> impl Strategy<Value = Case> {
    let rough = (
        prop_oneof![3 => Just(vec![]), 2 => prop::collection::vec(mutations(), 1..3)],
        prop::option::weighted(0.2, cuts()),
        prop_oneof![3 => Just(0), 1 => 1_usize..30],
        prop::bool::weighted(0.97),
        select(vec![64, 64, 255]),
        prop::bool::weighted(0.04),
    );
    let whole = (networks(), payloads(), prop::option::weighted(0.3, pieces()), tags());
    (whole, sources(), destinations(), rough).prop_map(
        |((network, payload, pieces, tags), source, destination, rough)| {
            let (mutations, cut, padding, honest_checksum, hop_limit, lengthless) = rough;
            // Fragments of all who share an address would be put together.
            let source = if pieces.is_some() { Address::Own(1) } else { source };
            Case {
                cut,
                destination,
                honest_checksum,
                hop_limit,
                lengthless,
                mutations,
                network,
                padding,
                payload,
                pieces,
                source,
                tags,
            }
        },
    )
}

/// Linux takes off any number of tags of VLAN 0, which stand for a priority, where it has no VLAN devices.
fn tags() -> impl Strategy<Value = Vec<[u8; 4]>> {
    let tag =
        (select(vec![VLAN, SERVICE]), select(vec![[0, 0], [0, 0], [0xe0, 0], [0xe0, 0], [0, 0], [0, 7]]));
    let tag = tag.prop_map(|([a, b], [c, d])| [a, b, c, d]);
    prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(tag, 1..=3)]
}

fn networks() -> impl Strategy<Value = Network> {
    let options = prop_oneof![
        3 => Just(vec![]),
        1 => (1_usize..=10).prop_map(|words| vec![1; words * 4]),
        1 => (1_usize..=10, any::<[u8; 2]>()).prop_map(|(words, [kind, length])| {
            let mut options = vec![0; words * 4];
            options[..3].copy_from_slice(&[kind, length, 4]);
            options
        }),
    ];
    prop_oneof![options.prop_map(Network::V4), chains(),]
}

/// Mostly as RFC 8200 4.1 wants them: hop-by-hop options first, nothing that Linux refuses by itself.
fn chains() -> impl Strategy<Value = Network> {
    let words = || 1_usize..4;
    let usual = prop_oneof![
        5 => words().prop_map(|words| Extension::Destination { words }),
        2 => Just(Extension::AtomicFragment),
        2 => words().prop_map(|words| Extension::Routing { kind: 0, left: 0, words }),
    ];
    let first = prop::option::weighted(0.3, words().prop_map(|words| Extension::HopByHop { words }));
    let usual = (first, prop_oneof![2 => Just(vec![]), 3 => prop::collection::vec(usual, 0..8)])
        .prop_map(|(first, rest)| first.into_iter().chain(rest).collect());
    let any = prop::collection::vec(extensions(), 0..8);
    (prop_oneof![4 => usual, 1 => any], 0_usize..3)
        .prop_map(|(extensions, behind)| Network::V6(extensions, behind))
}

/// In any order, and of any kind.
fn extensions() -> impl Strategy<Value = Extension> {
    let words = || 1_usize..4;
    prop_oneof![
        4 => words().prop_map(|words| Extension::Destination { words }),
        2 => words().prop_map(|words| Extension::HopByHop { words }),
        2 => Just(Extension::AtomicFragment),
        2 => (select(vec![0, 2, 3, 4, 253]), 0_u8..2, words())
            .prop_map(|(kind, left, words)| Extension::Routing { kind, left, words }),
        1 => words().prop_map(|words| Extension::Authentication { words }),
    ]
}

/// Those with a meaning, one whose bytes are swapped, and neighbours.
fn ports() -> impl Strategy<Value = u16> {
    select(vec![80, 80, 8_080, 0x5000, 81, 443, 22, 53, 0, 65_535])
}

fn payloads() -> impl Strategy<Value = Payload> {
    let length = || prop_oneof![4 => 80_usize..120, 1 => 0_usize..40];
    let flags = select(vec![SYN, ACK, SYN | ACK, 0, 0x3f, 0x04]);
    let words = prop_oneof![8 => Just(5), 4 => 6_u8..=15, 1 => 0_u8..5];
    // Echo, what IPv6 can't do without, and no ICMP message.
    let kinds = select(vec![8, 128, 135, 136, 0x9c]);
    let protocols = prop_oneof![4 => select(raw::PROTOCOLS.to_vec()), 1 => any::<u8>()];
    let lie = prop_oneof![8 => Just(0), 1 => -20_i8..20];
    prop_oneof![
        9 => (ports(), flags, length(), ports(), words).prop_map(
            |(destination, flags, length, source, words)| Payload::Tcp { destination, flags, length, source, words },
        ),
        5 => (ports(), length(), lie, ports())
            .prop_map(|(destination, length, lie, source)| Payload::Udp { destination, length, lie, source }),
        2 => (ports(), kinds, select(vec![110, 110, 110, 4]), protocols).prop_map(
            |(destination, kind, length, protocol)| Payload::Other { destination, kind, length, protocol },
        ),
        1 => ports().prop_map(|destination| Payload::Authenticated { destination }),
    ]
}

fn sources() -> impl Strategy<Value = Address> {
    prop_oneof![
        9 => Just(Address::Own(1)),
        2 => Just(Address::Own(BANNED)),
        2 => Just(Address::Own(ALLOWED)),
        1 => odd(),
    ]
}

fn destinations() -> impl Strategy<Value = Address> {
    let here = Address::Odd(Ipv4Addr::new(10, 255, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    prop_oneof![14 => Just(here), 2 => Just(Address::Own(4)), 1 => odd()]
}

fn odd() -> impl Strategy<Value = Address> {
    let v4 = [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(240, 0, 0, 1),
    ];
    let v6 = [
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
        Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(),
    ];
    (select(v4.to_vec()), select(v6.to_vec())).prop_map(|(v4, v6)| Address::Odd(v4, v6))
}

fn pieces() -> impl Strategy<Value = Pieces> {
    let index = any::<prop::sample::Index>;
    (
        prop::collection::vec(1_usize..9, 1..4),
        any::<bool>(),
        prop::option::weighted(0.3, (index(), -3_i16..4)),
        prop::option::weighted(0.2, index()),
    )
        .prop_map(|(sizes, reversed, shifted, again)| Pieces { again, reversed, shifted, sizes })
}

fn cuts() -> impl Strategy<Value = Cut> {
    let index = any::<prop::sample::Index>;
    (index(), index(), prop::bool::weighted(0.8)).prop_map(|(at, frame, honest)| Cut { at, frame, honest })
}

fn mutations() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    // Numbers that mean something to someone: small lengths, and protocols.
    let telling = select(vec![0, 1, 2, 4, 5, 6, 17, 20, 41, 43, 44, 51, 58, 59, 60, 0x45, 0x46, 0x60, 255]);
    let change = prop_oneof![
        (1_u8..9).prop_map(Change::Add),
        (248_u8..=255).prop_map(Change::Add),
        (0_u8..8).prop_map(Change::Flip),
        telling.prop_map(Change::Set),
        any::<u8>().prop_map(Change::Set),
    ];
    (index(), change, prop::bool::weighted(0.8), index()).prop_map(|(at, change, field, frame)| Mutation {
        at,
        change,
        field,
        frame,
    })
}
