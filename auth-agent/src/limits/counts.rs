//! What quotas have counted: in memory for requests, in the store for ever, and from one to the other in batches.
//!
//! Only what was added since the last time is written, and what the store then holds is taken over: so two agents, or an
//! agent whose clock was set, count together.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::budget::{count, ends, packed};
use super::dirty::Dirty;
use super::key::Key;
use super::table::{Owner, Seen, Table};
use crate::store::QuotaCount;

/// The counts.
pub struct Counts {
    dirty: Dirty,
    /// What the store is known to hold of an entry, as a word of its own.
    stored: Box<[AtomicU64]>,
    /// Words as in [`super::budget`].
    pub table: Table,
}

/// An entry that is not as it is stored.
pub struct Due {
    /// What to add to the store.
    pub count: QuotaCount,
    seen: Seen,
}

impl Counts {
    /// With room for about so many.
    pub fn new(entries: usize) -> Self {
        let table = Table::new(entries);
        let stored = (0..table.capacity()).map(|_| AtomicU64::new(0)).collect();
        Self { dirty: Dirty::new(table.capacity()), stored, table }
    }

    /// Notes that an entry was changed.
    pub fn changed(&self, at: usize) {
        self.dirty.note(at);
    }

    /// Takes over what is stored; false: there is no room.
    pub fn load(&self, stored: &QuotaCount, today: u16) -> bool {
        let QuotaCount { count, end, key, limit, marks } = *stored;
        let word = packed(end, u64::try_from(count).unwrap_or(0));
        let owner = Owner { key: Key::from_bytes(key), limit, marks };
        match self.table.enter(&owner, |word| ends(word) <= today, |_| word) {
            Some((seen, true)) => self.stored[seen.at].store(seen.word, Release),
            Some((_, false)) => {}
            None => return false,
        }
        true
    }

    /// What is to be written, at most so many; what is not taken stays. Each is to be [settled](Self::settle), or
    /// [put back](Self::put_back).
    pub fn due(&self, most: usize) -> Vec<Due> {
        self.dirty.take(most, |at| self.one(at))
    }

    fn one(&self, at: usize) -> Option<Due> {
        let (seen, Owner { key, limit, marks }) = self.table.read(at)?;
        let stored = self.stored(seen);
        let added = count(seen.word) as i64 - stored as i64;
        let row = QuotaCount { count: added, end: ends(seen.word), key: key.to_bytes(), limit, marks };
        (added != 0).then_some(Due { count: row, seen })
    }

    /// What the store holds of the entry's period.
    fn stored(&self, seen: Seen) -> u64 {
        let stored = self.stored[seen.at].load(Acquire);
        if ends(stored) == ends(seen.word) { count(stored) } else { 0 }
    }

    /// Takes over that the store now holds `total`: what others have counted, too.
    pub fn settle(&self, due: &Due, total: u64) {
        let Due { count: row, seen: written } = due;
        let others = total as i64 - count(written.word) as i64;
        loop {
            let Some((seen, owner)) = self.table.read(written.at) else { return };
            if owner.key.to_bytes() != row.key || ends(seen.word) != row.end {
                return;
            }
            let known = count(seen.word).saturating_add_signed(others);
            if self.table.replace(seen, packed(row.end, known)) {
                self.stored[written.at].store(packed(row.end, total), Release);
                return;
            }
        }
    }

    /// Has an entry written the next time.
    pub fn put_back(&self, due: &Due) {
        self.changed(due.seen.at);
    }

    /// Makes an entry one of which nothing was counted, nor is stored.
    pub fn reset(&self, at: usize, key: Key) {
        while let Some((seen, owner)) = self.table.read(at) {
            if owner.key != key {
                return;
            }
            if self.table.replace(seen, packed(ends(seen.word), 0)) {
                self.stored[at].store(packed(ends(seen.word), 0), Release);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::key::Marks;

    const TODAY: u16 = 100;

    fn owner(number: u64) -> Owner {
        Owner { key: Key { high: number, tag: number + 1 }, limit: 7, marks: Marks::default() }
    }

    fn add(counts: &Counts, owner: &Owner, end: u16) {
        let first = |_| packed(end, 1);
        let (seen, taken) = counts.table.enter(owner, |word| ends(word) <= TODAY, first).unwrap();
        if !taken {
            let before = if ends(seen.word) == end { count(seen.word) } else { 0 };
            assert!(counts.table.replace(seen, packed(end, before + 1)));
        }
        counts.changed(seen.at);
    }

    fn known(counts: &Counts, owner: &Owner) -> u64 {
        let found = counts.table.entries().find(|(_, other)| other.key == owner.key);
        found.map_or(0, |(seen, _)| count(seen.word))
    }

    #[test]
    fn only_what_was_added_is_written_and_what_others_added_is_taken_over() {
        let (counts, alice) = (Counts::new(64), owner(1));
        add(&counts, &alice, 101);
        add(&counts, &alice, 101);
        let due = counts.due(9);
        assert_eq!(due.iter().map(|due| due.count.count).collect::<Vec<_>>(), [2]);
        // One more meanwhile, and another agent has counted 10.
        add(&counts, &alice, 101);
        counts.settle(&due[0], 12);
        assert_eq!(known(&counts, &alice), 13);
        let due = counts.due(9);
        assert_eq!(due.iter().map(|due| due.count.count).collect::<Vec<_>>(), [1]);
        counts.put_back(&due[0]);
        assert_eq!(counts.due(9).len(), 1);
        assert_eq!(counts.due(9).len(), 0);
    }

    #[test]
    fn what_is_loaded_is_not_written_again_and_a_new_period_starts_at_nothing() {
        let (counts, alice) = (Counts::new(64), owner(1));
        let stored =
            QuotaCount { count: 40, end: 101, key: alice.key.to_bytes(), limit: 7, marks: Marks::default() };
        assert!(counts.load(&stored, TODAY));
        assert_eq!((known(&counts, &alice), counts.due(9).len()), (40, 0));
        add(&counts, &alice, 101);
        assert_eq!(counts.due(9)[0].count.count, 1);
        add(&counts, &alice, 102);
        let due = counts.due(9);
        assert_eq!((due[0].count.count, due[0].count.end), (1, 102));
    }

    #[test]
    fn a_reset_leaves_nothing_to_write() {
        let (counts, alice) = (Counts::new(64), owner(1));
        add(&counts, &alice, 101);
        let (seen, _) = counts.table.entries().next().unwrap();
        counts.reset(seen.at, alice.key);
        assert_eq!((known(&counts, &alice), counts.due(9).len()), (0, 0));
    }
}
