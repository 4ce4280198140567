//! Which keys an issuer has, for whoever keeps them fresh and for the operator.

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use super::claims::Claims;
use super::header::Header;
use super::{TokenError, Verifier, wire};

/// The keys of one issuer at one time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KnownKeys {
    /// Those that verify.
    pub keys: Vec<KeyName>,
    /// Why others beside them were left out.
    pub skipped: Vec<String>,
}

/// A key, without its numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyName {
    /// The algorithm it is pinned to.
    pub algorithm: Algorithm,
    /// Its `kid`, if it has one.
    pub id: Option<String>,
}

/// A key that a token names and its issuer does not have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownKey {
    /// Its `kid`.
    pub id: String,
    /// The issuer's name in the configuration.
    pub issuer: Arc<str>,
}

impl Verifier {
    /// Takes the keys of the issuer of that name away: its tokens are answered [`TokenError::KeysUnavailable`] from
    /// now on.
    pub fn forget_keys(&self, name: &str) {
        if let Some(issuer) = self.named(name) {
            issuer.keys.rcu(|keys| keys.replaced(None));
        }
    }

    /// The keys of the issuer of that name; `None`: it has none yet, or none any more.
    pub fn known_keys(&self, name: &str) -> Option<KnownKeys> {
        let issuer = self.named(name)?;
        let keys = issuer.keys.load();
        let set = keys.set.as_ref()?;
        let name = |key: &super::Key| KeyName { algorithm: key.algorithm(), id: key.id().map(str::to_owned) };
        Some(KnownKeys { keys: set.keys().iter().map(name).collect(), skipped: set.skipped().to_vec() })
    }

    /// The key that `token` names, if that is what its issuer lacks. Nothing in it is believed.
    pub fn unknown_key(&self, token: &str) -> Option<UnknownKey> {
        self.check_size(token).ok()?;
        let parts = wire::split(token).ok()?;
        let header = wire::decode(parts.header).ok()?;
        let header = Header::parse(&header).ok()?;
        let claims = wire::decode(parts.claims).ok()?;
        let claims = Claims::parse(&claims).ok()?;
        let current = self.current.load();
        let issuer = current.issuer(&claims).ok()?;
        let id = header.key_id()?;
        match issuer.keys.load().find(Some(id)) {
            Err(TokenError::KeyUnknown) => {
                Some(UnknownKey { id: id.to_owned(), issuer: Arc::clone(issuer.name()) })
            }
            _ => None,
        }
    }
}
