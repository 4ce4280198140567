//! A bitmap in front of the rules: in which parts of the address space there is any.
//!
//! Looking a source up in a trie of 100,000 networks costs more than all the rest of a packet. Most sources, and
//! nearly all of a spoofed flood, lie where no rule does: one bit says so. A cell without its bit has no rules; one
//! with its bit may have none for this address.

/// Words of 64 cells: 4 MiB.
pub const WORDS: u32 = 2 * HALF / 64;

/// Cells of either family.
const HALF: u32 = 1 << HALF_BITS;
const HALF_BITS: u32 = 24;

/// An IPv4 cell is a /24, the longest prefix by which 2^24 cells tell apart.
pub const IPV4_PREFIX: u32 = HALF_BITS;
/// An IPv6 cell holds the /32s, a provider's usual share, with one hash.
pub const IPV6_PREFIX: u32 = 32;

/// The words of the IPv6 cells.
pub const IPV6_WORDS: core::ops::Range<u32> = HALF / 64..WORDS;

/// A cell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cell(u32);

impl Cell {
    /// The cell of an IPv4 address.
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Self(address >> (32 - IPV4_PREFIX))
    }

    /// The cell of the IPv6 addresses that start with these 32 bits.
    #[inline(always)]
    pub const fn v6(start: u32) -> Self {
        // The golden ratio, as in the kernel's `hash_32` (include/linux/hash.h).
        Self(HALF | start.wrapping_mul(0x61c8_8647) >> (32 - HALF_BITS))
    }

    /// The word that holds its bit.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0 / 64
    }

    /// Its bit in that word.
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_both_families_lie_in_their_own_halves_of_the_bitmap() {
        assert_eq!((Cell::v4(0).word(), Cell::v4(0).bit()), (0, 1));
        assert_eq!((Cell::v4(u32::MAX).word(), Cell::v4(u32::MAX).bit()), (IPV6_WORDS.start - 1, 1 << 63));
        for start in [0, 1, 0x2001_0db8, u32::MAX] {
            assert!(IPV6_WORDS.contains(&Cell::v6(start).word()), "{start:#x}");
        }
    }

    #[test]
    fn addresses_of_one_24_share_a_cell_and_the_next_one_has_its_own() {
        assert_eq!(Cell::v4(0xc000_0200), Cell::v4(0xc000_02ff));
        assert_ne!(Cell::v4(0xc000_02ff), Cell::v4(0xc000_0300));
    }
}
