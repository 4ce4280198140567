//! What the generator of `cargo xtask bench flood` sends, and when.
//!
//! Shared by its program (`auth-ebpf/src/bench.rs`) and its runner; the filter knows nothing of it.

use crate::sequence::Sequence;

/// Packets that may be made up for: a generator that lost the CPU does not send all that it missed at once.
const SLACK: u64 = 64;

/// A flood of TCP packets. As a map value: words, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Flood {
    /// Where packets come from.
    pub sources: Sequence,
    /// When the next packet is due, in nanoseconds on `CLOCK_MONOTONIC`.
    pub due: u64,
    /// Nanoseconds from packet to packet.
    pub gap: u64,
    /// Index of the interface that packets leave by; 0: they are made, and go nowhere.
    pub interface: u64,
    /// Sum of the IPv4 header's words without source and checksum.
    pub network_sum: u64,
    /// Sum of what the TCP checksum covers, without source, source port and checksum.
    pub transport_sum: u64,
}

impl Flood {
    /// As map value.
    pub const fn words(self) -> [u64; 9] {
        let [base, count, next, sink] = self.sources.words();
        [base, count, next, sink, self.due, self.gap, self.interface, self.network_sum, self.transport_sum]
    }

    /// When the packet is due that follows one sent `now`.
    #[inline(always)]
    pub fn due_after(&self, now: u64) -> u64 {
        let oldest = now.saturating_sub(self.gap.wrapping_mul(SLACK));
        let due = if self.due < oldest { oldest } else { self.due };
        due.wrapping_add(self.gap)
    }

    /// The source port of packet number `packet`: one of the ephemeral ones.
    #[inline(always)]
    pub fn port(packet: u64) -> u16 {
        packet as u16 | 0x8000
    }
}

/// The Internet checksum (RFC 1071) of words that sum up to `sum` and of an address.
#[inline(always)]
pub fn checksum(sum: u64, address: u32) -> u16 {
    let mut sum = sum + u64::from(address >> 16) + u64::from(address & 0xffff);
    // Twice: less than 2^32, then less than 2^17.
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(due: u64) -> Flood {
        let sources = Sequence::new(0, 1);
        Flood { sources, due, gap: 10, interface: 0, network_sum: 0, transport_sum: 0 }
    }

    #[test]
    fn a_late_generator_makes_up_for_so_many_packets_and_no_more() {
        assert_eq!(flood(1_000).due_after(1_000), 1_010);
        assert_eq!(flood(1_000).due_after(1_500), 1_010);
        assert_eq!(flood(1_000).due_after(9_000), 9_000 - 640 + 10);
    }

    /// The header of RFC 1071's usual example: 192.168.0.1 to 192.168.0.199.
    #[test]
    fn the_checksum_is_that_of_the_whole_header() {
        let rest: u64 = [0x4500, 0x0073, 0x0000, 0x4000, 0x4011, 0xc0a8, 0x00c7].into_iter().sum();
        assert_eq!(checksum(rest, 0xc0a8_0001), 0xb861);
    }
}
