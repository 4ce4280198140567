//! Signing keys, of the built-in issuer and of internal tokens: made at the first start, rotated with overlap, kept across
//! restarts.
//!
//! The next key is published for a while before it signs, so that whoever caches the key set has it in time; a key
//! that no longer signs is published until the last token that it can have signed is over. A change is durable
//! first, then the verifier knows it, then the key set is published, then something is signed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::error::Unspecified;
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::key::SigningKey;
use super::seal::Sealer;
use crate::clock::UnixTime;
use crate::config::{
    AuthorizationServer, InternalToken, LONGEST_INTERNAL_TOKEN, LONGEST_LEEWAY, LONGEST_OWN_TOKEN, OWN_ISSUER,
};
use crate::internal_token;
use crate::store::{KeyPurpose, Store, StoreError, StoredSigningKey};
use crate::token::{KeyFault, Verifier};

/// How long the key set may be cached by those who fetch it.
pub const CACHED: Duration = Duration::from_secs(300);
/// How long the next key is published before it signs: twice as long as anybody caches the set.
pub const PUBLISHED_BEFORE: Duration = Duration::from_secs(600);
/// More at a time only come of rotating by hand without end.
const MOST: usize = 16;

/// Why the signing keys can't be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The next key waits for its time.
    #[error("the key {kid} is published already and signs from {} on (seconds since 1970): wait, or add --now", signs_from.0)]
    AlreadyRotating {
        /// Its id.
        kid: String,
        /// When it begins.
        signs_from: UnixTime,
    },
    /// The crypto library or its random generator failed.
    #[error("the crypto library failed: no signing key was made and nothing was signed, try again")]
    Crypto(#[from] Unspecified),
    /// The verifier does not take the keys.
    #[error("the signing keys can't be verified with: {0}")]
    Keys(#[from] KeyFault),
    /// Was sealed with another secret, or is damaged.
    #[error(
        "the signing key {0} can't be opened with the secret in api-key.pepper: restore the store's directory as a \
         whole from one backup"
    )]
    Sealed(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many at a time.
    #[error(
        "there are {MOST} signing keys already: wait until the tokens of the oldest are over, within an hour"
    )]
    TooMany,
}

/// Signs, and knows when to go on to the next key.
pub struct SigningKeys {
    algorithm: Algorithm,
    changing: Mutex<()>,
    current: ArcSwap<Current>,
    /// No token is valid for longer.
    longest: Duration,
    purpose: KeyPurpose,
    rotate_every: u64,
    sealer: Sealer,
    store: Arc<Store>,
    /// Who is to know the keys here.
    verifier: Option<Arc<Verifier>>,
}

/// How the next key takes over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rotation {
    /// It is published for a while before it signs.
    Announced,
    /// It signs at once, and is the only one: whatever another signed is refused.
    DropOld,
    /// It signs at once, though some may not have fetched it yet.
    Now,
}

#[derive(Default)]
struct Current {
    /// In the order in which they sign.
    keys: Vec<Arc<SigningKey>>,
    key_set: Bytes,
}

/// What is told of a signing key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyReport {
    /// `ES256` or `EdDSA`.
    pub algorithm: &'static str,
    /// When it was made.
    pub created: UnixTime,
    /// Its thumbprint (RFC 7638).
    pub kid: String,
    /// It is the one that signs.
    pub signs: bool,
    /// The first second in which it signs.
    pub signs_from: UnixTime,
}

impl SigningKeys {
    /// The stored keys; the first is made here.
    pub fn open(
        config: &AuthorizationServer,
        store: Arc<Store>,
        sealer: Sealer,
        verifier: Arc<Verifier>,
        now: UnixTime,
    ) -> Result<Self, SigningError> {
        let makes = (config.algorithm, config.rotate_every);
        Self::begin(KeyPurpose::Issuer, makes, (store, sealer), Some(verifier), now)
    }

    /// The stored keys of internal tokens, which nobody verifies here.
    pub fn open_internal(
        config: &InternalToken,
        store: Arc<Store>,
        sealer: Sealer,
        now: UnixTime,
    ) -> Result<Self, SigningError> {
        Self::begin(KeyPurpose::Internal, (config.algorithm, config.rotate_every), (store, sealer), None, now)
    }

    fn begin(
        purpose: KeyPurpose,
        (algorithm, rotate_every): (Algorithm, Duration),
        (store, sealer): (Arc<Store>, Sealer),
        verifier: Option<Arc<Verifier>>,
        now: UnixTime,
    ) -> Result<Self, SigningError> {
        let longest = match purpose {
            KeyPurpose::Internal => LONGEST_INTERNAL_TOKEN,
            KeyPurpose::Issuer => LONGEST_OWN_TOKEN,
        };
        let (changing, current) = (Mutex::default(), ArcSwap::default());
        let rotate_every = rotate_every.as_secs();
        let keys =
            Self { algorithm, changing, current, longest, purpose, rotate_every, sealer, store, verifier };
        keys.read_again()?;
        keys.upkeep(now)?;
        Ok(keys)
    }

    /// Goes by what is stored: another agent may have changed it. Blocks.
    pub fn read_again(&self) -> Result<(), SigningError> {
        let _changing = self.changing();
        let keys = self.store.signing_keys(self.purpose)?;
        let keys = keys.into_iter().map(|stored| opened(&self.sealer, &stored).map(Arc::new));
        self.publish(keys.collect::<Result<_, _>>()?)
    }

    /// To be called every few seconds: makes the next key when it is time, and forgets what nobody needs. Blocks.
    pub fn upkeep(&self, now: UnixTime) -> Result<(), SigningError> {
        let _changing = self.changing();
        self.forget_old(now)?;
        // No key is made to wait longer: the clock was set back.
        self.begin_by(later(now, PUBLISHED_BEFORE), now)?;
        let next = match self.current.load().keys.last() {
            None => Some(now),
            Some(newest) => self.is_due(newest, now).then(|| later(now, PUBLISHED_BEFORE)),
        };
        next.map_or(Ok(()), |signs_from| self.add(signs_from, now))
    }

    /// Makes the next key. Blocks.
    pub fn rotate(&self, rotation: Rotation, now: UnixTime) -> Result<(), SigningError> {
        let _changing = self.changing();
        let current = self.current.load();
        match (rotation, current.waiting(now)) {
            (Rotation::DropOld, _) => self.replace_all(now),
            (Rotation::Now, Some(_)) => self.begin_by(now, now),
            (Rotation::Announced, Some(waiting)) => Err(SigningError::AlreadyRotating {
                kid: waiting.kid().into(),
                signs_from: waiting.signs_from,
            }),
            (_, None) if current.keys.len() >= MOST => Err(SigningError::TooMany),
            (Rotation::Now, None) => self.begin_by(now, now).and_then(|()| self.add(now, now)),
            (Rotation::Announced, None) => self.add(later(now, PUBLISHED_BEFORE), now),
        }
    }

    /// What there is, in the order in which they sign.
    pub fn report(&self, now: UnixTime) -> Vec<KeyReport> {
        let current = self.current.load();
        let signing = current.signing(now).map(|key| key.kid().to_owned());
        let report = |key: &Arc<SigningKey>| KeyReport {
            algorithm: key.algorithm(),
            created: key.created,
            kid: key.kid().to_owned(),
            signs: signing.as_deref() == Some(key.kid()),
            signs_from: key.signs_from,
        };
        current.keys.iter().map(report).collect()
    }

    /// The key set, as it is published (RFC 7517, 5).
    pub fn key_set(&self) -> Bytes {
        self.current.load().key_set.clone()
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value, now: UnixTime) -> Result<String, SigningError> {
        let current = self.current.load();
        let typ = match self.purpose {
            KeyPurpose::Internal => internal_token::TYPE,
            // RFC 9068, 2.1.
            KeyPurpose::Issuer => "at+jwt",
        };
        Ok(current.signing(now).ok_or(Unspecified)?.sign(typ, claims)?)
    }

    fn is_due(&self, newest: &SigningKey, now: UnixTime) -> bool {
        let other_algorithm = !newest.is_for(self.algorithm);
        let ends = newest.signs_from.0.saturating_add(self.rotate_every);
        newest.signs_from <= now && (other_algorithm || ends <= later(now, PUBLISHED_BEFORE).0)
    }

    /// A new key that signs from then on, and not before the one before it.
    fn add(&self, signs_from: UnixTime, now: UnixTime) -> Result<(), SigningError> {
        let last = self.current.load().keys.last().map(|last| last.signs_from);
        let signs_from = last.map_or(signs_from, |last| last.max(signs_from));
        let (key, secret) = SigningKey::generate(self.algorithm, now, signs_from)?;
        let sealed = self.sealer.seal(&secret, key.kid())?;
        self.store.put_signing_key(&stored(&key, self.purpose, sealed), now)?;
        tracing::info!(kid = key.kid(), signs_from = signs_from.0, "a new signing key");
        let mut keys = self.current.load().keys.clone();
        keys.push(Arc::new(key));
        self.publish(keys)
    }

    /// One new key in the place of all: none of them may verify any longer, nor sign later.
    fn replace_all(&self, now: UnixTime) -> Result<(), SigningError> {
        let (key, secret) = SigningKey::generate(self.algorithm, now, now)?;
        let sealed = self.sealer.seal(&secret, key.kid())?;
        self.store.replace_signing_keys(&stored(&key, self.purpose, sealed), now)?;
        tracing::warn!(kid = key.kid(), "a new signing key; all others were dropped");
        self.publish(vec![Arc::new(key)])
    }

    /// Makes keys that would sign only after `latest` sign from `latest` on.
    fn begin_by(&self, latest: UnixTime, now: UnixTime) -> Result<(), SigningError> {
        if self.current.load().keys.iter().all(|key| key.signs_from <= latest) {
            return Ok(());
        }
        let mut keys = Vec::new();
        for key in self.store.signing_keys(self.purpose)? {
            let begun = StoredSigningKey { signs_from: key.signs_from.min(latest), ..key.clone() };
            if begun != key {
                self.store.put_signing_key(&begun, now)?;
            }
            keys.push(Arc::new(opened(&self.sealer, &begun)?));
        }
        self.publish(keys)
    }

    /// A key is over when the last token is that it signed before its successor began.
    fn forget_old(&self, now: UnixTime) -> Result<(), SigningError> {
        let mut keys = self.current.load().keys.clone();
        let over = |successor: &SigningKey| {
            later(later(successor.signs_from, self.longest), LONGEST_LEEWAY * 2) <= now
        };
        let old = keys.windows(2).take_while(|pair| over(&pair[1])).count();
        if old == 0 {
            return Ok(());
        }
        for key in keys.drain(..old) {
            self.store.remove_signing_key(key.kid(), now)?;
            tracing::info!(kid = key.kid(), "a signing key is over");
        }
        self.publish(keys)
    }

    fn publish(&self, keys: Vec<Arc<SigningKey>>) -> Result<(), SigningError> {
        if keys.is_empty() {
            return Ok(());
        }
        let public: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        let key_set = Bytes::from(json!({ "keys": public }).to_string());
        if let Some(verifier) = &self.verifier {
            verifier.replace_keys(OWN_ISSUER, &key_set)?;
        }
        self.current.store(Arc::new(Current { keys, key_set }));
        Ok(())
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// The newest, if it is yet to sign.
    fn waiting(&self, now: UnixTime) -> Option<&Arc<SigningKey>> {
        let signs = |key: &SigningKey| self.signing(now).is_some_and(|signing| signing.kid() == key.kid());
        self.keys.last().filter(|newest| newest.signs_from > now && !signs(newest))
    }

    /// The newest whose time has come; the oldest where the clock was set back before all of them.
    fn signing(&self, now: UnixTime) -> Option<&Arc<SigningKey>> {
        self.keys.iter().rev().find(|key| key.signs_from <= now).or(self.keys.first())
    }
}

fn opened(sealer: &Sealer, stored: &StoredSigningKey) -> Result<SigningKey, SigningError> {
    let algorithm = if stored.algorithm == "EdDSA" { Algorithm::EdDSA } else { Algorithm::ES256 };
    let secret = sealer.open(&stored.sealed, &stored.kid);
    let key = secret.and_then(|key| SigningKey::read(&key, algorithm, stored.created, stored.signs_from));
    key.ok().filter(|key| key.kid() == stored.kid).ok_or_else(|| SigningError::Sealed(stored.kid.clone()))
}

fn stored(key: &SigningKey, purpose: KeyPurpose, sealed: Vec<u8>) -> StoredSigningKey {
    StoredSigningKey {
        algorithm: key.algorithm().to_owned(),
        created: key.created,
        kid: key.kid().to_owned(),
        purpose,
        sealed,
        signs_from: key.signs_from,
    }
}

fn later(time: UnixTime, by: Duration) -> UnixTime {
    UnixTime(time.0.saturating_add(by.as_secs()))
}
