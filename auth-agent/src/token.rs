//! Strict JWT verification: what a bearer token must be, before anything in it is believed.
//!
//! Signatures are checked by `jsonwebtoken` (aws-lc). Everything around the signature is checked here,
//! because a token that two parsers read differently is two tokens. Invariants:
//!
//! - A key is pinned to one algorithm when it is loaded; a token never picks its algorithm, its key
//!   source or another issuer's key.
//! - Nothing but `iss` is read from the claims before the signature holds, and `iss` only picks whose
//!   keys are tried.
//! - [`VerifiedClaims`] come out of [`Verifier::verify`] and from nowhere else.
//!
//! Header parameters that point at keys are never followed. A token that brings its own key (`jwk`,
//! `x5c`) is refused; a mere reference to one (`jku`, `x5u`, `x5t`, `x5t#S256`) is ignored, since real
//! issuers put them into good tokens (UAA and XSUAA send `jku`, Entra ID sends `x5t`).

mod claims;
mod error;
mod glance;
mod header;
mod inspect;
mod json;
mod keys;
mod known;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use claims::VerifiedClaims;
pub use error::TokenError;
pub use inspect::{Check, Inspection, Outcome, Time, UsedKey, inspect};
pub use keys::{KeyError, KeyFault, read as read_keys};
pub use known::{KeyName, KnownKeys, UnknownKey};

use crate::clock::UnixTime;
use crate::config;
use claims::{Claims, Terms};
use header::Header;
use keys::{Key, KeySet};

/// Verifies tokens of the configured issuers. Their keys can be replaced while it is in use.
#[derive(Debug)]
pub struct Verifier {
    issuers: HashMap<String, Issuer>,
    max_token_bytes: usize,
}

/// What one issuer's tokens are held against.
#[derive(Debug)]
struct Issuer {
    config: config::Issuer,
    keys: ArcSwap<Keys>,
    terms: Terms,
}

/// An issuer's keys as they are at one time.
#[derive(Debug)]
struct Keys {
    /// Rises whenever they are replaced.
    generation: u64,
    /// `None`: none were had yet.
    set: Option<KeySet>,
}

impl Keys {
    fn find(&self, id: Option<&str>) -> Result<&Key, TokenError> {
        self.set.as_ref().ok_or(TokenError::KeysUnavailable)?.find(id)
    }
}

impl Verifier {
    /// Reads every issuer's keys.
    ///
    /// # Errors
    /// The first key file that can't be used as it stands, and two issuers with one `iss`.
    pub fn load(issuers: &[config::Issuer], max_token_bytes: usize) -> Result<Self, KeyError> {
        let mut loaded = HashMap::with_capacity(issuers.len());
        for issuer in issuers {
            let keys = ArcSwap::from_pointee(Keys { generation: 0, set: KeySet::load(issuer)? });
            let rules = Issuer { config: issuer.clone(), keys, terms: Terms::of(issuer) };
            if let Some(other) = loaded.insert(issuer.issuer.clone(), rules) {
                return Err(KeyError::new(issuer, KeyFault::IssuerTwice { other: other.terms.name }));
            }
        }
        Ok(Self { issuers: loaded, max_token_bytes })
    }

    /// Checks the whole token; what it claims can be relied on afterwards.
    ///
    /// The cheap checks come first: nothing is decoded of an over-long token, and no signature is computed
    /// for a token whose form, issuer, type, key or algorithm is wrong.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(&self, token: &str, now: UnixTime) -> Result<VerifiedClaims, TokenError> {
        self.check_size(token)?;
        let parts = wire::split(token)?;
        let header = Header::parse(&wire::decode(parts.header)?)?;
        let claims = Claims::parse(&wire::decode(parts.claims)?)?;
        let signature = wire::decode(parts.signature)?;

        let issuer = self.issuer(&claims)?;
        issuer.check_type(&header)?;
        let keys = issuer.keys.load();
        let key = keys.find(header.key_id())?;
        key.check_algorithm(header.algorithm())?;
        key.verify(parts.signed, signature)?;

        claims.verified(&issuer.terms, now)
    }

    /// Replaces the keys of the issuer of that name by those in `text`, the content of a key file. Tokens of keys
    /// that are gone are refused from now on.
    ///
    /// # Errors
    /// The text can't be used as it stands; the keys are as they were.
    pub fn replace_keys(&self, name: &str, text: &[u8]) -> Result<(), KeyFault> {
        let issuer = self.named(name).ok_or(KeyFault::IssuerUnknown)?;
        let set = KeySet::parse(text, &issuer.config)?;
        issuer.keys.rcu(|keys| Keys { generation: keys.generation + 1, set: Some(set.clone()) });
        Ok(())
    }

    /// Bytes of the longest token that is looked at.
    pub fn max_token_bytes(&self) -> usize {
        self.max_token_bytes
    }

    fn named(&self, name: &str) -> Option<&Issuer> {
        self.issuers.values().find(|issuer| **issuer.name() == *name)
    }

    fn check_size(&self, token: &str) -> Result<(), TokenError> {
        if token.len() > self.max_token_bytes { Err(TokenError::TooLong) } else { Ok(()) }
    }

    fn issuer(&self, claims: &Claims) -> Result<&Issuer, TokenError> {
        self.issuers.get(claims.issuer()?).ok_or(TokenError::Issuer)
    }
}

impl Issuer {
    fn name(&self) -> &Arc<str> {
        &self.terms.name
    }

    /// RFC 8725 3.11: explicit typing keeps other kinds of JWT from being used as access tokens.
    fn check_type(&self, header: &Header) -> Result<(), TokenError> {
        // An empty `typ` is not an absent one.
        let accepted = match header.media_type() {
            Some("") => false,
            Some(found) => self.config.types.iter().any(|accepted| found.eq_ignore_ascii_case(accepted)),
            None => self.config.types.iter().any(String::is_empty),
        };
        if accepted { Ok(()) } else { Err(TokenError::Type) }
    }
}
