//! A table of debts with the law of the source table: fixed memory, and nothing that is owed is ever forgotten.
//!
//! A line changes hands only when its owner owes nothing, so that forgetting it changes nothing. Where a group has no
//! such line, newcomers share the group's first one. Nobody waits for anybody.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::clock::Monotonic;

/// Lines of a group, the shared one included.
const LINES: usize = 8;

/// What a line holds of its owner.
pub trait Owing: Default {
    /// Whether forgetting it changes nothing.
    fn owes_nothing(&self, now: Monotonic) -> bool;
}

/// Debts by key. Its memory is taken with the first debt.
pub struct Table<L> {
    groups: OnceLock<Box<[[Slot<L>; LINES]]>>,
    number: usize,
    /// Nobody outside can choose who shares a group.
    secret: RandomState,
}

#[derive(Default)]
struct Slot<L> {
    /// Whose it is; 0: nobody's, and so that of the shared line for ever.
    key: AtomicU64,
    line: L,
}

/// Whose line is charged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// The owner's alone.
    Own,
    /// That of all newcomers to a full group.
    Shared,
}

impl<L: Owing> Table<L> {
    /// For 7 owners in each of `groups` groups, of which there is at least one.
    pub fn new(groups: usize) -> Self {
        Self { groups: OnceLock::new(), number: groups.max(1), secret: RandomState::new() }
    }

    /// The line of `key`, which is not 0, if it has one of its own.
    pub fn find(&self, key: u64) -> Option<&L> {
        own(self.groups.get()?.get(self.place(key))?, key)
    }

    /// Charges the line of `key`, which is not 0: its own, a free one that it takes, or the one that newcomers share.
    /// `charge` is called again where another took the line in between.
    pub fn charge<T>(&self, key: u64, now: Monotonic, charge: impl Fn(&L, Whose) -> T) -> T {
        let groups = self.groups.get_or_init(|| (0..self.number).map(|_| Default::default()).collect());
        let group = &groups[self.place(key)];
        if let Some(line) = own(group, key).or_else(|| claim(group, key, now)) {
            let answer = charge(line, Whose::Own);
            if own(group, key).is_some_and(|still| std::ptr::eq(still, line)) {
                return answer;
            }
        }
        charge(&group[0].line, Whose::Shared)
    }

    /// Every owner's line.
    pub fn owned(&self) -> impl Iterator<Item = (u64, &L)> {
        let slots = self.groups.get().into_iter().flatten().flat_map(|group| &group[1..]);
        slots.map(|slot| (slot.key.load(Acquire), &slot.line)).filter(|(key, _)| *key != 0)
    }

    fn place(&self, key: u64) -> usize {
        self.secret.hash_one(key) as usize % self.number
    }
}

fn own<L>(group: &[Slot<L>; LINES], key: u64) -> Option<&L> {
    group[1..].iter().find(|slot| slot.key.load(Acquire) == key).map(|slot| &slot.line)
}

fn claim<L: Owing>(group: &[Slot<L>; LINES], key: u64, now: Monotonic) -> Option<&L> {
    let free = group[1..].iter().map(|slot| (slot.key.load(Acquire), slot));
    let (owner, slot) = free.into_iter().find(|(_, slot)| slot.line.owes_nothing(now))?;
    let taken = slot.key.compare_exchange(owner, key, AcqRel, Acquire).is_ok();
    // Whoever charged the line after it was found to owe nothing, and before it was taken, could not see that it
    // changes hands: its owner keeps it.
    if taken && !slot.line.owes_nothing(now) {
        let _ = slot.key.compare_exchange(key, owner, AcqRel, Acquire);
    }
    // Another thread may have been first for the same key, there or in an earlier line, which both use from now on.
    own(group, key)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Until(AtomicU64);

    impl Owing for Until {
        fn owes_nothing(&self, now: Monotonic) -> bool {
            self.0.load(Relaxed) <= now.0
        }
    }

    fn owe(table: &Table<Until>, key: u64, now: u64, until: u64) -> Whose {
        table.charge(key, Monotonic(now), |line, whose| {
            line.0.fetch_max(until, Relaxed);
            whose
        })
    }

    #[test]
    fn a_line_is_its_owners_until_nothing_is_owed_and_newcomers_to_a_full_group_share_one() {
        let table = Table::<Until>::new(1);
        assert!(table.find(1).is_none());
        for key in 1..=7 {
            assert_eq!(owe(&table, key, 0, 10 * key), Whose::Own, "{key}");
        }
        assert_eq!(owe(&table, 8, 0, 500), Whose::Shared);
        assert_eq!(owe(&table, 9, 9, 500), Whose::Shared);
        assert!(table.find(8).is_none() && table.find(1).is_some());
        assert_eq!(owe(&table, 9, 10, 500), Whose::Own);
        assert!(table.find(1).is_none());
        let left: Vec<_> = table.owned().map(|(key, _)| key).collect();
        assert_eq!(left, [9, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn whatever_threads_do_at_once_no_debt_is_lost() {
        let table = Table::<Until>::new(64);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for key in 1..=100 {
                        table.charge(key, Monotonic(0), |line, _| line.0.fetch_add(1, Relaxed));
                    }
                });
            }
        });
        let owned: Vec<_> = table.owned().map(|(key, line)| (key, line.0.load(Relaxed))).collect();
        let shared: u64 = table.groups.get().unwrap().iter().map(|group| group[0].line.0.load(Relaxed)).sum();
        // A race charges once too often, never once too rarely.
        let charged = owned.iter().map(|(_, debt)| debt).sum::<u64>() + shared;
        assert!((400..=800).contains(&charged), "{charged}");
    }
}
