//! What credentials are verified against: the issuers' keys and the API keys.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::api_key::KeyRing;
use crate::authenticate::Verify;
use crate::clock::{Now, UnixTime};
use crate::identity::{Facts, Identity, Method, TokenHash};
use crate::refusal::Refusal;
use crate::token::{VerifiedClaims, Verifier};

/// The request path's view of all credentials.
pub struct Credentials {
    keys: Arc<KeyRing>,
    tokens: Arc<Verifier>,
}

impl Credentials {
    /// Credentials that these know.
    pub fn new(keys: Arc<KeyRing>, tokens: Arc<Verifier>) -> Self {
        Self { keys, tokens }
    }
}

impl Verify for Credentials {
    fn api_key(&self, key: &str, source: IpAddr, now: Now) -> Result<Arc<Identity>, Refusal> {
        self.keys.verify(key, source, now)
    }

    fn token(&self, token: &str, now: UnixTime) -> Result<Arc<Identity>, Refusal> {
        let claims = self.tokens.verify(token, now).map_err(Refusal::Token)?;
        Ok(Identity::verified(facts(&claims, hash(token))))
    }
}

fn hash(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    TokenHash(hash)
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
