//! Turning a refused segment into the reset that answers it, in place.

use auth_common::gcra::{self, Limit};
use auth_common::packet::{self, Cursor};
use auth_common::reset;
use auth_common::verdict::Reason;
use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::programs::XdpContext;

use crate::clock;
use crate::events::Candidate;
use crate::word::KernelWord;

/// The loader sets it. Where it says that nothing is answered, the verifier removes all of this.
#[unsafe(no_mangle)]
static RESETS: Global<Limit> = Global::new(Limit { increment: 0, tolerance: 0 });

/// One limit for all CPUs.
#[map]
static RESETS_SENT: Array<KernelWord> = Array::pinned(1, 0);

/// Two MAC addresses.
const ADDRESSES: usize = 12;
/// An Ethernet header, and with one and two VLAN tags.
const UNTAGGED: usize = 14;
const TAGGED: usize = UNTAGGED + 4;
const TWICE_TAGGED: usize = TAGGED + 4;
/// The shortest frame on a wire, but for its check sequence (IEEE 802.3 4.2.3.3): not every driver fills up.
const SHORTEST_FRAME: usize = 60;

/// Makes the frame its own answer, if the operator wants such answers and their limit allows one. Says whether it
/// did.
#[inline(always)]
pub fn answer(context: &XdpContext) -> bool {
    if RESETS.load().increment == 0 || auth_may_reset(context.ctx) == 0 {
        return false;
    }
    // Before the frame becomes another one, and from here: a chain of calls has 512 bytes of stack, of which the
    // verifier of Linux 6.1 gives each its frame rounded up to 32.
    Candidate::new(context).offer(Reason::PlaintextReset);
    auth_reset(context.ctx) != 0
}

/// Whether the segment is one that is answered, and the limit allows it. Global, so that the verifier walks it once,
/// by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn auth_may_reset(context: *mut xdp_md) -> u32 {
    u32::from(may_answer(frame(&XdpContext::new(context))).is_some_and(|may| may))
}

#[inline(always)]
fn may_answer(frame: Cursor) -> Option<bool> {
    let mut addresses = frame;
    let [to, .., from, _, _, _, _, _]: [u8; ADDRESSES] = addresses.read()?;
    // The group bit: neither what was sent to many nor what claims to come from many is answered.
    if (to | from) & 1 != 0 || !reset::is_answered(&packet::segment(frame)?) {
        return None;
    }
    let now = clock::now();
    Some(gcra::admits(RESETS_SENT.get(0)?, now, RESETS.load(), 1))
}

#[inline(always)]
fn frame(context: &XdpContext) -> Cursor<'_> {
    // SAFETY: the kernel keeps the packet between `data` and `data_end` readable while the program runs.
    unsafe { Cursor::from_raw(context.data() as *const u8, context.data_end() as *const u8) }
}

/// Makes the frame its own answer. Global for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn auth_reset(context: *mut xdp_md) -> u32 {
    let context = XdpContext::new(context);
    u32::from(write_answer(&context).is_some())
}

#[inline(always)]
fn write_answer(context: &XdpContext) -> Option<()> {
    let segment = packet::segment(frame(context))?;
    match (segment.ipv6, segment.link) {
        (false, UNTAGGED) => write::<UNTAGGED, _>(context, |packet| reset::answer_ipv4(packet, &segment)),
        (false, TAGGED) => write::<TAGGED, _>(context, |packet| reset::answer_ipv4(packet, &segment)),
        (false, TWICE_TAGGED) => {
            write::<TWICE_TAGGED, _>(context, |packet| reset::answer_ipv4(packet, &segment))
        }
        (true, UNTAGGED) => write::<UNTAGGED, _>(context, |packet| reset::answer_ipv6(packet, &segment)),
        (true, TAGGED) => write::<TAGGED, _>(context, |packet| reset::answer_ipv6(packet, &segment)),
        (true, TWICE_TAGGED) => {
            write::<TWICE_TAGGED, _>(context, |packet| reset::answer_ipv6(packet, &segment))
        }
        _ => None,
    }
}

/// Cuts the frame to the answer's length, sends it back to where it came from, and fills it in. The place is a
/// constant, so that one check covers all of it for the verifier, too.
#[inline(always)]
fn write<const LINK: usize, const N: usize>(
    context: &XdpContext,
    answer: impl FnOnce(&mut [u8; N]),
) -> Option<()> {
    let frame = context.data_end() - context.data();
    let wanted = (LINK + N).max(SHORTEST_FRAME);
    if frame > wanted {
        // SAFETY: the context is this run's own; no pointer into the packet is used after this but new ones.
        let cut = unsafe { bpf_xdp_adjust_tail(context.ctx, (wanted as i32).wrapping_sub(frame as i32)) };
        if cut != 0 {
            return None;
        }
    }
    let start = context.data();
    if start + LINK + N > context.data_end() {
        return None;
    }
    // SAFETY: the bounds are checked above; bytes have no alignment.
    unsafe {
        let addresses = start as *mut [u8; ADDRESSES];
        let [a, b, c, d, e, f, g, h, i, j, k, l] = addresses.read();
        addresses.write([g, h, i, j, k, l, a, b, c, d, e, f]);
        answer(&mut *((start + LINK) as *mut [u8; N]));
    }
    Some(())
}
