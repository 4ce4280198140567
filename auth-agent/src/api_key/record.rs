//! One API key in memory: what a request that carries it is judged by, and what it leaves behind.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use auth_common::gcra;
use ipnet::IpNet;

use super::{KeyHash, KeyId, StoredKey};
use crate::clock::{Monotonic, Now, UnixTime};
use crate::config::Rate;
use crate::identity::{Facts, Identity, Method};
use crate::refusal::Refusal;

/// One key, as the request path needs it. Whom it stands for is ready made: a request costs a reference
/// count.
#[derive(Debug)]
pub(super) struct KeyRecord {
    /// Beside the rest, so that it costs no look into the identity.
    expires: Option<UnixTime>,
    hash: KeyHash,
    id: KeyId,
    identity: Arc<Identity>,
    limit: Option<Box<KeyLimit>>,
    networks: Box<[IpNet]>,
    /// It stands in the list of uses that the store does not know.
    noted: AtomicBool,
    revoked: AtomicBool,
    /// Seconds since 1970; 0: never.
    used: AtomicU64,
}

/// A key's own request limit, and what it owes.
#[derive(Debug)]
struct KeyLimit {
    arrival: AtomicU64,
    limit: gcra::Limit,
}

impl KeyRecord {
    /// A key as it is stored; `scopes` are its scopes.
    pub fn new(key: &StoredKey, scopes: Arc<[Arc<str>]>) -> Self {
        let facts = Facts {
            expires: key.expires,
            issued_at: Some(key.created),
            key: Some(key.id),
            scopes,
            ..Facts::new(Method::ApiKey, &key.name)
        };
        Self {
            expires: key.expires,
            hash: key.hash,
            id: key.id,
            identity: Identity::verified(facts),
            limit: key.rate.as_ref().map(KeyLimit::new),
            networks: key.networks.as_slice().into(),
            noted: false.into(),
            revoked: key.revoked.is_some().into(),
            used: key.last_used.map_or(0, |time| time.0).into(),
        }
    }

    /// Takes over what its earlier version has used and owes.
    pub fn succeed(&self, earlier: &Self) {
        self.used.fetch_max(earlier.used.load(Ordering::Relaxed), Ordering::Relaxed);
        if let (Some(own), Some(earlier)) = (&self.limit, &earlier.limit) {
            own.arrival.store(earlier.arrival.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Keyed hash of the key.
    pub fn hash(&self) -> &KeyHash {
        &self.hash
    }

    /// The public part of the key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whom it stands for.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// When it was last accepted.
    pub fn last_used(&self) -> Option<UnixTime> {
        let used = self.used.load(Ordering::Relaxed);
        (used != 0).then_some(UnixTime(used))
    }

    /// Whether it may be used from `source` now; a request that may is charged to it.
    pub fn admit(&self, source: IpAddr, now: Now) -> Result<(), Refusal> {
        self.check(now.unix)?;
        if !self.allows(source.to_canonical()) {
            return Err(Refusal::ApiKeyNetwork);
        }
        self.limit.as_ref().map_or(Ok(()), |limit| limit.charge(now.monotonic))
    }

    /// Whether it is valid.
    pub fn check(&self, now: UnixTime) -> Result<(), Refusal> {
        if self.revoked.load(Ordering::Relaxed) {
            return Err(Refusal::ApiKeyRevoked);
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::ApiKeyExpired);
        }
        Ok(())
    }

    /// Refuses it from its next request on.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::Relaxed);
    }

    /// Notes a use; true: it has to be put into the list of those that the store does not know.
    pub fn touch(&self, now: UnixTime) -> bool {
        // Read first: a busy key would otherwise pass one cache line around with every request.
        if self.used.load(Ordering::Relaxed) >= now.0 {
            return false;
        }
        self.used.fetch_max(now.0, Ordering::SeqCst);
        self.note()
    }

    /// The store knows its uses until `time`; true: there was a later one, and it has to be put into the list
    /// again.
    pub fn stored(&self, time: UnixTime) -> bool {
        self.noted.store(false, Ordering::SeqCst);
        self.used.load(Ordering::SeqCst) > time.0 && self.note()
    }

    fn note(&self) -> bool {
        !self.noted.load(Ordering::SeqCst) && !self.noted.swap(true, Ordering::SeqCst)
    }

    fn allows(&self, source: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&source))
    }
}

impl KeyLimit {
    fn new(rate: &Rate) -> Box<Self> {
        let period = u64::try_from(rate.period.as_nanos()).unwrap_or(u64::MAX);
        let limit = gcra::Limit::new(rate.events.get(), period, rate.burst.get());
        Box::new(Self { arrival: AtomicU64::new(0), limit })
    }

    fn charge(&self, now: Monotonic) -> Result<(), Refusal> {
        match gcra::charge(&self.arrival, now.0, self.limit) {
            gcra::Charge::Within => Ok(()),
            gcra::Charge::Over { retry_after } => {
                Err(Refusal::ApiKeyLimit { retry_after: Duration::from_nanos(retry_after) })
            }
        }
    }
}
