//! One word per budget, in fixed memory, without a lock: a set-associative table.
//!
//! The law is that of the source table. An entry changes hands only when its word is *free*: when forgetting it changes
//! nothing. Where a group of eight has no free entry, there is none for a newcomer. Entries are told apart by 64 bits of
//! their key and by the group that the other 64 bits choose.
//!
//! An entry that changes hands is [`TAKEN`] while it does. Whoever changes a word read it before looking whose it is, and
//! every word that a newcomer starts with is larger than any before it; so a change never reaches another's entry.
//!
//! A key has one entry: whoever takes one looks once more for another, before anybody can use it. Of two threads that do
//! so for one key at once, each sees the other's, as both write before they look; the one whose entry comes later gives
//! way.

use std::hint::spin_loop;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use super::key::{Key, Marks};

/// Entries of a group: two cache lines side by side.
const WAYS: usize = 8;
/// Entries of a cache line.
const LINE: usize = 4;

/// The word of an entry that changes hands.
const TAKEN: u64 = u64::MAX;

/// How often one looks again at an entry that changes hands; that takes two writes.
const SPINS: u32 = 256;

#[repr(align(64))]
#[derive(Default)]
struct Line([Entry; LINE]);

/// What is looked at for each request.
#[derive(Default)]
struct Entry {
    /// [`Key::tag`]; 0: nobody's yet.
    tag: AtomicU64,
    word: AtomicU64,
}

/// What is written when the entry changes hands, and read by people.
#[derive(Default)]
struct Side {
    high: AtomicU64,
    limit: AtomicU64,
    key: AtomicU32,
    principal: AtomicU32,
    source: AtomicU32,
    tenant: AtomicU32,
}

/// The table.
pub struct Table {
    groups: usize,
    lines: Box<[Line]>,
    sides: Box<[Side]>,
}

/// An owned entry at the moment when it was looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Which one it is.
    pub at: usize,
    /// Its word.
    pub word: u64,
}

/// What there is for a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peek {
    /// Neither an entry nor room for one.
    Full,
    /// An entry of its own.
    Own(Seen),
    /// No entry, and room for one.
    Room,
}

/// Whose an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Whose budget.
    pub key: Key,
    /// Of which limit.
    pub limit: u64,
    /// Of whom.
    pub marks: Marks,
}

impl Table {
    /// With room for about so many, rounded up to a power of two.
    pub fn new(entries: usize) -> Self {
        let groups = Self::room(entries) / WAYS;
        Self {
            groups,
            lines: (0..groups * WAYS / LINE).map(|_| Line::default()).collect(),
            sides: (0..groups * WAYS).map(|_| Side::default()).collect(),
        }
    }

    /// How many there is room for, where there is to be for so many.
    pub fn room(entries: usize) -> usize {
        entries.div_ceil(WAYS).next_power_of_two() * WAYS
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.sides.len()
    }

    /// The entry of `key`, or whether there is room for one.
    pub fn peek(&self, key: Key, free: impl Fn(u64) -> bool) -> Peek {
        let mut spins = 0;
        loop {
            match self.look(key, &free) {
                Look::Found(seen) => return Peek::Own(seen),
                Look::Free(_) => return Peek::Room,
                Look::Busy if spins < SPINS => spins += 1,
                Look::Busy | Look::Full => return Peek::Full,
            }
            spin_loop();
        }
    }

    /// The entry of `owner`, or one that it takes now: its word is then `first` of what it was, and larger. None where no
    /// entry is `free`. The flag says whether it was taken.
    pub fn enter(
        &self,
        owner: &Owner,
        free: impl Fn(u64) -> bool,
        first: impl Fn(u64) -> u64,
    ) -> Option<(Seen, bool)> {
        let mut spins = 0;
        loop {
            match self.look(owner.key, &free) {
                Look::Found(seen) => return Some((seen, false)),
                Look::Busy if spins < SPINS => spins += 1,
                Look::Free(seen) => {
                    if let Some(taken) = self.take(seen, owner, &first) {
                        return Some((taken, true));
                    }
                }
                Look::Busy | Look::Full => return None,
            }
            spin_loop();
        }
    }

    /// Writes `word` where it is still as it was `seen`, and says whether it was.
    pub fn replace(&self, seen: Seen, word: u64) -> bool {
        self.entry(seen.at).word.compare_exchange(seen.word, word, SeqCst, Acquire).is_ok()
    }

    /// What an entry holds, and whose it is; none for one that is nobody's or changes hands.
    pub fn read(&self, at: usize) -> Option<(Seen, Owner)> {
        let entry = self.entry(at);
        // In one order with what is noted of changes: see `super::dirty`.
        let word = entry.word.load(SeqCst);
        let tag = entry.tag.load(Acquire);
        let side = &self.sides[at];
        let marks = Marks {
            key: side.key.load(Relaxed),
            principal: side.principal.load(Relaxed),
            source: side.source.load(Relaxed),
            tenant: side.tenant.load(Relaxed),
        };
        let key = Key { high: side.high.load(Relaxed), tag };
        let owner = Owner { key, limit: side.limit.load(Relaxed), marks };
        fence(Acquire);
        // One that changed hands meanwhile is read another time. In this order: one that was taken and given back has its
        // former tag before its word.
        let same = entry.word.load(Acquire) != TAKEN && entry.tag.load(Acquire) == tag;
        (word != TAKEN && tag != 0 && same).then_some((Seen { at, word }, owner))
    }

    /// Every entry that is somebody's.
    pub fn entries(&self) -> impl Iterator<Item = (Seen, Owner)> {
        (0..self.capacity()).filter_map(|at| self.read(at))
    }

    fn look(&self, key: Key, free: impl Fn(u64) -> bool) -> Look {
        let home = self.home(key);
        let mut answer = Look::Full;
        for line in [home, home ^ 1] {
            for (way, entry) in self.lines[line].0.iter().enumerate() {
                // In this order: the word is then one of the owner's, or does not change.
                let word = entry.word.load(Acquire);
                let at = line * LINE + way;
                if word == TAKEN {
                    answer = Look::Busy;
                } else if entry.tag.load(Acquire) == key.tag {
                    return Look::Found(Seen { at, word });
                } else if matches!(answer, Look::Full) && free(word) {
                    answer = Look::Free(Seen { at, word });
                }
            }
        }
        answer
    }

    fn take(&self, seen: Seen, owner: &Owner, first: impl Fn(u64) -> u64) -> Option<Seen> {
        let entry = self.entry(seen.at);
        entry.word.compare_exchange(seen.word, TAKEN, SeqCst, Acquire).ok()?;
        // Nobody sees what follows before that.
        fence(Release);
        let former = entry.tag.swap(owner.key.tag, SeqCst);
        if !self.is_sole(seen.at, owner.key.tag) {
            entry.tag.store(former, Release);
            // As free as before, but another word: whoever took the entry for the newcomer's changes nothing.
            entry.word.store((seen.word + 1).min(TAKEN - 1), Release);
            return None;
        }
        let side = &self.sides[seen.at];
        let Owner { key, limit, marks } = *owner;
        side.high.store(key.high, Relaxed);
        side.limit.store(limit, Relaxed);
        side.key.store(marks.key, Relaxed);
        side.principal.store(marks.principal, Relaxed);
        side.source.store(marks.source, Relaxed);
        side.tenant.store(marks.tenant, Relaxed);
        let word = first(seen.word).clamp(seen.word.saturating_add(1), TAKEN - 1);
        entry.word.store(word, SeqCst);
        Some(Seen { at: seen.at, word })
    }

    /// Whether no other entry of the group is, or is to be, that of the same key; of two that are to be, the first is.
    fn is_sole(&self, at: usize, tag: u64) -> bool {
        let group = at - at % WAYS;
        (group..group + WAYS).filter(|other| *other != at).all(|other| {
            let entry = self.entry(other);
            entry.tag.load(SeqCst) != tag || other > at && gives_way(entry, tag)
        })
    }

    fn entry(&self, at: usize) -> &Entry {
        &self.lines[at / LINE].0[at % LINE]
    }

    /// The line that is looked at first: often the only one.
    fn home(&self, key: Key) -> usize {
        let group = key.high as usize & (self.groups - 1);
        group * (WAYS / LINE) + (key.tag >> 63) as usize
    }
}

/// Whether an entry that is to be the key's is given back in a moment.
fn gives_way(entry: &Entry, tag: u64) -> bool {
    for _ in 0..SPINS {
        if entry.word.load(Acquire) != TAKEN {
            break;
        }
        spin_loop();
    }
    entry.tag.load(SeqCst) != tag
}

enum Look {
    /// There is none, and one that changes hands may become it.
    Busy,
    Found(Seen),
    Free(Seen),
    Full,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use super::*;

    fn owner(number: u64) -> Owner {
        let key = Key { high: number, tag: number + 1 };
        Owner { key, limit: number, marks: Marks { source: number as u32, ..Marks::default() } }
    }

    #[test]
    fn a_ninth_in_a_group_finds_no_room_until_one_of_the_others_is_free() {
        let table = Table::new(8);
        let free = |now: u64| move |word: u64| word <= now;
        for number in 0..8 {
            let (seen, taken) = table.enter(&owner(number), free(0), |_| 10 + number).unwrap();
            assert_eq!((seen.word, taken), (10 + number, true));
        }
        assert_eq!(table.enter(&owner(8), free(9), |_| 99), None);
        let (again, taken) = table.enter(&owner(3), free(9), |_| 99).unwrap();
        assert_eq!((again.word, taken), (13, false));
        assert!(table.enter(&owner(8), free(10), |_| 99).is_some_and(|(seen, _)| seen.word == 99));
        assert_eq!(table.peek(owner(0).key, free(0)), Peek::Full);
        assert!(matches!(table.peek(owner(8).key, free(0)), Peek::Own(Seen { word: 99, .. })));
        let owners: Vec<_> = table.entries().map(|(_, owner)| owner.marks.source).collect();
        assert_eq!(owners.len(), 8);
        assert!(owners.contains(&8) && !owners.contains(&0));
    }

    #[test]
    fn a_change_that_comes_late_never_reaches_the_next_owner() {
        let table = Table::new(8);
        let (seen, _) = table.enter(&owner(0), |word| word == 0, |_| 10).unwrap();
        for number in 1..8 {
            table.enter(&owner(number), |word| word == 0, |_| 1_000).unwrap();
        }
        let (next, _) = table.enter(&owner(8), |word| word <= 10, |_| 0).unwrap();
        assert_eq!((next.at, next.word), (seen.at, 11));
        assert!(!table.replace(seen, 5));
        assert_eq!(table.peek(owner(8).key, |_| false), Peek::Own(next));
    }

    /// The entries of a key.
    fn of(table: &Table, owner: &Owner) -> Vec<Seen> {
        table.entries().filter(|(_, found)| found.key == owner.key).map(|(seen, _)| seen).collect()
    }

    #[test]
    fn a_key_has_one_entry_also_where_another_thread_takes_one_between_the_look_and_the_taking() {
        let table = Table::new(8);
        for number in 0..8 {
            table.enter(&owner(number), |word| word == 0, |_| 10).unwrap();
        }
        let newcomer = owner(8);
        let looks = std::cell::Cell::new(0);
        // When the last entry is looked at, the first is free after all, and another thread takes it.
        let free = |_: u64| {
            looks.set(looks.get() + 1);
            if looks.get() == 8 {
                assert!(table.enter(&newcomer, |word| word <= 10, |_| 20).is_some_and(|(_, taken)| taken));
            }
            looks.get() == 8
        };
        let (seen, taken) = table.enter(&newcomer, free, |_| 20).unwrap();
        assert_eq!((seen.word, taken), (20, false));
        assert_eq!(of(&table, &newcomer), [seen]);
        // The entry that was given back is its owner's, and as free as before.
        assert_eq!(of(&table, &owner(7)), [Seen { at: 7, word: 11 }]);
    }

    #[test]
    fn threads_that_take_an_entry_for_one_key_at_once_get_the_same_one() {
        const ROUNDS: u64 = 5_000;
        let table = Table::new(8);
        let [chosen, done, twice] = [const { AtomicU64::new(0) }; 3];
        let clock = AtomicU64::new(1);
        let meet = |place: &AtomicU64, round: u64| {
            place.fetch_add(1, SeqCst);
            while place.load(SeqCst) < 2 * round {
                thread::yield_now();
            }
        };
        // Each has chosen another free entry before any is taken.
        let enter = |round: u64, thread: u64| {
            let now = clock.load(SeqCst);
            let (place, free) = (std::cell::Cell::new(0), std::cell::Cell::new(false));
            let choose = |word: u64| {
                place.set(place.get() + 1);
                let first = word < now && place.get() > thread && !free.replace(true);
                if first {
                    meet(&chosen, round);
                }
                word < now && free.get()
            };
            table.enter(&owner(round), choose, |_| now)
        };
        thread::scope(|scope| {
            for thread in 0..2 {
                let (meet, enter, table) = (&meet, &enter, &table);
                let (clock, done, twice) = (&clock, &done, &twice);
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        enter(round, thread);
                        meet(done, 2 * round - 1);
                        if thread == 0 {
                            twice.fetch_add(of(table, &owner(round)).len().saturating_sub(1) as u64, SeqCst);
                            clock.store(1_000 * round + 1, SeqCst);
                        }
                        meet(done, 2 * round);
                    }
                });
            }
        });
        assert_eq!(twice.into_inner(), 0, "keys have two entries");
    }

    #[test]
    fn threads_that_enter_and_count_at_once_lose_nothing_and_hit_nobody_else() {
        const KEYS: u64 = 200;
        const ROUNDS: u64 = 500;
        let table = Table::new(1024);
        let count = |number: u64| {
            loop {
                let (seen, taken) = table.enter(&owner(number), |word| word == 0, |_| 1).unwrap();
                if taken || table.replace(seen, seen.word + 1) {
                    break;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..ROUNDS * KEYS).for_each(|round| count(round % KEYS)));
            }
        });
        let counted: HashMap<_, _> = table.entries().map(|(seen, owner)| (owner.limit, seen.word)).collect();
        assert_eq!(counted.len() as u64, KEYS);
        assert!(counted.values().all(|count| *count == 4 * ROUNDS), "{counted:?}");
    }
}
