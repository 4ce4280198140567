//! The time, at the cost of a load: asked once a tick, and remembered.

use auth_common::word::Word;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use crate::word::KernelWord;

/// The time of a tick. Being the program's own memory, it costs no look-up; it is written once a tick.
struct Clock {
    /// Nanoseconds on `CLOCK_MONOTONIC`.
    now: KernelWord,
    /// The jiffy that it holds for; 0: none yet.
    tick: KernelWord,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.clock")]
static CLOCK: Clock = Clock { now: KernelWord::new(0), tick: KernelWord::new(0) };

/// Nanoseconds on `CLOCK_MONOTONIC`, up to two ticks ago. Debts are absolute times, so what that rounds off is never
/// lost.
///
/// The coarse clock moves with the jiffies, which the verifier turns into a load (kernel/bpf/verifier.c,
/// `BPF_FUNC_jiffies64`); the clock itself is a call, and costs as much as a third of all the rest. Who asks between
/// the two (kernel/time/tick-common.c moves the jiffies first) remembers the tick before.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    let tick = unsafe { bpf_jiffies64() };
    if CLOCK.tick.read() == tick {
        return CLOCK.now.read();
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    CLOCK.now.write(now);
    // Last, so that no other CPU takes the old time for this tick's.
    CLOCK.tick.write(tick);
    now
}
