//! An issuer's keys, each pinned to the one algorithm it may verify.

mod error;
mod file;
mod pin;
mod remote;

use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::ParsedPublicKey;
use jsonwebtoken::Algorithm;

pub use error::{KeyError, KeyFault};
pub use file::read;

use super::TokenError;
use crate::config::{self, KeySource};

/// The keys of one issuer: at least one, no `kid` twice, and a `kid` on each if there are several.
#[derive(Clone, Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Why other keys beside them were left out.
    skipped: Vec<String>,
}

impl KeySet {
    /// Reads the issuer's key file; `None`: it has none, and its keys come while the agent runs.
    pub fn load(issuer: &config::Issuer) -> Result<Option<Self>, KeyError> {
        let KeySource::File(path) = &issuer.keys else { return Ok(None) };
        read(path)
            .and_then(|bytes| Self::parse(&bytes, issuer))
            .map(Some)
            .map_err(|fault| KeyError::new(issuer, fault))
    }

    /// Reads the content of a key file, or a set that the issuer publishes.
    pub fn parse(bytes: &[u8], issuer: &config::Issuer) -> Result<Self, KeyFault> {
        if let KeySource::Remote(_) = issuer.keys {
            return remote::parse(bytes, issuer);
        }
        let Self { keys, skipped } = file::parse(bytes, issuer)?;
        for (index, key) in keys.iter().enumerate() {
            match &key.id {
                Some(id) if keys[..index].iter().any(|other| other.id.as_ref() == Some(id)) => {
                    return Err(KeyFault::KeyIdTwice { id: id.to_string() });
                }
                None if keys.len() > 1 => return Err(KeyFault::KeyIdMissing),
                _ => {}
            }
        }
        Ok(Self { keys, skipped })
    }

    /// All of them.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Why other keys beside them were left out.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The key that the token names. A token without a `kid` is taken only where there is no choice. A sole
    /// key without a name (PEM has none) stands for any `kid`: there is nothing to compare it with.
    pub fn find(&self, id: Option<&str>) -> Result<&Key, TokenError> {
        match (id, self.keys.as_slice()) {
            (None, [sole]) | (Some(_), [sole @ Key { id: None, .. }]) => Ok(sole),
            (None, _) => Err(TokenError::KeyUnknown),
            (Some(id), keys) => {
                keys.iter().find(|key| key.id.as_deref() == Some(id)).ok_or(TokenError::KeyUnknown)
            }
        }
    }
}

/// A key and the algorithm it is pinned to. It is parsed once, as that takes longer than some signatures.
#[derive(Clone, Debug)]
pub(super) struct Key {
    algorithm: Algorithm,
    id: Option<Arc<str>>,
    material: Material,
}

/// What a key verifies with.
#[derive(Clone, Debug)]
enum Material {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

/// Proof that a signature holds, with the id of the key. Only [`Key::verify`] makes one.
pub(super) struct Signed(Option<Arc<str>>);

impl Signed {
    /// The id of the key, where it has one.
    pub fn into_key(self) -> Option<Arc<str>> {
        self.0
    }
}

impl Key {
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub fn check_algorithm(&self, claimed: Algorithm) -> Result<(), TokenError> {
        if claimed == self.algorithm { Ok(()) } else { Err(TokenError::Algorithm) }
    }

    pub fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<Signed, TokenError> {
        let holds = match &self.material {
            Material::Public(key) => key.verify_sig(signed, signature),
            Material::Secret(key) => hmac::verify(key, signed, signature),
        };
        holds.map(|()| Signed(self.id.clone())).map_err(|_| TokenError::Signature)
    }
}
