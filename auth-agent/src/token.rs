//! Strict JWT verification: what a bearer token must be, before anything in it is believed.
//!
//! Signatures are checked by aws-lc. Everything around the signature is checked here, because a token that two
//! parsers read differently is two tokens. Invariants:
//!
//! - A key is pinned to one algorithm when it is loaded; a token never picks its algorithm, its key
//!   source or another issuer's key.
//! - What can only refuse comes first, what costs least before all, and the signature last: size, form, header,
//!   issuer, claims, key. Nothing is accepted before the signature holds, and until then `iss` and `kid` pick
//!   whose key is tried, and no more.
//! - [`VerifiedClaims`] come out of [`Verifier::verify`] and from nowhere else.
//!
//! Header parameters that point at keys are never followed. A token that brings its own key (`jwk`,
//! `x5c`) is refused; a mere reference to one (`jku`, `x5u`, `x5t`, `x5t#S256`) is ignored, since real
//! issuers put them into good tokens (UAA and XSUAA send `jku`, Entra ID sends `x5t`).

mod claimed;
mod claims;
mod error;
mod glance;
mod header;
mod inspect;
mod json;
mod keys;
mod known;
mod sensitive;
mod watch;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

pub use claimed::claimed;
pub use claims::VerifiedClaims;
pub(crate) use claims::is_identifier;
pub use error::TokenError;
pub use inspect::{Check, Inspection, Outcome, Time, UsedKey, Verdict, inspect};
pub use keys::{KeyError, KeyFault, read as read_keys};
pub use known::{KeyName, KnownKeys, UnknownKey};

use crate::clock::UnixTime;
use crate::config;
use crate::explain::Presented;
use claims::{Claims, Terms};
use header::Header;
use keys::{Key, KeySet};
use watch::Watch;

/// Verifies tokens of the configured issuers. Their keys, and they themselves, can be replaced while it is in use.
#[derive(Debug)]
pub struct Verifier {
    current: ArcSwap<Issuers>,
    /// Tokens with personal data of issuers that are gone.
    sensitive_before: AtomicU64,
}

/// The issuers of one configuration.
#[derive(Debug)]
pub struct Issuers {
    by_iss: HashMap<String, usize>,
    issuers: Vec<Arc<Issuer>>,
    max_token_bytes: usize,
    /// The number of the next issuer.
    next: u64,
}

/// What one issuer's tokens are held against.
#[derive(Debug)]
struct Issuer {
    config: config::Issuer,
    keys: ArcSwap<Keys>,
    sensitive: Watch,
    terms: Terms,
}

/// An issuer's keys as they are at one time.
#[derive(Debug)]
struct Keys {
    /// `None`: none were had yet.
    set: Option<KeySet>,
    version: KeysVersion,
}

/// Which keys of which issuer: no two that differ are the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeysVersion {
    /// Rises whenever they are replaced.
    generation: u64,
    /// Its number; none is given twice.
    issuer: u64,
}

/// A token that was refused.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub error: TokenError,
    /// What it says of itself, as far as it was read.
    pub says: Presented,
    /// Where the key or the signature was wrong: what was tried.
    pub tried: Option<Tried>,
}

/// A key that a token did not verify with.
#[derive(Debug)]
pub struct Tried {
    /// The issuer's name in the configuration.
    pub issuer: Arc<str>,
    /// The token's `kid`.
    pub key_id: Option<String>,
    /// The keys that it was looked for in.
    pub keys: KeysVersion,
}

impl From<TokenError> for Rejected {
    fn from(error: TokenError) -> Self {
        Self { error, says: Presented::default(), tried: None }
    }
}

impl Rejected {
    /// The same of a token that names this issuer and this key.
    fn of(self, issuer: &Arc<str>, key: Option<&str>) -> Self {
        Self { says: Presented::new(Some(Arc::clone(issuer)), key), ..self }
    }
}

impl Keys {
    fn replaced(&self, set: Option<KeySet>) -> Self {
        let version = KeysVersion { generation: self.version.generation + 1, ..self.version };
        Self { set, version }
    }

    fn find(&self, id: Option<&str>) -> Result<&Key, TokenError> {
        self.set.as_ref().ok_or(TokenError::KeysUnavailable)?.find(id)
    }
}

impl Issuers {
    /// Reads the keys of every issuer that `before` does not have just so.
    fn load(
        before: Option<&Self>,
        issuers: &[config::Issuer],
        max_token_bytes: usize,
    ) -> Result<Self, KeyError> {
        let mut by_iss = HashMap::with_capacity(issuers.len());
        let mut loaded = Vec::with_capacity(issuers.len());
        let mut next = before.map_or(0, |before| before.next);
        for (index, issuer) in issuers.iter().enumerate() {
            let known = before.and_then(|before| before.named(&issuer.name));
            loaded.push(match known {
                Some(known) if known.config == *issuer => Arc::clone(known),
                _ => Arc::new(Issuer::load(issuer, known.map(Arc::as_ref), next)?),
            });
            next += 1;
            if let Some(other) = by_iss.insert(issuer.issuer.clone(), index) {
                let other = Arc::clone(&issuers[other].name);
                return Err(KeyError::new(issuer, KeyFault::IssuerTwice { other }));
            }
        }
        Ok(Self { by_iss, issuers: loaded, max_token_bytes, next })
    }

    fn named(&self, name: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| **issuer.name() == *name)
    }

    fn check_size(&self, token: &str) -> Result<(), TokenError> {
        if token.len() > self.max_token_bytes { Err(TokenError::TooLong) } else { Ok(()) }
    }

    fn issuer(&self, claims: &Claims<'_>) -> Result<&Issuer, TokenError> {
        let index = self.by_iss.get(claims.issuer()?).ok_or(TokenError::Issuer)?;
        self.issuers.get(*index).map(Arc::as_ref).ok_or(TokenError::Issuer)
    }

    fn sensitive(&self) -> u64 {
        self.issuers.iter().map(|issuer| issuer.sensitive.found()).sum()
    }
}

impl Verifier {
    /// Reads every issuer's keys.
    ///
    /// # Errors
    /// The first key file that can't be used as it stands, and two issuers with one `iss`.
    pub fn load(issuers: &[config::Issuer], max_token_bytes: usize) -> Result<Self, KeyError> {
        let current = ArcSwap::from_pointee(Issuers::load(None, issuers, max_token_bytes)?);
        Ok(Self { current, sensitive_before: AtomicU64::new(0) })
    }

    /// What [`Self::change`] changes to. Issuers that stay as they are keep their keys, and those that only trust
    /// otherwise. Blocks.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn prepare(&self, issuers: &[config::Issuer], max_token_bytes: usize) -> Result<Issuers, KeyError> {
        Issuers::load(Some(&self.current.load()), issuers, max_token_bytes)
    }

    /// Takes these issuers in place of the present ones. What was verified for one that is gone or changed counts no
    /// more.
    pub fn change(&self, issuers: Issuers) {
        let before = self.current.swap(Arc::new(issuers));
        let now = self.current.load();
        let gone =
            before.issuers.iter().filter(|issuer| !now.issuers.iter().any(|kept| Arc::ptr_eq(kept, issuer)));
        self.sensitive_before.fetch_add(gone.map(|issuer| issuer.sensitive.found()).sum(), Relaxed);
    }

    /// Checks the whole token; what it claims can be relied on afterwards.
    ///
    /// Nothing is decoded of an over-long token, and no signature is computed for a token that anything else is
    /// wrong with.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(&self, token: &str, now: UnixTime) -> Result<VerifiedClaims, Rejected> {
        let current = self.current.load();
        current.check_size(token)?;
        let parts = wire::split(token)?;
        let header = wire::decode(parts.header)?;
        let header = Header::parse(&header)?;
        let claims = wire::decode(parts.claims)?;
        let claims = Claims::parse(&claims)?;
        let signature = wire::decode(parts.signature)?;

        let issuer = current.issuer(&claims)?;
        let verified = issuer.verify(&header, &claims, (parts.signed, &signature), now);
        verified.map_err(|rejected| rejected.of(issuer.name(), header.key_id()))
    }

    /// Whether these are the keys of their issuer still.
    pub fn is_current(&self, keys: KeysVersion) -> bool {
        self.current.load().issuers.iter().any(|issuer| issuer.keys.load().version == keys)
    }

    /// Tokens since the start in which personal data or secrets were found.
    pub fn sensitive(&self) -> u64 {
        self.sensitive_before.load(Relaxed) + self.current.load().sensitive()
    }

    /// Replaces the keys of the issuer of that name by those in `text`, the content of a key file. Tokens of keys
    /// that are gone are refused from now on.
    ///
    /// # Errors
    /// The text can't be used as it stands; the keys are as they were.
    pub fn replace_keys(&self, name: &str, text: &[u8]) -> Result<(), KeyFault> {
        let issuer = self.named(name).ok_or(KeyFault::IssuerUnknown)?;
        let set = KeySet::parse(text, &issuer.config)?;
        issuer.keys.rcu(|keys| keys.replaced(Some(set.clone())));
        Ok(())
    }

    /// Bytes of the longest token that is looked at.
    pub fn max_token_bytes(&self) -> usize {
        self.current.load().max_token_bytes
    }

    fn named(&self, name: &str) -> Option<Arc<Issuer>> {
        self.current.load().named(name).cloned()
    }

    /// Whether the token may be looked at at all.
    ///
    /// # Errors
    /// It is longer than any token may be.
    pub fn check_size(&self, token: &str) -> Result<(), TokenError> {
        self.current.load().check_size(token)
    }
}

impl Issuer {
    /// With the keys that it has, or those of `before`, if it takes the same ones.
    fn load(config: &config::Issuer, before: Option<&Self>, number: u64) -> Result<Self, KeyError> {
        let version = KeysVersion { generation: 0, issuer: number };
        let known = before.filter(|before| {
            let before = &before.config;
            matches!(config.keys, config::KeySource::Remote(_))
                && (&before.issuer, &before.keys, &before.algorithms)
                    == (&config.issuer, &config.keys, &config.algorithms)
        });
        let set = match known {
            Some(known) => known.keys.load().set.clone(),
            None => KeySet::load(config)?,
        };
        let (sensitive, terms) = (Watch::new(config.sensitive_claims), Terms::of(config));
        let keys = ArcSwap::from_pointee(Keys { set, version });
        Ok(Self { config: config.clone(), keys, sensitive, terms })
    }

    /// The checks that need to know whose token it is; `signature` is beside what is signed.
    fn verify(
        &self,
        header: &Header<'_>,
        claims: &Claims<'_>,
        (signed, signature): (&[u8], &[u8]),
        now: UnixTime,
    ) -> Result<VerifiedClaims, Rejected> {
        self.check_type(header)?;
        let checked = claims.check(&self.terms, now)?;
        let keys = self.keys.load();
        let tried = |error| self.tried(error, header, keys.version);
        let key = keys.find(header.key_id()).map_err(tried)?;
        key.check_algorithm(header.algorithm())?;
        let signed = key.verify(signed, signature).map_err(tried)?;
        self.sensitive.watch(self.name(), claims)?;
        Ok(checked.verified(signed, claims, &self.terms, keys.version))
    }

    fn tried(&self, error: TokenError, header: &Header<'_>, keys: KeysVersion) -> Rejected {
        let guessed = matches!(error, TokenError::KeyUnknown | TokenError::Signature);
        let key_id = header.key_id().map(str::to_owned);
        let tried = guessed.then(|| Tried { issuer: Arc::clone(self.name()), key_id, keys });
        Rejected { tried, ..error.into() }
    }

    fn name(&self) -> &Arc<str> {
        &self.terms.name
    }

    /// RFC 8725 3.11: explicit typing keeps other kinds of JWT from being used as access tokens.
    fn check_type(&self, header: &Header<'_>) -> Result<(), TokenError> {
        // An empty `typ` is not an absent one.
        let accepted = match header.media_type() {
            Some("") => false,
            Some(found) => self.config.types.iter().any(|accepted| found.eq_ignore_ascii_case(accepted)),
            None => self.config.types.iter().any(String::is_empty),
        };
        if accepted { Ok(()) } else { Err(TokenError::Type) }
    }
}
