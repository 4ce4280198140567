//! Who a verified credential stands for.

mod claims;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

pub use self::claims::{Claim, Kept, KeptClaims, MAX_LIST};
use crate::api_key::KeyId;
use crate::clock::UnixTime;
use crate::config::ClaimPath;
use crate::revocation::Marks;
use crate::thumbprint::Thumbprint;

/// How the client proved who it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Method {
    /// `X-API-Key`.
    ApiKey,
    /// The client certificate of the connection.
    Certificate,
    /// `Authorization: Bearer` with a JWT.
    Jwt,
}

impl Method {
    /// The name sent to the upstream.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
            Self::Certificate => "certificate",
            Self::Jwt => "jwt",
        }
    }
}

/// Who is meant by a subject: a token's and a key's of the same name are two.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Principal {
    /// How the client proved it.
    pub method: Method,
    /// [`Identity::subject`].
    pub subject: Arc<str>,
}

/// SHA-256 of what is signed of a token: its header, a dot, its claims, as they were sent. Not of the signature: who
/// has an ECDSA signature can make another one for the same text.
#[derive(Clone, Copy, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of a token in compact form; of anything else, it is of no use.
    pub fn of(token: &str) -> Self {
        let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, signed.as_bytes()).as_ref());
        Self(hash)
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TokenHash({self})")
    }
}

/// The text is not the hash of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not the hash of a token: it is SHA-256 of its first two parts with the dot between, in 64 hexadecimal digits"
)]
pub struct MalformedHash;

impl FromStr for TokenHash {
    type Err = MalformedHash;

    fn from_str(text: &str) -> Result<Self, MalformedHash> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(MalformedHash);
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| MalformedHash)?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for TokenHash {
    type Error = MalformedHash;

    fn try_from(text: String) -> Result<Self, MalformedHash> {
        text.parse()
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hash.to_string()
    }
}

/// What a credential was found to say.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What a token claims besides, as far as the configuration asked for it when the token was verified; keys and
    /// certificates claim nothing.
    pub claims: Option<Arc<KeptClaims>>,
    /// The client certificate that it is, or that the token is bound to (RFC 8705 3).
    pub certificate: Option<Thumbprint>,
    /// The client that a token was issued to.
    pub client: Option<Arc<str>>,
    /// The first second in which it is not valid, leeway included; `None`: there is none.
    pub expires: Option<UnixTime>,
    /// When it was issued: a token's `iat`, a key's creation.
    pub issued_at: Option<UnixTime>,
    /// The name of the token's issuer in the configuration; `None` for an API key.
    pub issuer: Option<Arc<str>>,
    /// The API key, or the one that the token was exchanged for.
    pub key: Option<KeyId>,
    /// How it was proved.
    pub method: Method,
    /// What it may do.
    pub scopes: Arc<[Arc<str>]>,
    /// The id of the key that the token was signed with, where it has one.
    pub signing_key: Option<Arc<str>>,
    /// The token's subject, or the API key's name.
    pub subject: Arc<str>,
    /// The tenant, where the issuer's tokens name one.
    pub tenant: Option<Arc<str>>,
    /// The token; `None` for an API key.
    pub token: Option<TokenHash>,
    /// The token's `jti`.
    pub token_id: Option<Arc<str>>,
}

impl Facts {
    /// With nothing but a name; the rest is unknown.
    pub fn new(method: Method, subject: &str) -> Self {
        Self {
            certificate: None,
            claims: None,
            client: None,
            expires: None,
            issued_at: None,
            issuer: None,
            key: None,
            method,
            scopes: Arc::default(),
            signing_key: None,
            subject: subject.into(),
            tenant: None,
            token: None,
            token_id: None,
        }
    }
}

/// A client whose credential was valid when this was made. Only verification makes one.
#[derive(Debug)]
pub struct Identity {
    facts: Facts,
    /// Behind a pointer, as most of a million API keys never need them.
    marks: OnceLock<Box<Marks>>,
    /// The generation of the revocations that it was last found to be in none of; 0: none yet.
    clean_in: AtomicU64,
}

impl Identity {
    /// For [`crate::credentials`], whose token was verified, and for the records of API keys, which only the key opens.
    pub(crate) fn verified(facts: Facts) -> Arc<Self> {
        Arc::new(Self { clean_in: AtomicU64::new(0), facts, marks: OnceLock::new() })
    }

    /// Everything that its credential says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The marks by which it may be revoked.
    pub fn marks(&self) -> &Marks {
        self.marks.get_or_init(|| Box::new(Marks::new(&self.facts)))
    }

    pub(crate) fn was_clean_in(&self) -> u64 {
        self.clean_in.load(Relaxed)
    }

    pub(crate) fn is_clean_in(&self, generation: u64) {
        self.clean_in.store(generation, Relaxed);
    }

    /// The claim of that name. `sub` is the subject, whatever proved it.
    pub fn claim(&self, name: &ClaimPath) -> Claim<'_> {
        if name.is_subject() {
            return Claim::Text(&self.facts.subject);
        }
        match (&self.facts.claims, self.facts.method) {
            (Some(claims), _) => claims.claim(name),
            (None, Method::ApiKey | Method::Certificate) => Claim::Absent,
            (None, Method::Jwt) => Claim::Unreadable,
        }
    }

    /// Whether it is known what the credential claims by that name. It is not while a configuration changes, which has
    /// more asked for than the one that the token was verified by.
    pub fn knows_claim(&self, name: &ClaimPath) -> bool {
        let looked_for = || self.facts.claims.as_ref().is_some_and(|claims| claims.has_looked_for(name));
        name.is_subject() || self.facts.method != Method::Jwt || looked_for()
    }

    /// How the client proved it.
    pub fn method(&self) -> Method {
        self.facts.method
    }

    /// Who it is.
    pub fn principal(&self) -> Principal {
        Principal { method: self.facts.method, subject: Arc::clone(&self.facts.subject) }
    }

    /// What it may do.
    pub fn scopes(&self) -> &[Arc<str>] {
        &self.facts.scopes
    }

    /// The token's subject, or the API key's name.
    pub fn subject(&self) -> &str {
        &self.facts.subject
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Someone with these scopes.
    pub fn someone(method: Method, subject: &str, scopes: &[&str]) -> Arc<Identity> {
        let scopes = scopes.iter().map(|&scope| scope.into()).collect();
        Identity::verified(Facts { scopes, ..Facts::new(method, subject) })
    }
}
