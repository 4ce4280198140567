//! The source addresses that the benchmark's programs write into their packet, one after the other.
//!
//! Shared by those programs (`auth-ebpf/src/bench.rs`) and their runner; the filter knows nothing of it.

/// Addresses lie within a /2: `base` is its first, or any one address if there is but one source.
const BITS: u32 = 30;
const MASK: u32 = (1 << BITS) - 1;

/// Every address of the /2, each once: a flood of spoofed sources.
pub const ALL: u64 = 1 << BITS;

/// Which source comes next. As a map value: words, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Sequence {
    /// Address of the first source; its lower 30 bits are 0 unless `count` is 1.
    pub base: u64,
    /// Number of sources, a power of two, at most [`ALL`].
    pub count: u64,
    /// Packets so far.
    pub next: u64,
    /// What a program that only parses leaves here, so that its work is not optimised away.
    pub sink: u64,
}

impl Sequence {
    /// `count` sources from `base` on.
    pub const fn new(base: u32, count: u64) -> Self {
        Self { base: base as u64, count, next: 0, sink: 0 }
    }

    /// As map value.
    pub const fn words(self) -> [u64; 4] {
        [self.base, self.count, self.next, self.sink]
    }

    /// The address of packet number `packet`, scattered as real sources are. No address comes twice within
    /// `count` packets: each step is a bijection of 30-bit numbers.
    #[inline(always)]
    pub fn address(&self, packet: u64) -> u32 {
        let mut scattered = (packet & (self.count - 1)) as u32 & MASK;
        scattered ^= scattered >> 15;
        scattered = scattered.wrapping_mul(0x2c1b_3c6d) & MASK;
        scattered ^= scattered >> 12;
        scattered = scattered.wrapping_mul(0x297a_2d39) & MASK;
        scattered ^= scattered >> 15;
        self.base as u32 | scattered
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const BASE: u32 = 0x8000_0000;

    #[test]
    fn each_source_comes_once_before_the_first_comes_again() {
        for count in [1, 2, 1_024, 65_536] {
            let sequence = Sequence::new(BASE, count);
            let distinct: BTreeSet<_> = (0..count).map(|packet| sequence.address(packet)).collect();
            assert_eq!(distinct.len() as u64, count);
            assert_eq!(sequence.address(count), sequence.address(0));
        }
    }

    #[test]
    fn sources_stay_within_their_quarter_of_the_address_space() {
        let sequence = Sequence::new(BASE, ALL);
        for packet in (0..ALL).step_by(99_991) {
            assert_eq!(sequence.address(packet) & !MASK, BASE, "packet {packet}");
        }
    }

    #[test]
    fn one_source_has_the_base_address() {
        assert_eq!(Sequence::new(0xcb00_7109, 1).address(7), 0xcb00_7109);
    }
}
