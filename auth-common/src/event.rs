//! Samples of packets: what the kernel hands to the agent while somebody listens.
//!
//! Nothing here outlives the program it belongs to: a new agent's program starts with sampling off and its ring
//! empty, whatever became of the agent before it.

#[cfg(test)]
mod tests;

use crate::gcra::{self, Limit};
use crate::packet::{self, Cursor};
use crate::verdict::Reason;
use crate::word::Word;

/// Ring buffer of [`Event`]s.
pub const EVENTS: &str = "EVENTS";
/// Section of the program's memory that holds one [`Sampling`].
pub const SAMPLING: &str = ".data.sampling";

/// Room for more events than the agent lets the kernel write in a second.
pub const RING_BYTES: u32 = 256 * 1024;

/// Bytes of a frame that fit into an event: every chain of headers without IPv6 extension headers, the longest of
/// which (two VLAN tags, IPv6, TCP with 40 bytes of options) has 122.
pub const CAPTURE: usize = 128;

/// One sampled frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds on `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Index of the interface it came in by.
    pub interface: u32,
    /// Bytes of the whole frame.
    pub length: u32,
    /// Bytes of [`Self::frame`] that are the frame's.
    pub captured: u16,
    /// Number of the [`Reason`].
    pub reason: u8,
    /// Padding, 0.
    pub reserved: [u8; 5],
    /// The frame as far as its headers go and fit; then zeros.
    pub frame: [u8; CAPTURE],
}

const _: () = assert!(size_of::<Event>() == 152);
const _: () = assert!(size_of::<Sampling<u64>>() == 32);
// A reason is a bit of a word.
const _: () = assert!(Reason::ALL.len() <= 64);

impl Event {
    /// Fills in all of it. Payload is left out: on a plaintext port it may hold a password.
    #[inline(always)]
    pub fn record(&mut self, time: u64, interface: u32, reason: u8, frame: Cursor) {
        self.time = time;
        self.interface = interface;
        self.length = frame.remaining() as u32;
        self.reason = reason;
        self.reserved = [0; 5];
        self.frame = [0; CAPTURE];
        let mut rest = frame;
        for byte in &mut self.frame {
            let Some([read]) = rest.read() else { break };
            *byte = read;
        }
        let captured = packet::headers(&self.frame).min(self.length as usize);
        self.captured = captured as u16;
        self.keep(captured);
    }

    /// Zeroes what lies behind the first `captured` bytes. Word by word: a plain loop becomes a `memset` from one
    /// variable place to another, whose bounds the BPF verifier can't follow.
    #[inline(always)]
    fn keep(&mut self, captured: usize) {
        let (words, _) = self.frame.as_chunks_mut::<8>();
        for (index, word) in words.iter_mut().enumerate() {
            let kept = captured.saturating_sub(index * 8);
            if kept < 8 {
                *word = (u64::from_le_bytes(*word) & !(u64::MAX << (kept * 8))).to_le_bytes();
            }
        }
    }

    /// Reads what the kernel wrote; `None` if it is not an event of this version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let event = Self {
            time: u64::from_ne_bytes(cursor.read()?),
            interface: u32::from_ne_bytes(cursor.read()?),
            length: u32::from_ne_bytes(cursor.read()?),
            captured: u16::from_ne_bytes(cursor.read()?),
            reason: u8::from_ne_bytes(cursor.read()?),
            reserved: cursor.read()?,
            frame: cursor.read()?,
        };
        let valid = usize::from(event.captured) <= CAPTURE && event.reason().is_some();
        (valid && cursor.remaining() == 0).then_some(event)
    }

    /// Why the frame was dropped or passed.
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(usize::from(self.reason)).copied()
    }

    /// What was captured of the frame.
    pub fn headers(&self) -> &[u8] {
        self.frame.get(..self.captured.into()).unwrap_or(&self.frame)
    }
}

/// The bit of a reason in [`Sampling::reasons`].
#[inline(always)]
pub const fn bit(reason: Reason) -> u64 {
    1 << reason as u32
}

/// Which packets are sampled, and how many.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Sampling<W> {
    /// The [`bit`]s of the reasons that somebody wants to see; 0: nobody listens.
    pub reasons: W,
    /// [`Limit::increment`] of samples.
    pub increment: W,
    /// [`Limit::tolerance`] of samples.
    pub tolerance: W,
    /// Theoretical arrival time of samples, one for all CPUs.
    pub arrival: W,
}

impl Sampling<u64> {
    /// Sampling of these reasons, with a burst to spend.
    pub fn new(reasons: u64, limit: Limit) -> Self {
        Self { reasons, increment: limit.increment, tolerance: limit.tolerance, arrival: 0 }
    }
}

impl<W: Word> Sampling<W> {
    /// Whether somebody wants to see packets of this reason: all that a packet pays while nobody does.
    #[inline(always)]
    pub fn wants(&self, reason: Reason) -> bool {
        self.reasons.read() & bit(reason) != 0
    }

    /// Whether the limit lets a packet be sampled at `now`, which is then charged. One of two CPUs that ask at once
    /// may be refused.
    #[inline(always)]
    pub fn admits(&self, now: u64) -> bool {
        let limit = Limit { increment: self.increment.read(), tolerance: self.tolerance.read() };
        gcra::charge_once(&self.arrival, now, limit)
    }
}
