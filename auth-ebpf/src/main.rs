//! The XDP filter. What it decides is in `auth_common::filter`; this is what only the kernel can give it:
//! the packet, the maps, the clock and the counters.

#![no_std]
#![no_main]
#![allow(internal_features, reason = "BPF has compare-exchange only as an intrinsic")]
#![feature(core_intrinsics)]
#![allow(missing_docs, reason = "the xdp macro makes a function that nothing can document")]
#![allow(unsafe_code, reason = "every map and packet access of a BPF program is one")]

mod clock;
mod events;
mod maps;
mod reset;
mod runtime;
mod word;

use auth_common::filter;
use auth_common::packet::Cursor;
use auth_common::verdict::{Reason, Verdict};
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::events::Candidate;

/// The program. Bad packets are dropped and counted, never `XDP_ABORTED`: that fires a tracepoint, which
/// under a flood costs more than the packet.
#[xdp]
pub fn auth_filter(context: XdpContext) -> u32 {
    // SAFETY: the kernel keeps the packet between `data` and `data_end` readable while the program runs.
    let frame = unsafe { Cursor::from_raw(context.data() as *const u8, context.data_end() as *const u8) };
    let candidate = Candidate::new(&context);
    let reason = filter::decide(frame, &maps::KernelMaps::new(&context));
    if reason == Reason::PlaintextPort && reset::answer(&context) {
        maps::count(Reason::PlaintextReset);
        return XDP_TX;
    }
    maps::count(reason);
    candidate.offer(reason);
    match reason.verdict() {
        Verdict::Drop | Verdict::Reset => XDP_DROP,
        Verdict::Pass => XDP_PASS,
    }
}
