//! The claims: read strictly, held against an issuer's terms, and, once the signature holds, carried as a type
//! that only verification makes.

use std::ops::Range;
use std::sync::Arc;

use super::json::{Json, Object};
use super::keys::Signed;
use super::{KeysVersion, TokenError};
use crate::clock::UnixTime;
use crate::config::{self, ClaimMap, ClaimPath};
use crate::identity::{Kept, KeptClaims, MAX_LIST};
use crate::thumbprint::Thumbprint;

/// Values in an `aud` array; real ones hold a handful.
const MAX_AUDIENCES: usize = 64;

/// Bytes of `sub` (OpenID Connect Core 2 allows no more), and of the other identifiers.
const MAX_IDENTIFIER_BYTES: usize = 255;

/// The member of `cnf` that binds a token to a client certificate (RFC 8705 3.1).
const CERTIFICATE_THUMBPRINT: &str = "x5t#S256";

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
    certificate: Option<Thumbprint>,
    client: Option<Arc<str>>,
    issued_at: UnixTime,
    issuer_name: Arc<str>,
    kept: Option<Arc<KeptClaims>>,
    keys: KeysVersion,
    scopes: Arc<[Arc<str>]>,
    signing_key: Option<Arc<str>>,
    subject: Arc<str>,
    tenant: Option<Arc<str>>,
    token_id: Option<Arc<str>>,
    valid: Range<UnixTime>,
}

impl VerifiedClaims {
    /// The client certificate that the token is bound to (RFC 8705 3): it is good on no connection without.
    pub fn certificate(&self) -> Option<Thumbprint> {
        self.certificate
    }

    /// The client that the token was issued to.
    pub fn client(&self) -> Option<&Arc<str>> {
        self.client.as_ref()
    }

    /// `iat`.
    pub fn issued_at(&self) -> UnixTime {
        self.issued_at
    }

    /// The issuer's short name in the configuration.
    pub fn issuer_name(&self) -> &Arc<str> {
        &self.issuer_name
    }

    /// What it claims besides, as far as the configuration asks for it.
    pub fn kept(&self) -> Option<&Arc<KeptClaims>> {
        self.kept.as_ref()
    }

    /// The keys that it was verified with.
    pub fn keys(&self) -> KeysVersion {
        self.keys
    }

    /// What the token allows: sorted, each scope once, none with a space in it.
    pub fn scopes(&self) -> &Arc<[Arc<str>]> {
        &self.scopes
    }

    /// The id of the key that it was signed with, where that has one.
    pub fn signing_key(&self) -> Option<&Arc<str>> {
        self.signing_key.as_ref()
    }

    /// Whom it stands for: not empty, no control characters, no space at either end.
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }

    /// Whose customer that is, where the issuer's tokens name one.
    pub fn tenant(&self) -> Option<&Arc<str>> {
        self.tenant.as_ref()
    }

    /// `jti`.
    pub fn token_id(&self) -> Option<&Arc<str>> {
        self.token_id.as_ref()
    }

    /// From the first second in which the token is valid to the first in which it no longer is, leeway included.
    pub fn valid(&self) -> &Range<UnixTime> {
        &self.valid
    }
}

/// What an issuer's claims are held against.
#[derive(Debug)]
pub(super) struct Terms {
    pub audiences: Vec<String>,
    pub claims: ClaimMap,
    pub leeway: u64,
    pub max_lifetime: u64,
    pub name: Arc<str>,
}

impl Terms {
    pub fn of(issuer: &config::Issuer) -> Self {
        Self {
            audiences: issuer.audiences.clone(),
            claims: issuer.claims.clone(),
            leeway: issuer.leeway.as_secs(),
            max_lifetime: issuer.max_lifetime.as_secs(),
            name: Arc::clone(&issuer.name),
        }
    }
}

/// Claims as they were sent.
pub(super) struct Claims<'t>(Object<'t>);

impl<'t> Claims<'t> {
    pub fn parse(text: &'t [u8]) -> Result<Self, TokenError> {
        Ok(Self(Object::parse(text)?))
    }

    /// Those of an object that was read already.
    pub fn of(object: Object<'t>) -> Self {
        Self(object)
    }

    /// Everything that needs no signature. What comes of it is not to be believed yet.
    pub fn check(&self, terms: &Terms, now: UnixTime) -> Result<Checked<'_>, TokenError> {
        self.check_purpose()?;
        self.check_audience(&terms.audiences)?;
        let times = self.times()?;
        times.check_expiry(now, terms.leeway)?;
        times.check_not_before(now, terms.leeway)?;
        times.check_issued(now, terms.leeway)?;
        times.check_lifetime(terms.max_lifetime)?;
        Ok(Checked {
            subject: self.subject(&terms.claims)?,
            scopes: self.scopes(&terms.claims)?,
            token_id: self.token_id()?,
            client: self.client(&terms.claims)?,
            tenant: self.tenant(&terms.claims)?,
            certificate: self.confirmation()?,
            times,
        })
    }

    pub fn members(&self) -> impl Iterator<Item = (&str, &Json<'t>)> {
        self.0.members()
    }

    pub fn issuer(&self) -> Result<&str, TokenError> {
        self.string("iss")?.ok_or(TokenError::ClaimMissing)
    }

    /// RFC 8725 3.12: one kind of token must not pass for another.
    pub fn check_purpose(&self) -> Result<(), TokenError> {
        let is_foreign = |(name, value): (&str, &Json<'_>)| {
            FOREIGN_CLAIMS.contains(&name)
                || PURPOSE_CLAIMS.contains(&name)
                    && value.as_text().is_some_and(|value| {
                        FOREIGN_PURPOSES.iter().any(|purpose| value.eq_ignore_ascii_case(purpose))
                    })
        };
        if self.members().any(is_foreign) { Err(TokenError::Type) } else { Ok(()) }
    }

    pub fn check_audience(&self, accepted: &[String]) -> Result<(), TokenError> {
        let values = match self.0.get("aud").ok_or(TokenError::ClaimMissing)? {
            single @ Json::Text(_) => std::slice::from_ref(single),
            Json::Array(values) if (1..=MAX_AUDIENCES).contains(&values.len()) => values,
            _ => return Err(TokenError::ClaimType),
        };
        let mut meant = false;
        for value in values {
            let value = value.as_text().ok_or(TokenError::ClaimType)?;
            meant |= accepted.iter().any(|accepted| accepted == value);
        }
        if meant { Ok(()) } else { Err(TokenError::Audience) }
    }

    /// `iat` is needed (RFC 9068 2.2): a token that does not say when it was issued can be held neither against a longest
    /// lifetime nor against a revocation of what was issued before.
    pub fn times(&self) -> Result<Times, TokenError> {
        Ok(Times {
            expires: self.seconds("exp")?.ok_or(TokenError::ClaimMissing)?,
            issued_at: self.seconds("iat")?.ok_or(TokenError::ClaimMissing)?,
            not_before: self.seconds("nbf")?,
        })
    }

    /// The claim that `map` names, `sub` if not told otherwise.
    pub fn subject(&self, map: &ClaimMap) -> Result<&str, TokenError> {
        let subject = text(self.at(&map.subject)?)?.ok_or(TokenError::ClaimMissing)?;
        if is_identifier(subject) { Ok(subject) } else { Err(TokenError::Subject) }
    }

    /// The claims that `map` names, if not told otherwise `scope` (RFC 8693 4.2) and `scp` (Entra ID, Okta): each
    /// a string or an array.
    pub fn scopes(&self, map: &ClaimMap) -> Result<Vec<&str>, TokenError> {
        self.agreed(&map.scopes, scope_list).map(Option::unwrap_or_default)
    }

    pub fn token_id(&self) -> Result<Option<&str>, TokenError> {
        identifier(self.0.get("jti"))
    }

    /// The claims that `map` names, if not told otherwise `client_id` (RFC 9068) and `azp` (OpenID Connect).
    pub fn client(&self, map: &ClaimMap) -> Result<Option<&str>, TokenError> {
        self.agreed(&map.client, identifier)
    }

    /// The claims that `map` names.
    pub fn tenant(&self, map: &ClaimMap) -> Result<Option<&str>, TokenError> {
        self.agreed(&map.tenant, identifier)
    }

    /// What the token is bound to (`cnf`, RFC 7800). A binding that can't be checked here makes the token useless here:
    /// without, it would be worth as much to a thief as to its owner.
    pub fn confirmation(&self) -> Result<Option<Thumbprint>, TokenError> {
        match self.0.get("cnf") {
            None => Ok(None),
            Some(Json::Object(confirmation)) => {
                let mut members = confirmation.members();
                match (members.next(), members.next()) {
                    (Some((CERTIFICATE_THUMBPRINT, Json::Text(text))), None) => {
                        Thumbprint::parse(text).map(Some).ok_or(TokenError::ClaimType)
                    }
                    (Some((CERTIFICATE_THUMBPRINT, _)), None) => Err(TokenError::ClaimType),
                    _ => Err(TokenError::Confirmation),
                }
            }
            Some(_) => Err(TokenError::ClaimType),
        }
    }

    /// What several claims for one thing say: there is no silent winner.
    fn agreed<'s, T: PartialEq>(
        &'s self,
        paths: &[ClaimPath],
        read: impl Fn(Option<&'s Json<'t>>) -> Result<Option<T>, TokenError>,
    ) -> Result<Option<T>, TokenError> {
        paths.iter().try_fold(None, |agreed, path| match (agreed, read(self.at(path)?)?) {
            (Some(first), Some(second)) if first != second => Err(TokenError::ClaimType),
            (first, second) => Ok(first.or(second)),
        })
    }

    /// A path that leads through anything but objects leads nowhere only where a claim is absent.
    fn at(&self, path: &ClaimPath) -> Result<Option<&Json<'t>>, TokenError> {
        let Some((last, outer)) = path.names().split_last() else { return Ok(None) };
        let mut object = &self.0;
        for name in outer {
            object = match object.get(name) {
                None => return Ok(None),
                Some(Json::Object(inner)) => inner,
                Some(_) => return Err(TokenError::ClaimType),
            };
        }
        Ok(object.get(last))
    }

    /// What is kept of a claim that is there.
    pub fn kept(&self, path: &ClaimPath) -> Option<Kept> {
        match self.at(path) {
            Ok(None | Some(Json::Null)) => None,
            Ok(Some(Json::Array(items))) if items.len() <= MAX_LIST => {
                let texts: Option<_> = items.iter().map(canonical_text).collect();
                Some(texts.map_or(Kept::Unreadable, Kept::List))
            }
            Ok(Some(Json::Bool(value))) => Some(Kept::Boolean(*value)),
            Ok(Some(Json::Number(number))) => Some(number.as_i64().map_or(Kept::Unreadable, Kept::Number)),
            Ok(Some(Json::Text(text))) if is_identifier(text) => Some(Kept::Text((&**text).into())),
            _ => Some(Kept::Unreadable),
        }
    }

    /// A `NumericDate` that is a plain integer. RFC 7519 allows fractions; no issuer in use sends them,
    /// and parsers differ on them.
    fn seconds(&self, name: &str) -> Result<Option<u64>, TokenError> {
        self.0.get(name).map(|value| value.as_whole().ok_or(TokenError::ClaimType)).transpose()
    }

    fn string(&self, name: &str) -> Result<Option<&str>, TokenError> {
        text(self.0.get(name))
    }
}

/// The one text of a value in a list, where it has one.
fn canonical_text(value: &Json<'_>) -> Option<Box<str>> {
    match value {
        Json::Bool(value) => Some(value.to_string().into()),
        Json::Number(number) => number.as_i64().map(|number| number.to_string().into()),
        Json::Text(text) => is_identifier(text).then(|| (&**text).into()),
        Json::Array(_) | Json::Null | Json::Object(_) => None,
    }
}

fn text<'c>(claim: Option<&'c Json<'_>>) -> Result<Option<&'c str>, TokenError> {
    claim.map(|claim| claim.as_text().ok_or(TokenError::ClaimType)).transpose()
}

fn identifier<'c>(claim: Option<&'c Json<'_>>) -> Result<Option<&'c str>, TokenError> {
    match text(claim)? {
        Some(text) if !is_identifier(text) => Err(TokenError::ClaimType),
        found => Ok(found),
    }
}

fn scope_list<'c>(claim: Option<&'c Json<'_>>) -> Result<Option<Vec<&'c str>>, TokenError> {
    let mut scopes: Vec<&str> = match claim {
        None => return Ok(None),
        Some(Json::Text(list)) => list.split(' ').filter(|scope| !scope.is_empty()).collect(),
        Some(Json::Array(items)) => {
            items.iter().map(|item| item.as_text().ok_or(TokenError::ClaimType)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(TokenError::ClaimType),
    };
    if scopes.len() > MAX_SCOPES || !scopes.iter().all(|scope| is_scope(scope)) {
        return Err(TokenError::ClaimType);
    }
    scopes.sort_unstable();
    scopes.dedup();
    Ok(Some(scopes))
}

/// Claims that lack nothing but a signature that holds.
pub(super) struct Checked<'c> {
    certificate: Option<Thumbprint>,
    client: Option<&'c str>,
    scopes: Vec<&'c str>,
    subject: &'c str,
    tenant: Option<&'c str>,
    times: Times,
    token_id: Option<&'c str>,
}

impl Checked<'_> {
    pub fn verified(
        self,
        signed: Signed,
        claims: &Claims<'_>,
        terms: &Terms,
        keys: KeysVersion,
    ) -> VerifiedClaims {
        VerifiedClaims {
            certificate: self.certificate,
            client: self.client.map(Arc::from),
            issued_at: UnixTime(self.times.issued_at),
            issuer_name: Arc::clone(&terms.name),
            kept: KeptClaims::read(&terms.claims.kept, |name| claims.kept(name)),
            keys,
            scopes: self.scopes.into_iter().map(Arc::from).collect(),
            signing_key: signed.into_key(),
            subject: self.subject.into(),
            tenant: self.tenant.map(Arc::from),
            token_id: self.token_id.map(Arc::from),
            valid: self.times.valid(terms),
        }
    }
}

/// Seconds since 1970, as claimed.
pub(super) struct Times {
    pub expires: u64,
    pub issued_at: u64,
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
        if self.issued_at > now.0.saturating_add(leeway) { Err(TokenError::IssuedInFuture) } else { Ok(()) }
    }

    pub fn check_lifetime(&self, max_lifetime: u64) -> Result<(), TokenError> {
        let lifetime = self.expires.checked_sub(self.issued_at).ok_or(TokenError::Lifetime)?;
        if lifetime <= max_lifetime { Ok(()) } else { Err(TokenError::Lifetime) }
    }

    /// The seconds in which all checks hold.
    fn valid(&self, terms: &Terms) -> Range<UnixTime> {
        let start = self.not_before.unwrap_or(0).max(self.issued_at).saturating_sub(terms.leeway);
        UnixTime(start)..UnixTime(self.expires.saturating_add(terms.leeway))
    }
}

/// Fit for a header and a log line as it stands: a space at either end would be trimmed on the way to
/// the upstream, and make it someone else's name.
pub fn is_identifier(text: &str) -> bool {
    (1..=MAX_IDENTIFIER_BYTES).contains(&text.len())
        && text.trim().len() == text.len()
        && !text.chars().any(char::is_control)
}

/// `scope-token` of RFC 6749 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
