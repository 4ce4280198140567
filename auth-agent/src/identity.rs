//! Who a verified credential stands for.

use std::sync::Arc;

use crate::api_key::KeyId;
use crate::clock::UnixTime;

/// How the client proved who it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Method {
    /// `X-API-Key`.
    ApiKey,
    /// `Authorization: Bearer` with a JWT.
    Jwt,
}

impl Method {
    /// The name sent to the upstream.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
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

/// SHA-256 of a whole token, as it was sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TokenHash(pub [u8; 32]);

/// What a credential was found to say.
#[derive(Clone, Debug)]
pub struct Facts {
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
            client: None,
            expires: None,
            issued_at: None,
            issuer: None,
            key: None,
            method,
            scopes: Arc::default(),
            subject: subject.into(),
            tenant: None,
            token: None,
            token_id: None,
        }
    }
}

/// A client whose credential was valid when this was made. Only verification makes one.
#[derive(Debug)]
pub struct Identity(Facts);

impl Identity {
    /// For [`crate::credentials`], whose token was verified, and for the records of API keys, which only the key opens.
    pub(crate) fn verified(facts: Facts) -> Arc<Self> {
        Arc::new(Self(facts))
    }

    /// Everything that its credential says.
    pub fn facts(&self) -> &Facts {
        &self.0
    }

    /// How the client proved it.
    pub fn method(&self) -> Method {
        self.0.method
    }

    /// Who it is.
    pub fn principal(&self) -> Principal {
        Principal { method: self.0.method, subject: Arc::clone(&self.0.subject) }
    }

    /// What it may do.
    pub fn scopes(&self) -> &[Arc<str>] {
        &self.0.scopes
    }

    /// The token's subject, or the API key's name.
    pub fn subject(&self) -> &str {
        &self.0.subject
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
