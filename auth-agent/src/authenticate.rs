//! From a credential to whom it stands for.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::{Monotonic, Now, UnixTime};
use crate::credential::Credential;
use crate::explain::Trail;
use crate::identity::{Identity, Method};
use crate::issuers::MissingKey;
use crate::refusal::Refusal;
use crate::tls::ClientCertificate;
use crate::token::TokenError;

/// What can tell a valid credential from another: the issuers' keys and the API keys.
pub trait Verify: Send + Sync {
    /// Whom an API key used from `source` stands for. Each call is a request that is charged to the key.
    fn api_key(&self, key: &str, source: IpAddr, now: Now) -> Result<Arc<Identity>, Denied>;
    /// Whether the credential of an identity was over at `then`, also for what has happened to it since.
    fn is_over(&self, identity: &Identity, then: UnixTime) -> bool {
        identity.facts().expires.is_some_and(|expires| expires <= then)
    }
    /// What there is to hope for where a token's key is unknown.
    fn missing_key(&self, token: &str, now: Monotonic) -> MissingKey;
    /// Refuses an identity whose credential has been revoked.
    fn unrevoked(&self, identity: &Identity, now: UnixTime) -> Result<(), Refusal>;
    /// Whom a token stands for; what is found out on the way goes to `trail`.
    fn token(&self, token: &str, now: UnixTime, trail: &Trail) -> Result<Arc<Identity>, Denied>;
}

/// Why a credential stands for nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Denied {
    /// What it may have been a guess of.
    pub guess: Option<Guess>,
    /// The reason.
    pub refusal: Refusal,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self { guess: None, refusal }
    }
}

/// What was guessed at: an API key by its id, or an issuer's signing key by its `kid`, as a keyed hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Guess(pub u64);

/// Verifies `credential` by the rules of its kind; one kind is never tried as the other.
pub fn authenticate(
    verify: &dyn Verify,
    credential: &Credential<'_>,
    source: IpAddr,
    (now, trail): (Now, &Trail),
) -> Result<Arc<Identity>, Denied> {
    match credential.method() {
        Method::ApiKey => verify.api_key(credential.text(), source, now),
        Method::Jwt => verify.token(credential.text(), now.unix, trail),
        // Nothing in a request is one.
        Method::Certificate => Err(Refusal::CredentialMissing.into()),
    }
}

/// Refuses a token that is bound to another client certificate than the connection's (RFC 8705 3), or to one where that
/// has none. To be asked at every request: the token may be remembered, and the connection is another.
pub fn bound(
    identity: Arc<Identity>,
    certificate: Option<&ClientCertificate>,
) -> Result<Arc<Identity>, Denied> {
    match identity.facts().certificate {
        Some(wanted) if certificate.map(ClientCertificate::thumbprint) != Some(wanted) => {
            Err(Refusal::TokenUnbound.into())
        }
        _ => Ok(identity),
    }
}

/// What there is to hope for where `credential` was refused as `refusal` says: its issuer may have published keys since
/// they were last fetched.
pub fn missing_key(
    verify: &dyn Verify,
    credential: &Credential<'_>,
    refusal: &Refusal,
    now: Monotonic,
) -> MissingKey {
    match refusal {
        Refusal::Token(TokenError::KeyUnknown) => verify.missing_key(credential.text(), now),
        _ => MissingKey::Absent,
    }
}
