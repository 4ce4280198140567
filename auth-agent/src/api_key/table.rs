//! A table of records that can be searched while others are added.
//!
//! It is cut into parts with a lock each, so that adding one key to a million moves a few thousand at most, and
//! holds up only who looks into the same part. An entry takes a pointer and a byte.

use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::record::KeyRecord;

const PARTS: usize = 256;

/// What a record is looked up by.
pub(super) type HashOf = fn(&KeyRecord) -> u64;

/// Records, found by the hash that they are looked up by.
pub(super) struct Table {
    hash_of: HashOf,
    parts: Box<[RwLock<HashTable<Arc<KeyRecord>>>]>,
}

impl Table {
    pub fn new(hash_of: HashOf) -> Self {
        Self { hash_of, parts: (0..PARTS).map(|_| RwLock::default()).collect() }
    }

    /// What `use_it` makes of the record that `is_it`, if there is one.
    pub fn find<T>(
        &self,
        hash: u64,
        is_it: impl Fn(&KeyRecord) -> bool,
        use_it: impl FnOnce(&Arc<KeyRecord>) -> T,
    ) -> Option<T> {
        let part = self.part(hash).read().unwrap_or_else(PoisonError::into_inner);
        part.find(hash, |record| is_it(record)).map(use_it)
    }

    /// Puts the record in, in place of the one that `is_it`; `meet` is shown both before anyone finds the new one.
    pub fn put(
        &self,
        record: Arc<KeyRecord>,
        is_it: impl Fn(&KeyRecord) -> bool,
        meet: impl FnOnce(&KeyRecord, &KeyRecord),
    ) {
        let hash = (self.hash_of)(&record);
        let mut part = self.part(hash).write().unwrap_or_else(PoisonError::into_inner);
        match part.entry(hash, |other| is_it(other), |other| (self.hash_of)(other)) {
            Entry::Occupied(mut entry) => {
                meet(&record, entry.get());
                *entry.get_mut() = record;
            }
            Entry::Vacant(entry) => {
                entry.insert(record);
            }
        }
    }

    /// By other bits than those that the table inside the part goes by.
    fn part(&self, hash: u64) -> &RwLock<HashTable<Arc<KeyRecord>>> {
        &self.parts[(hash >> 40) as usize % PARTS]
    }
}
