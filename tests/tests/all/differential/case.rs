//! Generated packets: what is in one, and its frames.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::sample::Index;
use tests::frames::{Ip, checksum, tcp, udp};

const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MORE: u16 = 0x2000;
const ETHERNET: usize = 14;

/// Source networks that the rules ban and allow, and one that they don't know: the third byte or word tells them
/// apart from each other, and what follows every case from the others.
pub const BANNED: u8 = 2;
pub const ALLOWED: u8 = 3;

/// A datagram, and all that is done to it on its way into frames.
#[derive(Clone, Debug)]
pub struct Case {
    pub cut: Option<Cut>,
    pub destination: Address,
    /// One in a few has its IPv4 header checksum left wrong.
    pub honest_checksum: bool,
    pub hop_limit: u8,
    /// The IP header says that its length is 0, which stands for a jumbogram before hop-by-hop options (RFC 2675).
    pub lengthless: bool,
    pub mutations: Vec<Mutation>,
    pub network: Network,
    pub padding: usize,
    pub payload: Payload,
    pub pieces: Option<Pieces>,
    pub source: Address,
    pub tags: Vec<[u8; 4]>,
}

/// An end of the packet.
#[derive(Clone, Copy, Debug)]
pub enum Address {
    /// In this network, and another one for each case.
    Own(u8),
    /// An address that is not everyone's, in both families.
    Odd(Ipv4Addr, Ipv6Addr),
}

#[derive(Clone, Debug)]
pub enum Network {
    /// With these options.
    V4(Vec<u8>),
    /// With these extension headers, of which the last `u8` many stand behind a fragment header, if there is one.
    V6(Vec<Extension>, usize),
}

#[derive(Clone, Copy, Debug)]
pub enum Extension {
    Authentication { words: usize },
    AtomicFragment,
    Destination { words: usize },
    HopByHop { words: usize },
    Routing { kind: u8, left: u8, words: usize },
}

#[derive(Clone, Debug)]
pub enum Payload {
    /// IPv4's authentication header, and a segment behind it.
    Authenticated {
        destination: u16,
    },
    /// Another protocol's number over a segment, whose first byte tells the kind of an ICMP message.
    Other {
        destination: u16,
        kind: u8,
        length: usize,
        protocol: u8,
    },
    Tcp {
        destination: u16,
        flags: u8,
        length: usize,
        source: u16,
        words: u8,
    },
    Udp {
        destination: u16,
        length: usize,
        lie: i8,
        source: u16,
    },
}

/// How it is fragmented.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// One piece sent once more.
    pub again: Option<Index>,
    pub reversed: bool,
    /// One piece somewhere else, in units of eight bytes.
    pub shifted: Option<(Index, i16)>,
    /// Sizes in units of eight bytes; the last piece has the rest.
    pub sizes: Vec<usize>,
}

/// A frame cut short.
#[derive(Clone, Debug)]
pub struct Cut {
    pub at: Index,
    pub frame: Index,
    /// The length in the IP header says so.
    pub honest: bool,
}

#[derive(Clone, Debug)]
pub struct Mutation {
    pub at: Index,
    pub change: Change,
    /// Among the fields that tell where things are; otherwise any byte of the headers.
    pub field: bool,
    pub frame: Index,
}

#[derive(Clone, Copy, Debug)]
pub enum Change {
    Add(u8),
    Flip(u8),
    Set(u8),
}

/// A frame and where its parts are.
struct Built {
    bytes: Vec<u8>,
    /// Offsets of the fields that tell what is where.
    fields: Vec<usize>,
    /// Where the network header is.
    network: usize,
}

impl Case {
    /// The frames, in the order in which they are sent; `serial` is the case's number.
    pub fn frames(&self, serial: u32) -> Vec<Vec<u8>> {
        let tags = self.tags.len() * 4;
        let mut built: Vec<_> = self
            .packets(serial)
            .into_iter()
            .map(|(ip, extensions)| self.build(&ip, &extensions, ETHERNET + tags))
            .collect();
        for mutation in &self.mutations {
            let index = mutation.frame.index(built.len());
            mutation.apply(&mut built[index]);
        }
        if let Some(cut) = &self.cut {
            let index = cut.frame.index(built.len());
            cut.apply(&mut built[index]);
        }
        for frame in &mut built {
            if self.lengthless && frame.bytes.len() >= frame.network + 20 {
                frame.set(frame.network + if self.is_v6() { 4 } else { 2 }, 0);
            }
            if self.honest_checksum {
                frame.sum();
            }
            let length = frame.bytes.len() + self.padding;
            frame.bytes.resize(length, 0xee);
        }
        built.into_iter().map(|built| built.bytes).collect()
    }

    /// Whether its frames are what a sender would make of it.
    pub fn is_untouched(&self) -> bool {
        self.cut.is_none() && self.mutations.is_empty() && !self.lengthless
    }

    /// Whether it goes in fragments.
    pub fn is_fragmented(&self) -> bool {
        self.pieces.is_some()
    }

    fn is_v6(&self) -> bool {
        matches!(self.network, Network::V6(..))
    }

    fn build(&self, ip: &Ip, extensions: &[usize], network: usize) -> Built {
        let mut bytes = ip.tagged(&[]);
        bytes.splice(12..12, self.tags.iter().flatten().copied());
        let in_network: &[usize] = if ip.source.is_ipv4() { &[0, 2, 3, 6, 7, 9] } else { &[4, 5, 6] };
        let header = if ip.source.is_ipv4() { 20 } else { 40 };
        let mut fields: Vec<_> = in_network.iter().map(|field| network + field).collect();
        fields.extend(extensions.iter().flat_map(|at| [0, 1].map(|field| network + header + at + field)));
        let transport = network + header + ip.extra.len();
        fields.extend([2, 3, 4, 5, 12].map(|field| transport + field));
        fields.retain(|field| *field < bytes.len());
        Built { bytes, fields, network }
    }

    /// IP packets, and where each one's extension headers are.
    fn packets(&self, serial: u32) -> Vec<(Ip, Vec<usize>)> {
        let v6 = self.is_v6();
        let [source, destination] = [self.source.text(v6, serial), self.destination.text(v6, serial)];
        let (protocol, transport) = self.payload.bytes();
        // Linux looks for the socket of a longer packet also where the transport's checksum is wrong.
        let whole = Ip::new(&source, &destination, protocol, transport).summed();
        let whole = Ip { hop_limit: self.hop_limit, ..whole };
        match &self.network {
            Network::V4(options) => self.v4(&Ip { extra: options.clone(), ..whole }),
            Network::V6(extensions, behind) => self.v6(&whole, extensions, *behind),
        }
    }

    fn v4(&self, whole: &Ip) -> Vec<(Ip, Vec<usize>)> {
        let Some(pieces) = &self.pieces else { return vec![(whole.clone(), Vec::new())] };
        let piece = |(offset, more, bytes): (u16, bool, &[u8])| {
            let fragment = offset & 0x1fff | if more { MORE } else { 0 };
            (Ip { fragment, payload: bytes.to_vec(), ..whole.clone() }, Vec::new())
        };
        pieces.of(&whole.payload).into_iter().map(piece).collect()
    }

    fn v6(&self, whole: &Ip, extensions: &[Extension], behind: usize) -> Vec<(Ip, Vec<usize>)> {
        let extensions: Vec<_> = extensions.iter().map(Extension::bytes).collect();
        let Some(pieces) = &self.pieces else {
            let (first, extra, starts) = chain(&extensions, whole.protocol);
            return vec![(Ip { extra, first_extension: Some(first), ..whole.clone() }, starts)];
        };
        let (before, behind) = extensions.split_at(extensions.len() - behind.min(extensions.len()));
        let (next, mut fragmented, _) = chain(behind, whole.protocol);
        fragmented.extend(&whole.payload);
        let piece = |(offset, more, bytes): (u16, bool, &[u8])| {
            let header = [before, &[(FRAGMENT, fragment(offset, more))]].concat();
            let (first, extra, starts) = chain(&header, next);
            let payload = bytes.to_vec();
            (Ip { extra, first_extension: Some(first), payload, ..whole.clone() }, starts)
        };
        pieces.of(&fragmented).into_iter().map(piece).collect()
    }
}

/// Extension headers, each naming the next: the first one's number, the bytes, where each starts.
fn chain(headers: &[(u8, Vec<u8>)], last: u8) -> (u8, Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut starts = Vec::new();
    for (index, (_, header)) in headers.iter().enumerate() {
        starts.push(bytes.len());
        bytes.push(headers.get(index + 1).map_or(last, |(number, _)| *number));
        bytes.extend(&header[1..]);
    }
    (headers.first().map_or(last, |(number, _)| *number), bytes, starts)
}

fn fragment(offset: u16, more: bool) -> Vec<u8> {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![0, 0, high, low, 0, 0, 0, 7]
}

impl Address {
    fn text(self, v6: bool, serial: u32) -> String {
        let [_, _, high, low] = serial.to_be_bytes();
        match self {
            Self::Own(network) if v6 => {
                Ipv6Addr::from(0xfd00 << 112 | u128::from(network) << 80 | u128::from(serial)).to_string()
            }
            Self::Own(network) => Ipv4Addr::new(10, network, high, low).to_string(),
            Self::Odd(_, address) if v6 => address.to_string(),
            Self::Odd(address, _) => address.to_string(),
        }
    }
}

impl Extension {
    fn bytes(&self) -> (u8, Vec<u8>) {
        match *self {
            Self::Authentication { words } => {
                let mut header = vec![0; 8 + words * 8];
                header[1] = (header.len() / 4 - 2) as u8;
                (AUTHENTICATION, header)
            }
            Self::AtomicFragment => (FRAGMENT, fragment(0, false)),
            Self::Destination { words } => (DESTINATION, options(words)),
            Self::HopByHop { words } => (HOP_BY_HOP, options(words)),
            Self::Routing { kind, left, words } => {
                let mut header = vec![0; words * 8];
                header[1..4].copy_from_slice(&[(words - 1) as u8, kind, left]);
                (ROUTING, header)
            }
        }
    }
}

/// One option that may be skipped (RFC 8200 4.2), as long as the header.
fn options(words: usize) -> Vec<u8> {
    const SKIPPED: u8 = 0x1e;
    let mut header = vec![0; words * 8];
    header[1..4].copy_from_slice(&[(words - 1) as u8, SKIPPED, (words * 8 - 4) as u8]);
    header
}

impl Payload {
    /// The protocol number, and what it carries.
    fn bytes(&self) -> (u8, Vec<u8>) {
        const FILLER: u8 = 0xa5;
        let segment = |destination| [tcp(40_000, destination, 2), vec![FILLER; 90]].concat();
        match *self {
            Self::Authenticated { destination } => {
                let mut header = vec![0; 24];
                header[..2].copy_from_slice(&[TCP, 4]);
                (AUTHENTICATION, [header, segment(destination)].concat())
            }
            Self::Other { destination, kind, length, protocol } => {
                let mut segment = segment(destination);
                segment[0] = kind;
                segment.truncate(length);
                (protocol, segment)
            }
            Self::Tcp { destination, flags, length, source, words } => {
                let mut header = tcp(source, destination, flags);
                header[12] = words << 4;
                header.resize(usize::from(words).max(5) * 4, 1);
                header.extend(vec![FILLER; length]);
                (TCP, header)
            }
            Self::Udp { destination, length, lie, source } => {
                let mut datagram = udp(source, destination, &vec![FILLER; length]);
                datagram[5] = datagram[5].wrapping_add_signed(lie);
                (UDP, datagram)
            }
        }
    }
}

impl Pieces {
    /// Offset in units of eight bytes, whether more follow, the bytes.
    fn of<'a>(&self, whole: &'a [u8]) -> Vec<(u16, bool, &'a [u8])> {
        let mut pieces = Vec::new();
        let (mut at, mut rest) = (0_u16, whole);
        for size in &self.sizes {
            if rest.len() <= size * 8 {
                break;
            }
            let (piece, behind) = rest.split_at(size * 8);
            pieces.push((at, true, piece));
            at += *size as u16;
            rest = behind;
        }
        pieces.push((at, false, rest));
        if let Some((index, by)) = self.shifted {
            let index = index.index(pieces.len());
            pieces[index].0 = pieces[index].0.saturating_add_signed(by);
        }
        if let Some(index) = self.again {
            pieces.push(pieces[index.index(pieces.len())]);
        }
        if self.reversed {
            pieces.reverse();
        }
        pieces
    }
}

impl Mutation {
    fn apply(&self, frame: &mut Built) {
        // Neither MAC address: that the frame is for this host is not the question.
        let headers = 12..frame.bytes.len().min(frame.network + 110);
        let at = match self.field {
            true if !frame.fields.is_empty() => frame.fields[self.at.index(frame.fields.len())],
            _ => headers.start + self.at.index(headers.len()),
        };
        let byte = &mut frame.bytes[at];
        match self.change {
            Change::Add(value) => *byte = byte.wrapping_add(value),
            Change::Flip(bit) => *byte ^= 1 << (bit & 7),
            Change::Set(value) => *byte = value,
        }
    }
}

impl Cut {
    fn apply(&self, frame: &mut Built) {
        let rest = frame.bytes.len() - ETHERNET;
        frame.bytes.truncate(ETHERNET + self.at.index(rest));
        let network = frame.network;
        let Some(length) = frame.bytes.len().checked_sub(network).filter(|_| self.honest) else { return };
        match frame.bytes.get(network).map(|version| version >> 4) {
            Some(4) if length >= 20 => frame.set(network + 2, length as u16),
            Some(6) if length >= 40 => frame.set(network + 4, length as u16 - 40),
            _ => {}
        }
    }
}

impl Built {
    fn set(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Makes the IPv4 header's checksum right, as long as that header says it is.
    fn sum(&mut self) {
        let Some(first) = self.bytes.get(self.network).copied().filter(|first| first >> 4 == 4) else {
            return;
        };
        let end = self.network + usize::from(first & 0x0f) * 4;
        if end < self.network + 20 || end > self.bytes.len() {
            return;
        }
        self.set(self.network + 10, 0);
        let sum = checksum(&self.bytes[self.network..end]);
        self.set(self.network + 10, sum);
    }
}
