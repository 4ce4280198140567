//! What credentials are verified against: the issuers' keys and the API keys.

mod cache;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use aws_lc_rs::digest;

use self::cache::{Accepted, Cache, Forged, Known};
use crate::api_key::{ApiKey, KeyRing};
use crate::authenticate::{Denied, Guess, Verify};
use crate::clock::UnixTime;
use crate::config;
use crate::counters::TokenCounters;
use crate::identity::{Facts, Identity, Method, TokenHash};
use crate::refusal::Refusal;
use crate::token::{Rejected, TokenError, VerifiedClaims, Verifier};

/// The request path's view of all credentials.
pub struct Credentials {
    cache: Option<Cache>,
    counters: Arc<TokenCounters>,
    /// Nobody outside can tell which guesses share a word of their budgets.
    guesses: RandomState,
    keys: Arc<KeyRing>,
    tokens: Arc<Verifier>,
}

impl Credentials {
    /// Credentials that these know; tokens are remembered within these bounds.
    pub fn new(
        keys: Arc<KeyRing>,
        tokens: Arc<Verifier>,
        config: &config::Tokens,
        counters: Arc<TokenCounters>,
    ) -> Self {
        let cache = Cache::new(config, Arc::clone(&counters));
        Self { cache, counters, guesses: RandomState::new(), keys, tokens }
    }

    /// The identity behind a token, verified now or a short while ago.
    fn identity(&self, token: &str, now: UnixTime) -> Result<Arc<Identity>, Denied> {
        let Some(cache) = &self.cache else {
            return self.verified(token, hash(token), now).map(|accepted| accepted.identity);
        };
        // Nothing is computed for what is refused for its length alone.
        self.tokens.check_size(token).map_err(Refusal::Token)?;
        let hash = hash(token);
        match cache.find(&hash, now, |keys| self.tokens.is_current(keys)) {
            Some(Known::Accepted(identity)) => Ok(identity),
            Some(Known::Forged(guess)) => {
                Err(Denied { guess: Some(guess), refusal: Refusal::Token(TokenError::Signature) })
            }
            None => {
                let accepted = self.verified(token, hash, now)?;
                let identity = Arc::clone(&accepted.identity);
                cache.accept(hash, accepted);
                Ok(identity)
            }
        }
    }

    fn verified(&self, token: &str, hash: TokenHash, now: UnixTime) -> Result<Accepted, Denied> {
        let verified = self.tokens.verify(token, now);
        self.counters.sensitive.store(self.tokens.sensitive(), Relaxed);
        match verified {
            Ok(claims) => Ok(Accepted {
                identity: Identity::verified(facts(&claims, hash)),
                keys: claims.keys(),
                valid: claims.valid().clone(),
            }),
            Err(rejected) => Err(self.denied(&rejected, hash)),
        }
    }

    /// Whoever has no key can only guess signatures, and the names of keys that might verify them.
    fn denied(&self, rejected: &Rejected, hash: TokenHash) -> Denied {
        let tried = rejected.tried.as_ref();
        let guess = tried.map(|tried| Guess(self.guesses.hash_one((&tried.issuer, &tried.key_id))));
        if let (TokenError::Signature, Some(tried), Some(guess), Some(cache)) =
            (rejected.error, tried, guess, &self.cache)
        {
            cache.refuse(hash, Forged { guess, keys: tried.keys });
        }
        Denied { guess, refusal: Refusal::Token(rejected.error) }
    }
}

impl Verify for Credentials {
    fn api_key(&self, key: &str, source: IpAddr, now: UnixTime) -> Result<Arc<Identity>, Denied> {
        let record = self.keys.verify(key, source, now).map_err(|refusal| Denied {
            // Who knows a key's secret has nothing to guess, whatever else is wrong.
            guess: (refusal == Refusal::ApiKeyInvalid)
                .then(|| ApiKey::parse(key).ok())
                .flatten()
                .map(|key| Guess(self.guesses.hash_one(key.id()))),
            refusal,
        })?;
        Ok(Identity::verified(Facts {
            key: Some(record.id()),
            scopes: record.scopes().into(),
            ..Facts::new(Method::ApiKey, record.name())
        }))
    }

    fn token(&self, token: &str, now: UnixTime) -> Result<Arc<Identity>, Denied> {
        // What may have changed since the token was verified, other than time and keys, is checked here.
        self.identity(token, now)
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
        expires: Some(claims.valid().end),
        issued_at: claims.issued_at(),
        issuer: Some(Arc::clone(claims.issuer_name())),
        key: None,
        method: Method::Jwt,
        scopes: Arc::clone(claims.scopes()),
        subject: Arc::clone(claims.subject()),
        tenant: claims.tenant().cloned(),
        token: Some(token),
        token_id: claims.token_id().cloned(),
    }
}
