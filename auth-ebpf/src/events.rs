//! Samples of packets for whoever listens.
//!
//! Neither map is pinned: both end with the program, so that nothing an agent left switched on outlives the next
//! agent's start.

use auth_common::event::{Event, RING_BYTES, Sampling};
use auth_common::packet::Cursor;
use auth_common::verdict::Reason;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::RingBuf;
use aya_ebpf::programs::XdpContext;

use crate::clock;
use crate::word::KernelWord;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// Written by the agent. Being the program's own memory, it costs no look-up.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.sampling")]
static SAMPLING: Sampling<KernelWord> = Sampling {
    reasons: KernelWord::new(0),
    increment: KernelWord::new(0),
    tolerance: KernelWord::new(0),
    arrival: KernelWord::new(0),
};

/// A packet that may be sampled when its fate is known.
pub struct Candidate(*mut xdp_md);

impl Candidate {
    /// The packet of `context`.
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        Self(context.ctx)
    }

    /// Samples the packet if somebody wants to see such packets and the limit allows it.
    #[inline(always)]
    pub fn offer(&self, reason: Reason) {
        if SAMPLING.wants(reason) {
            auth_sample(self.0, reason as u32);
        }
    }
}

/// Writes an event; says whether it did. Global, so that the verifier walks it once by itself instead of once for
/// every way through the filter; such a function takes numbers and the context alone, and returns a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn auth_sample(context: *mut xdp_md, reason: u32) -> u32 {
    // The cheap clock, so that a flood does not pay for the fine one.
    if !SAMPLING.admits(clock::now()) {
        return 0;
    }
    // A full ring: the agent is slow, or gone.
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else { return 0 };
    let context = XdpContext::new(context);
    // SAFETY: the kernel keeps the packet between `data` and `data_end` readable while the program runs.
    let frame = unsafe { Cursor::from_raw(context.data() as *const u8, context.data_end() as *const u8) };
    // SAFETY: the ring's memory is readable, aligned to 8 bytes and ours until it is submitted; an event holds
    // integers only.
    let event = unsafe { &mut *entry.as_mut_ptr() };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    event.record(now, context.ingress_ifindex() as u32, reason as u8, frame);
    entry.submit(0);
    1
}
