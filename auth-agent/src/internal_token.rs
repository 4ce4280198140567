//! Who sent a request, told to the upstream in a signed token (RFC 7519), so that it need not trust the names of header
//! fields: whoever else reaches the upstream can't make one.
//!
//! A token is for one upstream (`aud`), holds for seconds, and never for longer than the credential that it was made
//! from. One that was made serves until half of its time is over, so that most requests cost no signature. Its `typ` is its
//! own: no issuer's access token passes for one, nor it for theirs.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use quick_cache::sync::Cache;
use serde_json::{Value, json};

use crate::authorization_server::SigningKeys;
use crate::clock::UnixTime;
use crate::config::{Config, InternalToken};
use crate::identity::Identity;
use crate::refusal::Refusal;

/// The `typ` of its header, as RFC 8725, 3.11 wants it.
pub const TYPE: &str = "auth-internal+jwt";

/// Tokens that are remembered, of about a KiB each; for more, some are signed anew.
const REMEMBERED: usize = 16_384;

/// Makes tokens for the upstreams of one configuration.
pub struct InternalTokens {
    /// By upstream; none for those that want no token.
    audiences: Vec<Option<Arc<str>>>,
    config: InternalToken,
    keys: Arc<SigningKeys>,
    /// By the identity's place in memory and the upstream.
    made: Cache<(usize, usize), Made>,
}

#[derive(Clone)]
struct Made {
    /// Keeps its place, so that no other identity is found there.
    _identity: Arc<Identity>,
    /// The first second in which another one is made.
    renewed: UnixTime,
    token: HeaderValue,
}

impl InternalTokens {
    /// None, unless the configuration wants some.
    pub fn new(config: &Config, keys: &Arc<SigningKeys>) -> Option<Self> {
        let audiences = config
            .upstreams
            .iter()
            .map(|upstream| upstream.identity.has_token().then(|| Arc::clone(&upstream.name)));
        Some(Self {
            audiences: audiences.collect(),
            config: config.internal_token.clone()?,
            keys: Arc::clone(keys),
            made: Cache::new(REMEMBERED),
        })
    }

    /// The field that carries them.
    pub fn header(&self) -> &HeaderName {
        &self.config.header
    }

    /// What tells an upstream, by its index, that `identity` sent a request; none if it wants no token.
    ///
    /// # Errors
    /// The crypto library failed.
    pub fn token(
        &self,
        identity: &Arc<Identity>,
        upstream: usize,
        now: UnixTime,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let Some(Some(audience)) = self.audiences.get(upstream) else { return Ok(None) };
        let key = (Arc::as_ptr(identity) as usize, upstream);
        if let Some(made) = self.made.get(&key).filter(|made| now < made.renewed) {
            return Ok(Some(made.token));
        }
        let made = self.make(identity, audience, now)?;
        let token = made.token.clone();
        self.made.insert(key, made);
        Ok(Some(token))
    }

    fn make(&self, identity: &Arc<Identity>, audience: &str, now: UnixTime) -> Result<Made, Refusal> {
        let ends = UnixTime(now.0.saturating_add(self.config.lifetime.as_secs()));
        let expires = identity.facts().expires.map_or(ends, |credential| credential.min(ends));
        let renewed = UnixTime(now.0 + expires.0.saturating_sub(now.0) / 2);
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "no internal token");
            Refusal::IssuerFailed
        };
        let claims = self.claims(identity, audience, expires, now);
        let token = self.keys.sign(&claims, now).map_err(|error| failed(&error))?;
        let mut token = HeaderValue::try_from(token).map_err(|error| failed(&error))?;
        token.set_sensitive(true);
        Ok(Made { _identity: Arc::clone(identity), renewed, token })
    }

    fn claims(&self, identity: &Identity, audience: &str, expires: UnixTime, now: UnixTime) -> Value {
        let facts = identity.facts();
        let mut claims = json!({
            "iss": self.config.issuer,
            "sub": identity.subject(),
            "aud": audience,
            "exp": expires,
            "iat": now,
            "auth_method": facts.method.name(),
            "scope": identity.scopes().join(" "),
        });
        let named = [("client_id", &facts.client), ("auth_issuer", &facts.issuer), ("tenant", &facts.tenant)];
        for (claim, value) in named {
            if let Some(value) = value {
                claims[claim] = Value::from(&**value);
            }
        }
        claims
    }
}
