//! The maps: their names, keys and values, and the version of all that together.
//!
//! A pinned map outlives the agent that made it. Whoever changes anything that lands in a map (here, in
//! `flow`, in `rules`, in `table`, or the order of [`crate::verdict::Reason`]) raises [`VERSION`].

use crate::gcra::Limit;

/// Version of everything that lies in the maps.
pub const VERSION: u32 = 2;

/// Array of one [`Meta`].
pub const META: &str = "META";
/// Array of one [`Policy`].
pub const POLICY: &str = "POLICY";
/// Array of [`MAX_CLASSES`] [`Class`].
pub const CLASSES: &str = "CLASSES";
/// Array of [`BREAKER_WORDS`] words: theoretical arrival times of strangers' new connections, by interface.
pub const BREAKERS: &str = "BREAKERS";
/// Array of [`crate::cells::WORDS`] words, mapped into the agent's memory: see [`crate::cells`].
pub const CELLS: &str = "CELLS";
/// Array of one word: until when, in nanoseconds on `CLOCK_MONOTONIC`, the agent counts as alive.
pub const HEARTBEAT: &str = "HEARTBEAT";
/// Array of [`PORT_WORDS`] [`Ports`].
pub const PORTS: &str = "PORTS";
/// Trie of [`crate::rules::Rule`] by CIDR.
pub const RULES: &str = "RULES";
/// Hash of deadlines, nanoseconds on `CLOCK_MONOTONIC`, by [`crate::flow::Flow`].
pub const FLOWS: &str = "FLOWS";
/// Array of [`crate::table::Group`], mapped into the agent's memory.
pub const SOURCES: &str = "SOURCES";
/// Per-CPU array of packet counts, indexed by [`crate::verdict::Reason`].
pub const COUNTERS: &str = "COUNTERS";

/// Entries that [`RULES`] can hold: 100,000 rules, with room for a marker beside each.
pub const MAX_RULES: u32 = 262_144;

/// Entries that [`FLOWS`] can hold.
pub const MAX_FLOWS: u32 = 65_536;

/// Classes that [`CLASSES`] holds; number 0 is that of every source which no rule puts into another.
pub const MAX_CLASSES: u32 = 256;

/// Words that [`BREAKERS`] holds; a power of two. Interfaces whose indexes differ by a multiple of it share one.
pub const BREAKER_WORDS: u32 = 256;

/// Words of 64 ports that [`PORTS`] holds.
pub const PORT_WORDS: u32 = 65_536 / 64;

/// Bytes are counted in blocks of so many, begun ones whole: a byte's share of a second is below the limiter's
/// nanosecond from 1 GB/s on.
pub const BYTES_PER_BLOCK: u64 = 64;

/// Name of the XDP program in the object.
pub const PROGRAM: &str = "auth_filter";
/// Name of the load-time global that holds the [`crate::table::Shape`].
pub const SHAPE: &str = "SHAPE";
/// Name of the load-time global that holds the [`Limit`] of resets sent from plaintext ports; an increment of 0:
/// none is sent.
pub const RESETS: &str = "RESETS";
/// Array of one word: theoretical arrival time of those resets.
pub const RESETS_SENT: &str = "RESETS_SENT";

/// What a later agent has to know of the maps before it uses them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Meta {
    /// [`VERSION`] at the time the maps were made; 0: just made, by nobody yet.
    pub version: u32,
    /// Padding, 0.
    pub reserved: u32,
    /// Shape of [`SOURCES`].
    pub shape: crate::table::Shape,
}

/// What the operator set. Changes while the program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Policy {
    /// Counts changes of [`RULES`]: a cached outcome of another generation is looked up again.
    pub rules_generation: u64,
    /// New connections of all strangers at an interface.
    pub breaker: Limit,
    /// Nanoseconds on `CLOCK_MONOTONIC` until which [`FLOWS`] has something to say; before, it is not looked up.
    pub flows_until: u64,
    /// Not 0: when the agent is gone, packets pass every limit and ban (not the plaintext ports).
    pub pass_when_agent_gone: u64,
}

/// What the sources of a class may do. Changes while the program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Class {
    /// Packets per source.
    pub packets: Limit,
    /// Blocks of [`BYTES_PER_BLOCK`] per source.
    pub bytes: Limit,
    /// New connections per source.
    pub connections: Limit,
    /// Packets per IPv6 site.
    pub site_packets: Limit,
    /// Blocks of [`BYTES_PER_BLOCK`] per IPv6 site.
    pub site_bytes: Limit,
    /// New connections per IPv6 site.
    pub site_connections: Limit,
    /// Nanoseconds of request debt from which a source is dropped at protected ports.
    pub request_threshold: u64,
    /// Nanoseconds of failed-authentication debt from which a source is dropped at protected ports.
    pub auth_failure_threshold: u64,
}

/// Sixty-four ports: bit `port % 64` of word `port / 64`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Ports {
    /// TCP to these is dropped.
    pub plaintext: u64,
    /// TCP and UDP to these always pass limits and bans.
    pub guarded: u64,
    /// The agent listens here: HTTP debts count here.
    pub protected: u64,
    /// Padding, 0.
    pub reserved: u64,
}

impl Ports {
    /// The word and the bit of a port.
    #[inline(always)]
    pub const fn locate(port: u16) -> (u32, u64) {
        (port as u32 / 64, 1 << (port % 64))
    }
}

const _: () = assert!(BREAKER_WORDS.is_power_of_two());
const _: () = assert!(size_of::<Meta>() == 48);
const _: () = assert!(size_of::<Class>() == 112);
const _: () = assert!(size_of::<Policy>() == 40);
const _: () = assert!(size_of::<Ports>() == 32);
const _: () = assert!(size_of::<crate::rules::Rule>() == 16);
