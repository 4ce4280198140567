//! The API keys in memory, as the request path sees them.
//!
//! A key is found by its hash: how long that takes tells nothing about the secret. A revoked key stays,
//! so that its holder learns that it was revoked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::{ApiKey, KeyHash, KeyId, Pepper, StoredKey};
use crate::clock::UnixTime;
use crate::refusal::Refusal;

/// One key, as the request path needs it.
#[derive(Debug)]
pub struct KeyRecord {
    expires: Option<UnixTime>,
    id: KeyId,
    name: Arc<str>,
    networks: Vec<IpNet>,
    revoked: AtomicBool,
    scopes: Vec<Arc<str>>,
    /// Seconds since 1970; 0: never.
    used: AtomicU64,
    /// The part of `used` that the store knows.
    used_stored: AtomicU64,
}

impl KeyRecord {
    /// The public part of the key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The subject that the upstream sees.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What the key may do.
    pub fn scopes(&self) -> &[Arc<str>] {
        &self.scopes
    }

    fn new(key: &StoredKey) -> Self {
        let used = key.last_used.map_or(0, |time| time.0);
        Self {
            expires: key.expires,
            id: key.id,
            name: key.name.as_str().into(),
            networks: key.networks.clone(),
            revoked: key.revoked.is_some().into(),
            scopes: key.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            used: used.into(),
            used_stored: used.into(),
        }
    }

    fn allows(&self, source: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&source))
    }

    fn touch(&self, now: UnixTime) {
        // Read first: a busy key would otherwise pass one cache line around with every request.
        if self.used.load(Ordering::Relaxed) < now.0 {
            self.used.fetch_max(now.0, Ordering::Relaxed);
        }
    }
}

/// All keys, by hash.
pub struct KeyRing {
    pepper: Pepper,
    records: ArcSwap<HashMap<KeyHash, Arc<KeyRecord>>>,
}

impl KeyRing {
    /// The keys of a store.
    pub fn new<'a>(pepper: Pepper, keys: impl IntoIterator<Item = &'a StoredKey>) -> Self {
        let records = keys.into_iter().map(|key| (key.hash, Arc::new(KeyRecord::new(key)))).collect();
        Self { pepper, records: ArcSwap::from_pointee(records) }
    }

    /// Who `text` stands for, if it is a key that is valid now and from here.
    ///
    /// `source` may be v4-mapped, as on a `[::]` listener.
    pub fn verify(&self, text: &str, source: IpAddr, now: UnixTime) -> Result<Arc<KeyRecord>, Refusal> {
        let key = ApiKey::parse(text).map_err(|_| Refusal::ApiKeyInvalid)?;
        let records = self.records.load();
        let record = records.get(&self.pepper.hash(&key)).ok_or(Refusal::ApiKeyInvalid)?;
        if record.revoked.load(Ordering::Relaxed) {
            return Err(Refusal::ApiKeyRevoked);
        }
        if record.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::ApiKeyExpired);
        }
        if !record.allows(source.to_canonical()) {
            return Err(Refusal::ApiKeyNetwork);
        }
        record.touch(now);
        Ok(Arc::clone(record))
    }

    /// Hash of a new key, for the store.
    pub fn hash(&self, key: &ApiKey) -> KeyHash {
        self.pepper.hash(key)
    }

    /// Makes a stored key valid.
    pub fn insert(&self, key: &StoredKey) {
        let record = Arc::new(KeyRecord::new(key));
        self.records.rcu(|records| {
            let mut records = HashMap::clone(records);
            records.insert(key.hash, Arc::clone(&record));
            records
        });
    }

    /// Refuses the key from its next request on.
    pub fn revoke(&self, id: KeyId) {
        for record in self.records.load().values().filter(|record| record.id == id) {
            record.revoked.store(true, Ordering::Relaxed);
        }
    }

    /// When a key was last accepted, by this agent or as the store knew at start.
    pub fn last_used(&self, hash: &KeyHash) -> Option<UnixTime> {
        let used = self.records.load().get(hash)?.used.load(Ordering::Relaxed);
        (used != 0).then_some(UnixTime(used))
    }

    /// Uses that the store does not know yet. Tell [`KeyRing::stored`] once it does.
    pub fn unstored_uses(&self) -> Vec<(KeyId, UnixTime)> {
        let records = self.records.load();
        let fresh = records.values().filter_map(|record| {
            let used = record.used.load(Ordering::Relaxed);
            (used > record.used_stored.load(Ordering::Relaxed)).then_some((record.id, UnixTime(used)))
        });
        fresh.collect()
    }

    /// The store knows these uses now.
    pub fn stored(&self, uses: &[(KeyId, UnixTime)]) {
        let uses: HashMap<_, _> = uses.iter().copied().collect();
        for record in self.records.load().values() {
            if let Some(time) = uses.get(&record.id) {
                record.used_stored.fetch_max(time.0, Ordering::Relaxed);
            }
        }
    }
}
