//! What newcomers of a limit share where its table has no room: a few words, so that not all of them share one.
//!
//! What quotas count there goes to the store as well, as of an owner whose key is the number of the limit and of the word.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::{count, ends, packed};
use super::key::{Key, Marks};
use crate::store::QuotaCount;

/// Words of a limit.
pub const WORDS: usize = 64;

/// The words of a limit.
pub struct Shared {
    limit: u64,
    words: [Word; WORDS],
}

#[derive(Default)]
struct Word {
    /// Of what a quota counted: what the store holds of owners of their own, for whom there was no room at the start.
    others: AtomicU64,
    /// What the store holds of the word itself.
    stored: AtomicU64,
    word: AtomicU64,
}

/// A word that is not as it is stored.
pub struct Due {
    /// What to add to the store.
    pub count: QuotaCount,
    index: usize,
    word: u64,
}

/// The shared words by the number of their limit. They are kept for ever: what is owed there is owed.
#[derive(Default)]
pub struct SharedWords(Mutex<HashMap<u64, Arc<Shared>>>);

impl SharedWords {
    /// Those of a limit.
    pub fn of(&self, limit: u64) -> Arc<Shared> {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Shared { limit, words: std::array::from_fn(|_| Word::default()) });
        Arc::clone(words.entry(limit).or_insert_with(new))
    }
}

impl Shared {
    /// The word that an owner without an entry goes by.
    pub fn word(&self, key: Key) -> &AtomicU64 {
        &self.words[Self::index(key)].word
    }

    /// Each word, and whose it is in the store.
    pub fn words(&self) -> impl Iterator<Item = (Key, &AtomicU64)> {
        let key = |index| Key { high: self.limit, tag: index as u64 };
        self.words.iter().enumerate().map(move |(index, word)| (key(index), &word.word))
    }

    /// The word that is stored under this key, if any is: another owner's has this form in one case of 2^122.
    pub fn stored_as(&self, key: Key) -> Option<&AtomicU64> {
        Some(&self.words.get(usize::try_from(key.tag).ok()?).filter(|_| key.high == self.limit)?.word)
    }

    /// Takes over what a quota has counted of whom there is no room for, or of the newcomers before them.
    pub fn load(&self, row: &QuotaCount) {
        let key = Key::from_bytes(row.key);
        let own = self.stored_as(key).map(|_| key.tag as usize);
        let Word { others, stored, word } = &self.words[own.unwrap_or(Self::index(key))];
        let added = u64::try_from(row.count).unwrap_or(0);
        // The period that ends first is the one that goes on.
        let add = |seen: u64| match (ends(seen), count(seen)) {
            (end, before) if end == row.end => Some(packed(end, before + added)),
            (0, _) => Some(packed(row.end, added)),
            _ => None,
        };
        if word.fetch_update(AcqRel, Acquire, add).is_ok() {
            let part = if own.is_some() { stored } else { others };
            // It is of the same period, or of none.
            let _ = part.fetch_update(AcqRel, Acquire, add);
        }
    }

    /// What a quota has counted and is to be written. Each is to be [settled](Self::settle).
    pub fn due(&self) -> Vec<Due> {
        self.words.iter().enumerate().filter_map(|(index, word)| self.one(index, word)).collect()
    }

    fn one(&self, index: usize, word: &Word) -> Option<Due> {
        let seen = word.word.load(Acquire);
        let end = ends(seen);
        let added = count(seen) as i64 - of_period(&word.others, end) - of_period(&word.stored, end);
        let key = Key { high: self.limit, tag: index as u64 }.to_bytes();
        let count = QuotaCount { count: added, end, key, limit: self.limit, marks: Marks::default() };
        (added != 0).then_some(Due { count, index, word: seen })
    }

    /// Takes over that the store now holds `total`: what others have counted, too.
    pub fn settle(&self, due: &Due, total: u64) {
        let Due { count: row, index, word: written } = due;
        let Word { others, stored, word } = &self.words[*index];
        let elsewhere = total as i64 + of_period(others, row.end) - count(*written) as i64;
        let add = |seen: u64| {
            let known = count(seen).saturating_add_signed(elsewhere);
            (ends(seen) == row.end).then_some(packed(row.end, known))
        };
        if word.fetch_update(AcqRel, Acquire, add).is_ok() {
            stored.store(packed(row.end, total), Release);
        }
    }

    /// Has nobody owe anything, nor the store hold anything.
    pub fn reset(&self) {
        for Word { others, stored, word } in &self.words {
            [word, others, stored].into_iter().for_each(|word| word.store(0, Release));
        }
    }

    fn index(key: Key) -> usize {
        key.high as usize % WORDS
    }
}

/// What a word holds of a period.
fn of_period(word: &AtomicU64, end: u16) -> i64 {
    let word = word.load(Acquire);
    if ends(word) == end { count(word) as i64 } else { 0 }
}
