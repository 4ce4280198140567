//! The claims: read strictly, held against an issuer's terms, and then carried as a type that only
//! verification makes.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{TokenError, json};
use crate::clock::UnixTime;
use crate::config;

/// Values in an `aud` array; real ones hold a handful.
const MAX_AUDIENCES: usize = 64;

/// Bytes of `sub` (OpenID Connect Core 2 allows no more), and of the other identifiers.
const MAX_IDENTIFIER_BYTES: usize = 255;

/// Scopes in one token.
const MAX_SCOPES: usize = 256;

/// Claims that no access token has: hashes that tie an ID token to a code or token (OpenID Connect Core
/// 3.3.2.11), and the payload of logout and security event tokens (RFC 8417).
const FOREIGN_CLAIMS: [&str; 4] = ["at_hash", "c_hash", "events", "s_hash"];

/// Claims in which some issuers (Keycloak, Cognito, and libraries that sign their own refresh tokens)
/// say what a token is for, all under one `typ` header.
const PURPOSE_CLAIMS: [&str; 4] = ["token_type", "token_use", "typ", "type"];
const FOREIGN_PURPOSES: [&str; 7] =
    ["id", "id_token", "logout", "offline", "refresh", "refresh_token", "serialized-id"];

/// What a verified token says. Made by [`Verifier::verify`](super::Verifier::verify) alone.
#[derive(Clone, Debug)]
pub struct VerifiedClaims {
    client: Option<Arc<str>>,
    expires: UnixTime,
    issued_at: Option<UnixTime>,
    issuer_name: Arc<str>,
    scopes: Vec<Arc<str>>,
    subject: Arc<str>,
    token_id: Option<Arc<str>>,
}

impl VerifiedClaims {
    /// The client the token was issued to: `client_id`, else `azp`.
    pub fn client(&self) -> Option<&Arc<str>> {
        self.client.as_ref()
    }

    /// `exp`. The leeway is not in it.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// `iat`.
    pub fn issued_at(&self) -> Option<UnixTime> {
        self.issued_at
    }

    /// The issuer's short name in the configuration.
    pub fn issuer_name(&self) -> &Arc<str> {
        &self.issuer_name
    }

    /// The scopes of `scope` or `scp`, sorted, each once, none with a space in it.
    pub fn scopes(&self) -> &[Arc<str>] {
        &self.scopes
    }

    /// `sub`: not empty, no control characters, no space at either end.
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }

    /// `jti`.
    pub fn token_id(&self) -> Option<&Arc<str>> {
        self.token_id.as_ref()
    }
}

/// What an issuer's claims are held against.
#[derive(Debug)]
pub(super) struct Terms {
    pub audiences: Vec<String>,
    pub leeway: u64,
    pub max_lifetime: u64,
    pub name: Arc<str>,
}

impl Terms {
    pub fn of(issuer: &config::Issuer) -> Self {
        Self {
            audiences: issuer.audiences.clone(),
            leeway: issuer.leeway.as_secs(),
            max_lifetime: issuer.max_lifetime.as_secs(),
            name: Arc::clone(&issuer.name),
        }
    }
}

/// Claims as they were sent.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub fn parse(text: &[u8]) -> Result<Self, TokenError> {
        Ok(Self(json::object(text)?))
    }

    /// To be called once the signature holds.
    pub fn verified(&self, terms: &Terms, now: UnixTime) -> Result<VerifiedClaims, TokenError> {
        self.check_purpose()?;
        self.check_audience(&terms.audiences)?;
        let times = self.times()?;
        times.check_expiry(now, terms.leeway)?;
        times.check_not_before(now, terms.leeway)?;
        times.check_issued(now, terms.leeway)?;
        times.check_lifetime(now, terms.max_lifetime)?;
        Ok(VerifiedClaims {
            subject: self.subject()?.into(),
            scopes: self.scopes()?.into_iter().map(Arc::from).collect(),
            token_id: self.token_id()?.map(Arc::from),
            client: self.client()?.map(Arc::from),
            expires: UnixTime(times.expires),
            issued_at: times.issued_at.map(UnixTime),
            issuer_name: Arc::clone(&terms.name),
        })
    }

    pub fn issuer(&self) -> Result<&str, TokenError> {
        self.string("iss")?.ok_or(TokenError::ClaimMissing)
    }

    /// RFC 8725 3.12: one kind of token must not pass for another.
    pub fn check_purpose(&self) -> Result<(), TokenError> {
        let foreign_claim = FOREIGN_CLAIMS.iter().any(|name| self.0.contains_key(*name));
        let foreign_purpose = PURPOSE_CLAIMS
            .iter()
            .filter_map(|name| self.0.get(*name)?.as_str())
            .any(|value| FOREIGN_PURPOSES.iter().any(|purpose| value.eq_ignore_ascii_case(purpose)));
        if foreign_claim || foreign_purpose { Err(TokenError::Type) } else { Ok(()) }
    }

    pub fn check_audience(&self, accepted: &[String]) -> Result<(), TokenError> {
        let values = match self.0.get("aud").ok_or(TokenError::ClaimMissing)? {
            single @ Value::String(_) => std::slice::from_ref(single),
            Value::Array(values) if (1..=MAX_AUDIENCES).contains(&values.len()) => values,
            _ => return Err(TokenError::ClaimType),
        };
        if !values.iter().all(Value::is_string) {
            return Err(TokenError::ClaimType);
        }
        let meant = values.iter().filter_map(Value::as_str).any(|value| accepted.iter().any(|a| a == value));
        if meant { Ok(()) } else { Err(TokenError::Audience) }
    }

    pub fn times(&self) -> Result<Times, TokenError> {
        Ok(Times {
            expires: self.seconds("exp")?.ok_or(TokenError::ClaimMissing)?,
            issued_at: self.seconds("iat")?,
            not_before: self.seconds("nbf")?,
        })
    }

    pub fn subject(&self) -> Result<&str, TokenError> {
        let subject = self.string("sub")?.ok_or(TokenError::ClaimMissing)?;
        if is_identifier(subject) { Ok(subject) } else { Err(TokenError::Subject) }
    }

    /// `scope` (RFC 8693 4.2) or `scp` (Entra ID, Okta), a string or an array; if there are both, they
    /// must agree.
    pub fn scopes(&self) -> Result<Vec<&str>, TokenError> {
        agreed(self.scope_list("scope")?, self.scope_list("scp")?).map(Option::unwrap_or_default)
    }

    pub fn token_id(&self) -> Result<Option<&str>, TokenError> {
        self.identifier("jti")
    }

    /// `client_id` (RFC 9068) or `azp` (OpenID Connect); if there are both, they must agree.
    pub fn client(&self) -> Result<Option<&str>, TokenError> {
        agreed(self.identifier("client_id")?, self.identifier("azp")?)
    }

    fn scope_list(&self, name: &str) -> Result<Option<Vec<&str>>, TokenError> {
        let mut scopes: Vec<&str> = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::String(list)) => list.split(' ').filter(|scope| !scope.is_empty()).collect(),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().ok_or(TokenError::ClaimType))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(TokenError::ClaimType),
        };
        if scopes.len() > MAX_SCOPES || !scopes.iter().all(|scope| is_scope(scope)) {
            return Err(TokenError::ClaimType);
        }
        scopes.sort_unstable();
        scopes.dedup();
        Ok(Some(scopes))
    }

    fn identifier(&self, name: &str) -> Result<Option<&str>, TokenError> {
        match self.string(name)? {
            Some(text) if !is_identifier(text) => Err(TokenError::ClaimType),
            found => Ok(found),
        }
    }

    /// A `NumericDate` that is a plain integer. RFC 7519 allows fractions; no issuer in use sends them,
    /// and parsers differ on them.
    fn seconds(&self, name: &str) -> Result<Option<u64>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(TokenError::ClaimType),
        }
    }

    fn string(&self, name: &str) -> Result<Option<&str>, TokenError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(TokenError::ClaimType),
        }
    }
}

/// Seconds since 1970, as claimed.
pub(super) struct Times {
    pub expires: u64,
    pub issued_at: Option<u64>,
    pub not_before: Option<u64>,
}

impl Times {
    pub fn check_expiry(&self, now: UnixTime, leeway: u64) -> Result<(), TokenError> {
        if self.expires.saturating_add(leeway) > now.0 { Ok(()) } else { Err(TokenError::Expired) }
    }

    pub fn check_not_before(&self, now: UnixTime, leeway: u64) -> Result<(), TokenError> {
        match self.not_before {
            Some(start) if start > now.0.saturating_add(leeway) => Err(TokenError::NotYetValid),
            _ => Ok(()),
        }
    }

    pub fn check_issued(&self, now: UnixTime, leeway: u64) -> Result<(), TokenError> {
        match self.issued_at {
            Some(issued) if issued > now.0.saturating_add(leeway) => Err(TokenError::IssuedInFuture),
            _ => Ok(()),
        }
    }

    pub fn check_lifetime(&self, now: UnixTime, max_lifetime: u64) -> Result<(), TokenError> {
        let lifetime = match self.issued_at {
            Some(issued) => self.expires.checked_sub(issued).ok_or(TokenError::Lifetime)?,
            None => self.expires.saturating_sub(now.0),
        };
        if lifetime <= max_lifetime { Ok(()) } else { Err(TokenError::Lifetime) }
    }
}

/// Two claims for one thing: no silent winner.
fn agreed<T: PartialEq>(first: Option<T>, second: Option<T>) -> Result<Option<T>, TokenError> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => Err(TokenError::ClaimType),
        (first, second) => Ok(first.or(second)),
    }
}

/// Fit for a header and a log line as it stands: a space at either end would be trimmed on the way to
/// the upstream, and make it someone else's name.
fn is_identifier(text: &str) -> bool {
    (1..=MAX_IDENTIFIER_BYTES).contains(&text.len())
        && text.trim().len() == text.len()
        && !text.chars().any(char::is_control)
}

/// `scope-token` of RFC 6749 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
