//! What credentials are verified against: the issuers' keys and the API keys.

mod cache;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use self::cache::{Accepted, Cache, Forged, Known, TextHash};
use crate::api_key::{ApiKey, KeyId, KeyRing};
use crate::authenticate::{Denied, Guess, Verify};
use crate::clock::{Monotonic, Now, UnixTime};
use crate::config::{self, OWN_ISSUER};
use crate::counters::TokenCounters;
use crate::explain::Trail;
use crate::identity::{Facts, Identity, Method, TokenHash};
use crate::issuers::{Issuers, MissingKey};
use crate::refusal::Refusal;
use crate::revocation::Revocations;
use crate::token::{Rejected, TokenError, Tried, VerifiedClaims, Verifier};

/// The request path's view of all credentials.
pub struct Credentials {
    cache: Option<Cache>,
    counters: Arc<TokenCounters>,
    /// Nobody outside can tell which guesses share a word of their budgets.
    guesses: RandomState,
    issuers: Arc<Issuers>,
    keys: Arc<KeyRing>,
    revocations: Arc<Revocations>,
    tokens: Arc<Verifier>,
}

impl Credentials {
    /// Credentials that these know; no token is remembered.
    pub fn new(
        issuers: Arc<Issuers>,
        keys: Arc<KeyRing>,
        revocations: Arc<Revocations>,
        tokens: Arc<Verifier>,
    ) -> Self {
        let guesses = RandomState::new();
        Self { cache: None, counters: Arc::default(), guesses, issuers, keys, revocations, tokens }
    }

    /// The same; tokens are remembered within these bounds.
    #[must_use]
    pub fn remembering(self, config: &config::Tokens, counters: Arc<TokenCounters>) -> Self {
        Self { cache: Cache::new(config, Arc::clone(&counters)), counters, ..self }
    }

    /// The identity behind a token, verified now or a short while ago.
    fn identity(&self, token: &str, now: UnixTime, trail: &Trail) -> Result<Arc<Identity>, Denied> {
        let Some(cache) = &self.cache else {
            return self
                .verified(token, now, trail)
                .map(|accepted| accepted.identity)
                .map_err(|(denied, _)| denied);
        };
        // Nothing is computed for what is refused for its length alone.
        self.tokens.check_size(token).map_err(Refusal::Token)?;
        let text = TextHash::of(token);
        let known = cache.find(&text, now, |keys| self.tokens.is_current(keys));
        trail.cached(known.is_some());
        match known {
            Some(Known::Accepted(identity)) => Ok(identity),
            Some(Known::Forged(guess)) => {
                Err(Denied { guess: Some(guess), refusal: Refusal::Token(TokenError::Signature) })
            }
            None => match self.verified(token, now, trail) {
                Ok(accepted) => {
                    let identity = Arc::clone(&accepted.identity);
                    cache.accept(text, accepted);
                    Ok(identity)
                }
                Err((denied, forged)) => {
                    forged.into_iter().for_each(|forged| cache.refuse(text, forged));
                    Err(denied)
                }
            },
        }
    }

    fn verified(
        &self,
        token: &str,
        now: UnixTime,
        trail: &Trail,
    ) -> Result<Accepted, (Denied, Option<Forged>)> {
        let verified = self.tokens.verify(token, now);
        self.counters.sensitive.store(self.tokens.sensitive(), Relaxed);
        match verified {
            Ok(claims) => Ok(Accepted {
                identity: Identity::verified(Facts {
                    key: self.exchanged_key(&claims, now),
                    ..facts(&claims, TokenHash::of(token))
                }),
                keys: claims.keys(),
                valid: claims.valid().clone(),
            }),
            Err(Rejected { error, says, tried }) => {
                trail.presented(says);
                Err(self.denied(error, tried.as_ref()))
            }
        }
    }

    /// The API key that a token of the built-in issuer was exchanged for; `None`: it was issued by hand, for a client of
    /// that name.
    fn exchanged_key(&self, claims: &VerifiedClaims, now: UnixTime) -> Option<KeyId> {
        let own = **claims.issuer_name() == *OWN_ISSUER;
        let key = claims.client().filter(|_| own)?.parse().ok()?;
        self.keys.standing(key, now).map(|_| key)
    }

    /// Whoever has no key can only guess signatures, and the names of keys that might verify them.
    fn denied(&self, error: TokenError, tried: Option<&Tried>) -> (Denied, Option<Forged>) {
        let guess = tried.map(|tried| Guess(self.guesses.hash_one((&tried.issuer, &tried.key_id))));
        let forged = match (error, tried, guess) {
            (TokenError::Signature, Some(tried), Some(guess)) => Some(Forged { guess, keys: tried.keys }),
            _ => None,
        };
        (Denied { guess, refusal: Refusal::Token(error) }, forged)
    }
}

impl Verify for Credentials {
    fn api_key(&self, key: &str, source: IpAddr, now: Now) -> Result<Arc<Identity>, Denied> {
        self.keys.verify(key, source, now).map_err(|refusal| Denied {
            // Who knows a key's secret has nothing to guess, whatever else is wrong.
            guess: (refusal == Refusal::ApiKeyInvalid)
                .then(|| ApiKey::parse(key).ok())
                .flatten()
                .map(|key| Guess(self.guesses.hash_one(key.id()))),
            refusal,
        })
    }

    fn missing_key(&self, token: &str, now: Monotonic) -> MissingKey {
        self.issuers.missing_key(token, now)
    }

    fn is_over(&self, identity: &Identity, then: UnixTime) -> bool {
        let facts = identity.facts();
        // A rotated key ends earlier than it said when the request came.
        facts.expires.is_some_and(|expires| expires <= then)
            || facts.key.is_some_and(|key| matches!(self.keys.standing(key, then), Some(Err(_))))
    }

    fn unrevoked(&self, identity: &Identity, now: UnixTime) -> Result<(), Refusal> {
        let key = identity.method() == Method::ApiKey;
        match (self.revocations.is_revoked(identity, now), key) {
            (false, _) => Ok(()),
            (true, true) => Err(Refusal::ApiKeyRevoked),
            (true, false) => Err(Refusal::CredentialRevoked),
        }
    }

    fn token(&self, token: &str, now: UnixTime, trail: &Trail) -> Result<Arc<Identity>, Denied> {
        let identity = self.identity(token, now, trail)?;
        // Remembered or not: such a token ends with its key.
        match identity.facts().key.and_then(|key| self.keys.standing(key, now)) {
            Some(Err(refusal)) => Err(refusal.into()),
            Some(Ok(())) | None => Ok(identity),
        }
    }
}

fn facts(claims: &VerifiedClaims, token: TokenHash) -> Facts {
    Facts {
        certificate: claims.certificate(),
        claims: claims.kept().cloned(),
        client: claims.client().cloned(),
        expires: Some(claims.valid().end),
        issued_at: Some(claims.issued_at()),
        issuer: Some(Arc::clone(claims.issuer_name())),
        key: None,
        method: Method::Jwt,
        scopes: Arc::clone(claims.scopes()),
        signing_key: claims.signing_key().cloned(),
        subject: Arc::clone(claims.subject()),
        tenant: claims.tenant().cloned(),
        token: Some(token),
        token_id: claims.token_id().cloned(),
    }
}
