//! A table of marks in 24 bytes an entry: linear probing, kept in order.
//!
//! Slots are ordered by mark, with gaps: an entry lies at its home slot or behind it, nothing between the two is free,
//! and whoever looks for a mark stops at the first free slot or greater mark (Amble and Knuth, "Ordered hash tables",
//! 1974). So a mark that is not there is as quick to miss as one that is there is to find, the table may be nine tenths
//! full, and growing or purging it is one pass.

/// Slots of the smallest table.
const LEAST_SLOTS: usize = 16;

/// A full table holds nine entries for ten home slots.
const MOST: (usize, usize) = (9, 10);

/// What a table that is full, or mostly empty, is given: ten entries for thirteen home slots, so that no entry ever takes
/// more than 32 bytes but in small tables.
const GOAL: (usize, usize) = (10, 13);

/// Slots behind the last home that there is room for without moving the table.
const SLACK: usize = 32;

/// Below half a table is made smaller.
const LEAST: (usize, usize) = (1, 2);

/// One entry; none where `until` is 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    high: u64,
    low: u64,
    /// What was issued before this second is revoked.
    pub before: u32,
    /// The first second in which this says nothing any more.
    pub until: u32,
}

impl Entry {
    pub fn new(mark: u128, before: u32, until: u32) -> Self {
        Self { high: (mark >> 64) as u64, low: mark as u64, before, until }
    }

    pub fn mark(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    fn is_free(&self) -> bool {
        self.until == 0
    }

    fn order(&self) -> (u64, u64) {
        (self.high, self.low)
    }
}

/// Entries by mark. Marks are spread evenly by whoever makes them; a table in which they are not is slow, not wrong.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: usize,
    /// Slots that are the home of a mark; those behind the last are for what was pushed out.
    homes: usize,
    slots: Vec<Entry>,
}

impl Table {
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Entry>()
    }

    pub fn get(&self, mark: u128) -> Option<&Entry> {
        let wanted = Entry::new(mark, 0, 0).order();
        let mut slots = self.slots.get(self.home(wanted.0)..)?.iter();
        slots.find(|slot| slot.is_free() || slot.order() >= wanted).filter(|slot| slot.order() == wanted)
    }

    /// Puts an entry in, in place of one of the same mark. Says whether there was none.
    pub fn insert(&mut self, entry: Entry) -> bool {
        if self.entries * MOST.1 >= self.homes * MOST.0 {
            self.rebuild(self.entries + 1, |_| true);
        }
        let at = self.place_of(entry.order());
        match self.slots.get_mut(at) {
            Some(slot) if !slot.is_free() && slot.order() == entry.order() => {
                *slot = entry;
                return false;
            }
            _ => {}
        }
        let free = self.slots[at..].iter().position(Entry::is_free).map(|after| at + after);
        let free = free.unwrap_or_else(|| {
            self.push(Entry::default());
            self.slots.len() - 1
        });
        self.slots.copy_within(at..free, at + 1);
        self.slots[at] = entry;
        self.entries += 1;
        true
    }

    /// Takes the entry of a mark out, if it is there.
    pub fn remove(&mut self, mark: u128) -> Option<Entry> {
        let wanted = Entry::new(mark, 0, 0).order();
        let at = self.place_of(wanted);
        let removed = *self.slots.get(at).filter(|slot| !slot.is_free() && slot.order() == wanted)?;
        // What follows moves up, as far as it lies behind its home.
        let moved = (at + 1..self.slots.len())
            .take_while(|&next| !self.slots[next].is_free() && self.home(self.slots[next].high) < next)
            .count();
        self.slots.copy_within(at + 1..at + 1 + moved, at);
        self.slots[at + moved] = Entry::default();
        self.entries -= 1;
        Some(removed)
    }

    /// Takes out what is not to stay, and shows each.
    pub fn retain(&mut self, stays: impl Fn(&Entry) -> bool, mut gone: impl FnMut(&Entry)) {
        let leaving = |slot: &&Entry| !slot.is_free() && !stays(slot);
        let left = self.slots.iter().filter(leaving).map(&mut gone).count();
        if left > 0 {
            self.rebuild(self.entries - left, stays);
        }
    }

    /// A vector left to itself would double.
    fn push(&mut self, entry: Entry) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(SLACK);
        }
        self.slots.push(entry);
    }

    fn place_of(&self, wanted: (u64, u64)) -> usize {
        let home = self.home(wanted.0).min(self.slots.len());
        let after = self.slots[home..].iter().position(|slot| slot.is_free() || slot.order() >= wanted);
        after.map_or(self.slots.len(), |after| home + after)
    }

    /// Rises with the mark, which keeps homes in order.
    fn home(&self, high: u64) -> usize {
        ((u128::from(high) * self.homes as u128) >> 64) as usize
    }

    /// A table for `entries`, with what stays of this one.
    fn rebuild(&mut self, entries: usize, stays: impl Fn(&Entry) -> bool) {
        let fits = entries * MOST.1 < self.homes * MOST.0 && entries * LEAST.1 >= self.homes * LEAST.0;
        let homes = if fits { self.homes } else { (entries * GOAL.1 / GOAL.0).max(LEAST_SLOTS) };
        let old = std::mem::take(&mut self.slots);
        self.homes = homes;
        self.entries = 0;
        self.slots = Vec::with_capacity(homes + SLACK);
        self.slots.resize(homes, Entry::default());
        let mut next = 0;
        for entry in old.into_iter().filter(|slot| !slot.is_free()).filter(|slot| stays(slot)) {
            let at = self.home(entry.high).max(next);
            if at == self.slots.len() {
                self.push(entry);
            } else {
                self.slots[at] = entry;
            }
            next = at + 1;
            self.entries += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u128, u32),
        Remove(u128),
        Retain(u32),
    }

    /// Few marks, many of them with one home, first and last ones among them.
    fn marks() -> impl Strategy<Value = u128> {
        prop_oneof![
            (0u128..6, 0u128..4).prop_map(|(high, low)| high << 64 | low),
            (0u128..6, 0u128..4).prop_map(|(high, low)| (u64::MAX as u128 - high) << 64 | low),
            (0u128..64).prop_map(|high| high << 122 | 7),
            any::<u128>(),
        ]
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (marks(), 1u32..100).prop_map(|(mark, until)| Step::Insert(mark, until)),
            2 => marks().prop_map(Step::Remove),
            1 => (1u32..100).prop_map(Step::Retain),
        ]
    }

    fn assert_in_order(table: &Table) {
        let full: Vec<_> = (0..table.slots.len()).filter(|&at| !table.slots[at].is_free()).collect();
        assert_eq!(full.len(), table.entries);
        assert!(full.windows(2).all(|pair| table.slots[pair[0]].order() < table.slots[pair[1]].order()));
        for &at in &full {
            let home = table.home(table.slots[at].high);
            assert!((home..at).all(|between| !table.slots[between].is_free()), "a gap before {at}");
        }
    }

    proptest! {
        #[test]
        fn a_table_does_as_a_map_does(steps in prop::collection::vec(steps(), 1..400)) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(mark, until) => {
                        let new = table.insert(Entry::new(mark, until * 2, until));
                        prop_assert_eq!(new, model.insert(mark, until).is_none());
                    }
                    Step::Remove(mark) => {
                        let removed = table.remove(mark).map(|entry| entry.until);
                        prop_assert_eq!(removed, model.remove(&mark));
                    }
                    Step::Retain(until) => {
                        table.retain(|entry| entry.until > until, |_| ());
                        model.retain(|_, value| *value > until);
                    }
                }
                assert_in_order(&table);
            }
            for (mark, until) in &model {
                prop_assert_eq!(table.get(*mark), Some(&Entry::new(*mark, until * 2, *until)));
            }
            for mark in (0..64u128).map(|high| high << 122 | 8) {
                prop_assert_eq!(table.get(mark).is_some(), model.contains_key(&mark));
            }
        }
    }

    #[test]
    fn an_entry_takes_at_most_32_bytes_and_a_table_shrinks_with_what_it_holds() {
        let mut table = Table::default();
        let spread = |number: u64| u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64;
        for number in 0..20_000u64 {
            table.insert(Entry::new(spread(number), 1, number as u32 + 1));
            // What was pushed out behind the last home is a handful of entries.
            let allowed = (table.entries * 32).max(LEAST_SLOTS * 24) + 2 * SLACK * 24;
            assert!(table.bytes() <= allowed, "{} bytes for {}", table.bytes(), table.entries);
        }
        table.retain(|entry| entry.until > 19_000, |_| ());
        assert_eq!(table.entries, 1000);
        assert!(table.bytes() <= 1000 * 32 + 2 * SLACK * 24, "{}", table.bytes());
    }
}
