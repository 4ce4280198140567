//! The only place that reads packet memory.
//!
//! Two pointers instead of a slice: the BPF verifier follows a pointer compared with the packet's end,
//! and rejects a slice whose length it can't tie to that end.

#![allow(unsafe_code, reason = "reads behind a bounds check that the BPF verifier can follow")]

use core::marker::PhantomData;

/// A position in a packet; reads move it forward and never past the end.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    end: *const u8,
    position: *const u8,
    packet: PhantomData<&'a [u8]>,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `packet`.
    pub fn new(packet: &'a [u8]) -> Self {
        let range = packet.as_ptr_range();
        Self { end: range.end, position: range.start, packet: PhantomData }
    }

    /// A cursor over the memory from `start` to `end`.
    ///
    /// # Safety
    /// The memory must stay readable and unchanged by this program for `'a`.
    #[inline(always)]
    pub unsafe fn from_raw(start: *const u8, end: *const u8) -> Self {
        Self { end, position: start, packet: PhantomData }
    }

    /// The next `N` bytes, or `None`, without moving, where fewer are left.
    #[inline(always)]
    pub fn read<const N: usize>(&mut self) -> Option<[u8; N]> {
        let start = self.position;
        self.skip(N)?;
        // SAFETY: `skip` has checked that `N` bytes lie between `start` and the end; a byte array has no
        // alignment and no invalid values.
        Some(unsafe { start.cast::<[u8; N]>().read() })
    }

    /// Bytes left.
    #[inline(always)]
    pub fn remaining(&self) -> usize {
        (self.end as usize).wrapping_sub(self.position as usize)
    }

    /// Moves `count` bytes forward, or returns `None`, without moving, where fewer are left.
    #[inline(always)]
    pub fn skip(&mut self, count: usize) -> Option<()> {
        // No overflow: callers skip at most a header length, 2 KiB, and no packet ends that close to the
        // end of the address space.
        let next = self.position.wrapping_add(count);
        if next > self.end {
            return None;
        }
        self.position = next;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn reads_stop_at_the_end_and_a_failed_read_does_not_move() {
        let mut cursor = Cursor::new(&[1, 2, 3]);
        assert_eq!(cursor.read(), Some([1, 2]));
        assert_eq!(cursor.read::<2>(), None);
        assert_eq!(cursor.skip(2), None);
        assert_eq!(cursor.remaining(), 1);
        assert_eq!(cursor.read(), Some([3]));
        assert_eq!(cursor.read::<1>(), None);
    }
}
