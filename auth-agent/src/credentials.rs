//! What credentials are verified against: the issuers' keys and the API keys.

use std::net::IpAddr;
use std::sync::Arc;

use crate::api_key::{KeyId, KeyRing};
use crate::authenticate::Verify;
use crate::clock::{Monotonic, Now, UnixTime};
use crate::config::OWN_ISSUER;
use crate::identity::{Facts, Identity, Method, TokenHash};
use crate::issuers::{Issuers, KeysToCome};
use crate::refusal::Refusal;
use crate::revocation::Revocations;
use crate::token::{VerifiedClaims, Verifier};

/// The request path's view of all credentials.
pub struct Credentials {
    issuers: Arc<Issuers>,
    keys: Arc<KeyRing>,
    revocations: Arc<Revocations>,
    tokens: Arc<Verifier>,
}

impl Credentials {
    /// Credentials that these know.
    pub fn new(
        issuers: Arc<Issuers>,
        keys: Arc<KeyRing>,
        revocations: Arc<Revocations>,
        tokens: Arc<Verifier>,
    ) -> Self {
        Self { issuers, keys, revocations, tokens }
    }
}

impl Verify for Credentials {
    fn api_key(&self, key: &str, source: IpAddr, now: Now) -> Result<Arc<Identity>, Refusal> {
        self.keys.verify(key, source, now)
    }

    fn keys_to_come(&self, token: &str, now: Monotonic) -> Option<KeysToCome> {
        self.issuers.keys_to_come(token, now)
    }

    fn unrevoked(&self, identity: &Identity, now: UnixTime) -> Result<(), Refusal> {
        let key = identity.method() == Method::ApiKey;
        match (self.revocations.is_revoked(identity, now), key) {
            (false, _) => Ok(()),
            (true, true) => Err(Refusal::ApiKeyRevoked),
            (true, false) => Err(Refusal::CredentialRevoked),
        }
    }

    fn token(&self, token: &str, now: UnixTime) -> Result<Arc<Identity>, Refusal> {
        let claims = self.tokens.verify(token, now).map_err(Refusal::Token)?;
        let key = self.exchanged_key(&claims, now)?;
        Ok(Identity::verified(Facts { key, ..facts(&claims, TokenHash::of(token)) }))
    }
}

impl Credentials {
    /// The API key that a token of the built-in issuer was exchanged for. Such a token ends with its key.
    fn exchanged_key(&self, claims: &VerifiedClaims, now: UnixTime) -> Result<Option<KeyId>, Refusal> {
        if **claims.issuer_name() != *OWN_ISSUER {
            return Ok(None);
        }
        let Some(key) = claims.client().and_then(|client| client.parse().ok()) else { return Ok(None) };
        match self.keys.standing(key, now) {
            Some(standing) => standing.map(|()| Some(key)),
            // Issued by hand, for a client of that name.
            None => Ok(None),
        }
    }
}

fn facts(claims: &VerifiedClaims, token: TokenHash) -> Facts {
    Facts {
        client: claims.client().cloned(),
        expires: Some(claims.expires()),
        issued_at: claims.issued_at(),
        issuer: Some(Arc::clone(claims.issuer_name())),
        key: None,
        method: Method::Jwt,
        scopes: claims.scopes().into(),
        subject: Arc::clone(claims.subject()),
        tenant: None,
        token: Some(token),
        token_id: claims.token_id().cloned(),
    }
}
