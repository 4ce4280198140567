//! What `cargo xtask bench kernel` measures: the filter and its baselines; and what `bench flood` floods with.
//! It is not part of what is shipped.
//!
//! `BPF_PROG_TEST_RUN` sends one packet over and over, and what a program wrote into it stays. So all programs
//! that are measured, but for [`bench_still`], first write the next source of [`SEQUENCE`] into the packet;
//! [`bench_empty`] does that and nothing else, and what a program costs is measured as its difference to that one.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "BPF has compare-exchange only as an intrinsic")]
#![feature(core_intrinsics)]
#![allow(missing_docs, reason = "the xdp macro makes a function that nothing can document")]
#![allow(unsafe_code, reason = "every map and packet access of a BPF program is one")]

mod clock;
mod events;
mod maps;
mod runtime;
mod word;

use auth_common::filter;
use auth_common::flood::{self, Flood};
use auth_common::gcra::Limit;
use auth_common::packet::{self, Address, Cursor, Frame, Packet, Transport};
use auth_common::sequence::Sequence;
use auth_common::source::SourceKey;
use auth_common::verdict::Verdict;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_redirect};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, LruHashMap};
use aya_ebpf::programs::XdpContext;

use crate::events::Candidate;
use crate::maps::KernelMaps;

/// Where the source address lies in an untagged IPv4 frame.
const SOURCE: usize = 14 + 12;
/// Where the IPv4 header's checksum lies, the TCP source port, the TCP checksum, and where that header ends.
const NETWORK_SUM: usize = 14 + 10;
const SOURCE_PORT: usize = 14 + 20;
const TRANSPORT_SUM: usize = SOURCE_PORT + 16;
const FLOOD_BYTES: usize = SOURCE_PORT + 20;

/// How often the generator reads the clock for one packet: for gaps of up to 50 us on any machine.
const READINGS: u32 = 4_096;

/// The runner sets it before each flood, and reads it meanwhile.
#[map]
static FLOOD: Array<Flood> = Array::with_max_entries(1, 0);

/// The runner sets it before each run, and reads it afterwards.
#[map]
static SEQUENCE: Array<Sequence> = Array::with_max_entries(1, 0);

/// A token bucket.
#[repr(C)]
struct Bucket {
    /// In nanoseconds: a packet costs [`Limit::increment`], and a full bucket holds [`Limit::tolerance`].
    tokens: u64,
    refilled: u64,
}

/// The runner may set another size.
#[map]
static BUCKETS: LruHashMap<u64, Bucket> = LruHashMap::with_max_entries(1 << 20, 0);

/// Does nothing at all.
#[xdp]
pub fn bench_still(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Writes the source.
#[xdp]
pub fn bench_empty(context: XdpContext) -> u32 {
    with_next_source(&context, |_, _| XDP_PASS)
}

/// Parses as well.
#[xdp]
pub fn bench_parse(context: XdpContext) -> u32 {
    with_next_source(&context, |frame, sink| match packet::parse(frame) {
        Ok(Frame::Ip(packet)) => {
            *sink = fold(&packet);
            XDP_PASS
        }
        Ok(Frame::NonIp) => XDP_PASS,
        Err(_) => XDP_DROP,
    })
}

/// The filter, as it is in `main.rs`.
#[xdp]
pub fn bench_filter(context: XdpContext) -> u32 {
    let (candidate, maps) = (Candidate::new(&context), KernelMaps::new(&context));
    with_next_source(&context, |frame, _| {
        let reason = filter::decide(frame, &maps);
        maps::count(reason);
        candidate.offer(reason);
        match reason.verdict() {
            Verdict::Drop | Verdict::Reset => XDP_DROP,
            Verdict::Pass => XDP_PASS,
        }
    })
}

/// A textbook limiter: the same parser, and a token bucket per source in an LRU hash. It knows no ports, no
/// rules and no counters, and charges packets only.
#[xdp]
pub fn bench_lru(context: XdpContext) -> u32 {
    // SAFETY: the helper has no preconditions.
    with_next_source(&context, |frame, _| token_bucket(frame, unsafe { bpf_ktime_get_ns() }))
}

/// The same with the filter's clock.
#[xdp]
pub fn bench_lru_coarse(context: XdpContext) -> u32 {
    // SAFETY: the helper has no preconditions.
    with_next_source(&context, |frame, _| token_bucket(frame, unsafe { bpf_ktime_get_coarse_ns() }))
}

/// Sends the next packet of [`FLOOD`] when it is due. Run with `BPF_F_TEST_XDP_LIVE_FRAMES`, on one CPU.
#[xdp]
pub fn bench_flood(context: XdpContext) -> u32 {
    let Some(flood) = FLOOD.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: one generator runs at a time; the runner reads single words only.
    let flood = unsafe { &mut *flood };
    let start = context.data();
    if start + FLOOD_BYTES > context.data_end() {
        return XDP_ABORTED;
    }
    flood.due = flood.due_after(wait_until(flood.due));
    let packet = flood.sources.next;
    let (address, port) = (flood.sources.address(packet), Flood::port(packet));
    let fields = [
        (SOURCE, (address >> 16) as u16),
        (SOURCE + 2, address as u16),
        (NETWORK_SUM, flood::checksum(flood.network_sum, address)),
        (SOURCE_PORT, port),
        (TRANSPORT_SUM, flood::checksum(flood.transport_sum + u64::from(port), address)),
    ];
    for (offset, field) in fields {
        // SAFETY: the bounds are checked above, and the kernel aligns frames so that 16-bit fields are aligned.
        unsafe { ((start + offset) as *mut u16).write_volatile(field.to_be()) };
    }
    flood.sources.next = packet + 1;
    match flood.interface as u32 {
        0 => XDP_DROP,
        // SAFETY: the helper takes any number.
        interface => unsafe { bpf_redirect(interface, 0) as u32 },
    }
}

/// Reads the clock until `due`; the time then. Nobody can sleep here.
#[inline(always)]
fn wait_until(due: u64) -> u64 {
    let mut now = 0;
    for _ in 0..READINGS {
        // SAFETY: the helper has no preconditions.
        now = unsafe { bpf_ktime_get_ns() };
        if now >= due {
            break;
        }
    }
    now
}

#[inline(always)]
fn with_next_source(context: &XdpContext, program: impl FnOnce(Cursor, &mut u64) -> u32) -> u32 {
    let Some(sequence) = SEQUENCE.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: the runner keeps to one CPU, and leaves the map alone meanwhile.
    let sequence = unsafe { &mut *sequence };
    let (start, end) = (context.data(), context.data_end());
    if start + SOURCE + 4 > end {
        return XDP_ABORTED;
    }
    let [a, b, c, d] = sequence.address(sequence.next).to_be_bytes();
    let source = (start + SOURCE) as *mut u16;
    // SAFETY: the bounds are checked above, the kernel aligns frames so that 16-bit fields are aligned, and no
    // cursor over the packet exists yet.
    unsafe {
        source.write_volatile(u16::from_ne_bytes([a, b]));
        source.add(1).write_volatile(u16::from_ne_bytes([c, d]));
    }
    // After the packet, which it might overlap for all that the compiler knows: so the parser has to read
    // the address, and is not handed what was just written.
    sequence.next += 1;
    // SAFETY: the kernel keeps the packet between `data` and `data_end` readable while the program runs.
    let frame = unsafe { Cursor::from_raw(start as *const u8, end as *const u8) };
    program(frame, &mut sequence.sink)
}

#[inline(always)]
fn fold(packet: &Packet) -> u64 {
    let ports = match packet.transport {
        Transport::Fragment | Transport::NeighbourDiscovery => 0,
        Transport::Other { protocol } => u64::from(protocol),
        Transport::Tcp { destination, opens, source } => {
            u64::from(destination) ^ u64::from(source) << 16 ^ u64::from(opens)
        }
        Transport::Udp { destination, source } => u64::from(destination) ^ u64::from(source) << 16,
    };
    key(packet.source) ^ ports
}

#[inline(always)]
fn key(source: Address) -> u64 {
    SourceKey::new(source, u64::MAX).get()
}

#[inline(always)]
fn token_bucket(frame: Cursor, now: u64) -> u32 {
    let packet = match packet::parse(frame) {
        Ok(Frame::Ip(packet)) => packet,
        Ok(Frame::NonIp) => return XDP_PASS,
        Err(_) => return XDP_DROP,
    };
    let Some(class) = maps::class(0) else { return XDP_DROP };
    let Limit { increment, tolerance } = class.packets;
    let key = key(packet.source);
    let Some(bucket) = BUCKETS.get_ptr_mut(key) else {
        let bucket = Bucket { tokens: tolerance.saturating_sub(increment), refilled: now };
        return match BUCKETS.insert(key, bucket, 0) {
            Ok(()) => XDP_PASS,
            Err(_) => XDP_DROP,
        };
    };
    // SAFETY: as every such limiter, this bears with the races of unlocked buckets.
    let bucket = unsafe { &mut *bucket };
    let tokens = tolerance.min(bucket.tokens.saturating_add(now.saturating_sub(bucket.refilled)));
    bucket.refilled = now;
    if tokens < increment {
        bucket.tokens = tokens;
        return XDP_DROP;
    }
    bucket.tokens = tokens - increment;
    XDP_PASS
}
