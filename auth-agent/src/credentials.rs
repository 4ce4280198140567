//! What credentials are verified against: the issuers' keys and the API keys.

use std::net::IpAddr;
use std::sync::Arc;

use crate::api_key::KeyRing;
use crate::authenticate::Verify;
use crate::clock::{Now, UnixTime};
use crate::identity::{Facts, Identity, Method, TokenHash};
use crate::refusal::Refusal;
use crate::revocation::Revocations;
use crate::token::{VerifiedClaims, Verifier};

/// The request path's view of all credentials.
pub struct Credentials {
    keys: Arc<KeyRing>,
    revocations: Arc<Revocations>,
    tokens: Arc<Verifier>,
}

impl Credentials {
    /// Credentials that these know.
    pub fn new(keys: Arc<KeyRing>, revocations: Arc<Revocations>, tokens: Arc<Verifier>) -> Self {
        Self { keys, revocations, tokens }
    }
}

impl Verify for Credentials {
    fn api_key(&self, key: &str, source: IpAddr, now: Now) -> Result<Arc<Identity>, Refusal> {
        self.keys.verify(key, source, now)
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
        Ok(Identity::verified(facts(&claims, TokenHash::of(token))))
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
