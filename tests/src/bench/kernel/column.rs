//! The columns: which program, which packets, which outcome.

use std::collections::BTreeSet;

use auth_common::sequence::ALL;
use auth_common::verdict::Reason;

/// Where sources are, but for the banned one.
pub const BASE: u32 = 0x8000_0000;
/// 203.0.113.9
pub const BANNED: u32 = 0xcb00_7109;
/// Sources of the block list that send packets.
pub const LISTED: u64 = 1 << 16;

/// A measurement.
pub struct Column {
    /// As in the report.
    pub name: &'static str,
    /// What runs.
    pub program: Program,
    /// What each packet is.
    pub packet: Packet,
    /// Where its source is.
    pub base: u32,
    /// How many sources take turns.
    pub sources: u64,
    /// What becomes of packets.
    pub outcome: Outcome,
}

/// A program and the tables it uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// A program of the benchmark's object, over the tables of a bed.
    Bench(Bed, &'static str),
    /// The filter's own object on a packet that does not change.
    Shipped,
    /// Debian's xdp-filter, on a packet that does not change.
    XdpFilter,
}

/// Tables of their own, so that one kind of traffic does not change another's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bed {
    /// With a long block list.
    Listed,
    /// With one ban.
    Plain,
    /// With one ban, for floods.
    Spoofed,
}

/// A packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Packet {
    /// Of a connection to port 443.
    Https,
    /// That asks for a connection to port 443.
    HttpsOpening,
    /// Of a connection to port 80.
    Plaintext,
}

/// What becomes of packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Dropped.
    Drop,
    /// Passed.
    Pass,
    /// What the filter does, and counts, for this reason.
    Reason(Reason),
}

const ONE: Column = Column {
    name: "",
    program: Program::Shipped,
    packet: Packet::Https,
    base: BASE,
    sources: 1,
    outcome: Outcome::Pass,
};
const FILTER: Column = Column {
    program: Program::Bench(Bed::Plain, "bench_filter"),
    outcome: Outcome::Reason(Reason::WithinBudget),
    ..ONE
};
const LRU: Column = Column { program: Program::Bench(Bed::Plain, "bench_lru"), ..ONE };
const XDP_FILTER: Column = Column { program: Program::XdpFilter, ..ONE };

/// Does nothing, but writes the source into the packet.
pub const EMPTY: &str = "empty";
/// Does nothing.
pub const STILL: &str = "still";

/// The columns, in the order in which they are measured: competitors side by side, so that the same moment of
/// the machine hits both.
pub const COLUMNS: [Column; 22] = [
    Column { name: STILL, program: Program::Bench(Bed::Plain, "bench_still"), ..ONE },
    Column { name: EMPTY, program: Program::Bench(Bed::Plain, "bench_empty"), ..ONE },
    Column { name: "parse", program: Program::Bench(Bed::Plain, "bench_parse"), ..ONE },
    Column {
        name: "plaintext_drop",
        packet: Packet::Plaintext,
        outcome: Outcome::Reason(Reason::PlaintextPort),
        ..FILTER
    },
    Column { name: "xdp_filter_drop", packet: Packet::Plaintext, outcome: Outcome::Drop, ..XDP_FILTER },
    Column { name: "banned", base: BANNED, outcome: Outcome::Reason(Reason::Banned), ..FILTER },
    Column { name: "xdp_filter_drop_ip", base: BANNED, outcome: Outcome::Drop, ..XDP_FILTER },
    Column { name: "hot", ..FILTER },
    Column { name: "hot_shipped", program: Program::Shipped, ..FILTER },
    Column { name: "lru_hot", ..LRU },
    Column { name: "lru_hot_coarse", program: Program::Bench(Bed::Plain, "bench_lru_coarse"), ..LRU },
    Column { name: "xdp_filter_pass", ..XDP_FILTER },
    Column { name: "sources_1k", sources: 1 << 10, ..FILTER },
    Column { name: "lru_1k", sources: 1 << 10, ..LRU },
    Column { name: "sources_64k", sources: 1 << 16, ..FILTER },
    Column { name: "lru_64k", sources: 1 << 16, ..LRU },
    Column { name: "sources_1m", sources: 1 << 20, ..FILTER },
    Column { name: "lru_1m", sources: 1 << 20, ..LRU },
    Column {
        name: "spoofed",
        program: Program::Bench(Bed::Spoofed, "bench_filter"),
        packet: Packet::HttpsOpening,
        sources: ALL,
        ..FILTER
    },
    Column {
        name: "lru_spoofed",
        program: Program::Bench(Bed::Spoofed, "bench_lru"),
        packet: Packet::HttpsOpening,
        sources: ALL,
        ..LRU
    },
    Column {
        name: "blocklist_100k",
        program: Program::Bench(Bed::Listed, "bench_filter"),
        sources: LISTED,
        outcome: Outcome::Reason(Reason::Banned),
        ..FILTER
    },
    Column {
        name: "blocklist_100k_spoofed",
        program: Program::Bench(Bed::Listed, "bench_filter"),
        packet: Packet::HttpsOpening,
        sources: ALL,
        ..FILTER
    },
];

impl Column {
    /// The column whose cost is taken off: it handles the packet as this one does, and does nothing with it.
    pub fn floor(&self) -> &'static str {
        match self.program {
            Program::Bench(..) => EMPTY,
            Program::Shipped | Program::XdpFilter => STILL,
        }
    }
}

impl Bed {
    /// The programs that run in it.
    pub fn programs(self) -> Vec<&'static str> {
        let own = COLUMNS.iter().filter_map(|column| match column.program {
            Program::Bench(bed, program) if bed == self => Some(program),
            _ => None,
        });
        own.collect::<BTreeSet<_>>().into_iter().collect()
    }
}
