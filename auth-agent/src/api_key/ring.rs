//! The API keys in memory, as the request path sees them.
//!
//! A key is found by its keyed hash: how long that takes tells nothing about the secret. A revoked key stays, so
//! that its holder learns that it was revoked.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::KeyRecord;
use super::table::Table;
use super::{ApiKey, KeyHash, KeyId, Pepper, RandomError, StoredKey};
use crate::clock::{Now, UnixTime};
use crate::identity::Identity;
use crate::refusal::Refusal;

/// Uses that are handed to the store at once: a fraction of a second's work for it.
const USES: usize = 20_000;

/// All keys, by hash and by id. What a lookup costs does not depend on how many there are.
pub struct KeyRing {
    by_hash: Table,
    by_id: Table,
    pepper: Pepper,
    scopes: Mutex<Scopes>,
    /// Each at most once, so no more than there are keys.
    unstored: Mutex<Vec<Arc<KeyRecord>>>,
}

impl KeyRing {
    /// The keys of a store.
    pub fn new<'a>(pepper: Pepper, keys: impl IntoIterator<Item = &'a StoredKey>) -> Self {
        let ring = Self {
            by_hash: Table::new(|record| hash_bits(record.hash())),
            by_id: Table::new(|record| id_bits(record.id())),
            pepper,
            scopes: Mutex::default(),
            unstored: Mutex::default(),
        };
        keys.into_iter().for_each(|key| ring.insert(key));
        ring
    }

    /// A ring of so many new keys that no store knows, and the keys: for measurements.
    ///
    /// # Errors
    /// If the system's random generator fails.
    pub fn generated(count: usize) -> Result<(Self, Vec<ApiKey>), RandomError> {
        let ring = Self::new(Pepper::random()?, []);
        let keys = (0..count).map(|_| ApiKey::generate()).collect::<Result<Vec<_>, _>>()?;
        for (number, key) in keys.iter().enumerate() {
            ring.insert(&StoredKey {
                scopes: vec!["orders:read".to_owned(), "orders:write".to_owned()],
                ..StoredKey::new(key.id(), ring.hash(key), format!("service-{number}"), UnixTime(1))
            });
        }
        Ok((ring, keys))
    }

    /// Whom `text` stands for, if it is a key that is valid now and from here, and within its limit; a request that
    /// is all that is charged to the key.
    ///
    /// `source` may be v4-mapped, as on a `[::]` listener.
    pub fn verify(&self, text: &str, source: IpAddr, now: Now) -> Result<Arc<Identity>, Refusal> {
        let key = ApiKey::parse(text).map_err(|_| Refusal::ApiKeyInvalid)?;
        let hash = self.pepper.hash(&key);
        let found = self.by_hash.find(
            hash_bits(&hash),
            |record| *record.hash() == hash,
            |record| {
                record.admit(source, now)?;
                if record.touch(now.unix) {
                    self.unstored().push(Arc::clone(record));
                }
                Ok(Arc::clone(record.identity()))
            },
        );
        found.unwrap_or(Err(Refusal::ApiKeyInvalid))
    }

    /// Whether the key of this id is neither revoked nor expired; `None`: there is none.
    pub fn standing(&self, id: KeyId, now: UnixTime) -> Option<Result<(), Refusal>> {
        self.with(id, |record| record.check(now))
    }

    /// Hash of a new key, for the store.
    pub fn hash(&self, key: &ApiKey) -> KeyHash {
        self.pepper.hash(key)
    }

    /// Makes a stored key valid, or as it is stored now.
    pub fn insert(&self, key: &StoredKey) {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner).list(&key.scopes);
        let record = Arc::new(KeyRecord::new(key, scopes));
        let same_hash = |other: &KeyRecord| *other.hash() == key.hash;
        self.by_hash.put(Arc::clone(&record), same_hash, KeyRecord::succeed);
        self.by_id.put(record, |other| other.id() == key.id, |_, _| ());
    }

    /// Refuses the key from its next request on.
    pub fn revoke(&self, id: KeyId) {
        self.with(id, |record| record.revoke());
    }

    /// When a key was last accepted, by this agent or as the store knew at start.
    pub fn last_used(&self, id: KeyId) -> Option<UnixTime> {
        self.with(id, |record| record.last_used()).flatten()
    }

    /// Takes a number of uses that the store does not know yet. To be given back, stored or not.
    pub fn take_uses(&self) -> Uses {
        let mut unstored = self.unstored();
        let count = unstored.len().min(USES);
        let records: Vec<_> = unstored.drain(..count).collect();
        drop(unstored);
        let time = |record: &Arc<KeyRecord>| record.last_used().unwrap_or(UnixTime(0));
        Uses(records.into_iter().map(|record| (time(&record), record)).collect())
    }

    /// The store knows these uses now.
    pub fn stored(&self, uses: Uses) {
        let again = uses.0.into_iter().filter(|(time, record)| record.stored(*time));
        let again: Vec<_> = again.map(|(_, record)| record).collect();
        self.unstored().extend(again);
    }

    /// The store does not know these uses: they will be taken again.
    pub fn not_stored(&self, uses: Uses) {
        self.unstored().extend(uses.0.into_iter().map(|(_, record)| record));
    }

    fn with<T>(&self, id: KeyId, use_it: impl FnOnce(&KeyRecord) -> T) -> Option<T> {
        self.by_id.find(id_bits(id), |record| record.id() == id, |record| use_it(record))
    }

    fn unstored(&self) -> MutexGuard<'_, Vec<Arc<KeyRecord>>> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Uses on their way to the store.
pub struct Uses(Vec<(UnixTime, Arc<KeyRecord>)>);

impl Uses {
    /// Which keys were used, and when last.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, UnixTime)> {
        self.0.iter().map(|(time, record)| (record.id(), *time))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Scopes and lists of them, each kept once: a million keys have a handful.
#[derive(Default)]
struct Scopes {
    lists: HashSet<Arc<[Arc<str>]>>,
    words: HashSet<Arc<str>>,
}

impl Scopes {
    fn list(&mut self, scopes: &[String]) -> Arc<[Arc<str>]> {
        let list: Vec<_> = scopes.iter().map(|scope| self.word(scope)).collect();
        if let Some(known) = self.lists.get(list.as_slice()) {
            return Arc::clone(known);
        }
        let list: Arc<[Arc<str>]> = list.into();
        self.lists.insert(Arc::clone(&list));
        list
    }

    fn word(&mut self, scope: &str) -> Arc<str> {
        if let Some(known) = self.words.get(scope) {
            return Arc::clone(known);
        }
        let word: Arc<str> = scope.into();
        self.words.insert(Arc::clone(&word));
        word
    }
}

/// As good as random: it is a keyed hash.
fn hash_bits(hash: &KeyHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Ids are random digits: all that is needed is to spread them over all bits.
fn id_bits(id: KeyId) -> u64 {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = id.0;
    let (head, tail) = (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l]));
    let mixed = (head ^ u64::from(tail).rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
