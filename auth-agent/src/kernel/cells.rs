//! The agent's side of the rules' bitmap: see [`auth_common::cells`].

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use auth_common::cells::{Cell, IPV4_PREFIX, IPV6_PREFIX, IPV6_WORDS, WORDS};
use auth_common::rules::Rule as Entry;

use super::memory::Shared;
use super::rules::Prefix;

/// IPv6 cells that are marked one by one. Rules that cover more mark them all: each look-up of an IPv6 source is a
/// microsecond dearer then, and as exact.
const MAX_IPV6_CELLS: u64 = 1 << 22;

/// Words of the bitmap.
pub const COUNT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(WORDS as usize - 1);

/// The bitmap in the kernel.
pub struct Cells(Shared<AtomicU64>);

impl Cells {
    /// The bitmap in this memory.
    pub fn new(memory: Shared<AtomicU64>) -> Self {
        Self(memory)
    }

    /// Marks these cells as well: before rules come.
    pub fn mark(&self, cells: &Marks) {
        for (word, marks) in self.0.elements().iter().zip(&cells.0).filter(|(_, marks)| **marks != 0) {
            word.fetch_or(*marks, SeqCst);
        }
    }

    /// Marks these cells alone: after rules are gone.
    pub fn set(&self, cells: &Marks) {
        for (word, marks) in self.0.elements().iter().zip(&cells.0) {
            if word.load(SeqCst) != *marks {
                word.store(*marks, SeqCst);
            }
        }
    }
}

/// Cells that have rules.
pub struct Marks(Vec<u64>);

impl Marks {
    /// The cells of `entries`; of those that say something, that is: the others only stand in the way of wider ones.
    pub fn of(entries: &BTreeMap<Prefix, Entry>) -> Self {
        let mut marks = Self(vec![0; WORDS as usize]);
        let telling = entries.iter().filter(|(_, entry)| **entry != Entry::default());
        let (v4, v6): (Vec<Prefix>, Vec<Prefix>) =
            telling.map(|(prefix, _)| *prefix).partition(|prefix| prefix.is_v4());
        v4.into_iter().for_each(|prefix| marks.v4(prefix));
        match v6.iter().map(|prefix| starts(*prefix)).sum::<u64>() {
            0..=MAX_IPV6_CELLS => v6.into_iter().for_each(|prefix| marks.v6(prefix)),
            _ => marks.0[IPV6_WORDS.start as usize..].fill(u64::MAX),
        }
        marks
    }

    fn v4(&mut self, prefix: Prefix) {
        let first = prefix.address as u32;
        let last = first | u32::MAX.checked_shr(prefix.length - V4_LENGTH).unwrap_or(0);
        // Cells of IPv4 lie in the order of their addresses.
        let (first, last) = (Cell::v4(first), Cell::v4(last));
        let (head, tail) = (u64::MAX << first.bit().trailing_zeros(), u64::MAX >> last.bit().leading_zeros());
        match (first.word() as usize, last.word() as usize) {
            (first, last) if first == last => self.0[first] |= head & tail,
            (first, last) => {
                self.0[first] |= head;
                self.0[first + 1..last].fill(u64::MAX);
                self.0[last] |= tail;
            }
        }
    }

    fn v6(&mut self, prefix: Prefix) {
        let first = (prefix.address >> 96) as u32;
        for step in 0..starts(prefix) {
            let cell = Cell::v6(first | step as u32);
            self.0[cell.word() as usize] |= cell.bit();
        }
    }

    /// As the kernel reads them.
    pub fn words(&self) -> &[u64] {
        &self.0
    }
}

const V4_LENGTH: u32 = 96;
const _: () = assert!(IPV4_PREFIX < 32);

/// How many different first [`IPV6_PREFIX`] bits the addresses of `prefix` have.
fn starts(prefix: Prefix) -> u64 {
    1 << IPV6_PREFIX.saturating_sub(prefix.length)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::super::rules::compile;
    use super::*;
    use crate::edge::{Action, Rule};

    fn marks(networks: &[&str]) -> Marks {
        let ban =
            |network: &&str| Rule { action: Action::Ban { until: None }, network: network.parse().unwrap() };
        let rules: Vec<_> = networks.iter().map(ban).collect();
        Marks::of(&compile(&rules, 64, |_| 0, |until| until.0).unwrap())
    }

    fn has(marks: &Marks, cell: Cell) -> bool {
        marks.words()[cell.word() as usize] & cell.bit() != 0
    }

    fn cell(address: &str) -> Cell {
        match address.parse().unwrap() {
            IpAddr::V4(address) => Cell::v4(address.into()),
            IpAddr::V6(address) => Cell::v6((u128::from(address) >> 96) as u32),
        }
    }

    #[test]
    fn rules_mark_their_cells_and_no_others() {
        for (networks, marked, unmarked) in [
            (&["192.0.2.7/32"][..], &["192.0.2.1", "192.0.2.255"][..], &["192.0.3.0", "192.0.1.255"][..]),
            (&["10.0.0.0/8"], &["10.0.0.0", "10.255.255.255", "10.7.3.1"], &["9.255.255.255", "11.0.0.0"]),
            (&["192.0.2.0/23"], &["192.0.2.1", "192.0.3.1"], &["192.0.4.0"]),
            (&["2001:db8::1/128"], &["2001:db8:ffff::"], &["2001:db9::", "192.0.2.1"]),
            (&["2001:d00::/24"], &["2001:d00::", "2001:dff::"], &["2001:e00::"]),
            (&["0.0.0.0/0"], &["0.0.0.0", "255.255.255.255"], &["2001:db8::"]),
            (&["::/0"], &["2001:db8::", "::", "ffff::"], &["0.0.0.0", "192.0.2.1", "255.255.255.255"]),
            (&["2000::/3"], &["2001:db8::", "3fff::"], &["192.0.2.1"]),
        ] {
            let marks = marks(networks);
            for address in marked {
                assert!(has(&marks, cell(address)), "{networks:?} {address}");
            }
            for address in unmarked {
                assert!(!has(&marks, cell(address)), "{networks:?} {address}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_address_that_a_rule_covers_lies_in_a_marked_cell(
            base: u128,
            v4: bool,
            length in 0u8..=128,
            within: u128,
        ) {
            let network = match v4 {
                true => IpNet::new(IpAddr::V4((base as u32).into()), length % 33).unwrap(),
                false => IpNet::new(IpAddr::V6(base.into()), length).unwrap(),
            };
            let marks = marks(&[&network.to_string()]);
            let host = |bits: u8| u128::MAX.checked_shr(128 - u32::from(bits - network.prefix_len())).unwrap_or(0);
            let cell = match network.network() {
                IpAddr::V4(address) => Cell::v4(u32::from(address) | (within & host(32)) as u32),
                IpAddr::V6(address) => Cell::v6(((u128::from(address) | within & host(128)) >> 96) as u32),
            };
            prop_assert!(has(&marks, cell));
        }
    }
}
