//! Explains a token offline, for `auth-agent token inspect`: also one that is expired, broken or not ours.
//!
//! The checks are the verifier's own functions, in its order. The output holds nothing to log in with: no
//! signature, and no value that looks like a secret or like another token.

mod text;
mod when;

use serde::Serialize;
use serde_json::Value;

use super::claims::{Claims, Times};
use super::header::Header;
use super::json::Json;
use super::{Issuer, TokenError, Verifier, sensitive, wire};
use crate::clock::UnixTime;
use crate::config::ClaimMap;

/// Every check, in the order in which [`Verifier::verify`] makes them.
const CHECKS: [&str; 22] = [
    "size",
    "parts",
    "header",
    "claims",
    "signature-encoding",
    "issuer",
    "type",
    "purpose",
    "audience",
    "times",
    "expiry",
    "not-before",
    "issued-at",
    "lifetime",
    "subject",
    "scopes",
    "identifiers",
    "confirmation",
    "key",
    "algorithm",
    "signature",
    "sensitive",
];

/// What there is to say about a token.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Whether the agent would accept it; without a verifier nobody knows.
    pub accepted: bool,
    /// Every check, in the verifier's order.
    pub checks: Vec<Check>,
    /// The claims, with secrets hidden, if they can be read at all.
    pub claims: Option<Value>,
    /// The header, likewise.
    pub header: Option<Value>,
    /// The key that the token is checked against.
    pub key: Option<UsedKey>,
    /// The first failed check's reason.
    pub refusal: Option<TokenError>,
    /// `exp`, `nbf` and `iat`.
    pub times: Vec<Time>,
    /// What the reader should know: unverified, or personal data inside.
    pub warnings: Vec<String>,
}

impl Inspection {
    /// Without what is in the token.
    pub fn into_verdict(self) -> Verdict {
        let Self { accepted, mut checks, key, refusal, .. } = self;
        for check in &mut checks {
            // These say what they found.
            if matches!(check.name, "key" | "scopes" | "type") && check.outcome == Outcome::Pass {
                check.detail = "acceptable".into();
            }
        }
        Verdict { accepted, checks, key, refusal }
    }
}

/// Whether a token is accepted, for those who need not know what is in it.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Whether the agent would accept it.
    pub accepted: bool,
    /// Every check, in the verifier's order.
    pub checks: Vec<Check>,
    /// The key that the token is checked against.
    pub key: Option<UsedKey>,
    /// The first failed check's reason.
    pub refusal: Option<TokenError>,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// More about it, in words.
    pub detail: String,
    /// Its name.
    pub name: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// Why it failed.
    pub reason: Option<TokenError>,
}

/// How a check went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It alone is enough to refuse the token.
    Fail,
    /// It held.
    Pass,
    /// It needs a verifier, or what an earlier check failed to find.
    Skipped,
}

/// The key that the token is checked against.
#[derive(Debug, Serialize)]
pub struct UsedKey {
    /// The algorithm it is pinned to.
    pub algorithm: String,
    /// Its `kid`, if it has one.
    pub id: Option<String>,
    /// The issuer's name in the configuration.
    pub issuer: String,
}

/// A time in the claims.
#[derive(Debug, Serialize)]
pub struct Time {
    /// The claim's name.
    pub claim: &'static str,
    /// Relative to now.
    pub relative: String,
    /// Seconds since 1970, as claimed.
    pub seconds: u64,
    /// The date in UTC, if the year has four digits.
    pub utc: Option<String>,
}

/// Explains `token`; white space around it is ignored. Without a verifier only its form and its times can
/// be checked.
pub fn inspect(token: &str, verifier: Option<&Verifier>, now: UnixTime) -> Inspection {
    let token = token.trim();
    let mut checks = Checks::default();
    let mut found = Found::default();
    look(token, verifier, now, &mut checks, &mut found);

    let checks = checks.complete(verifier.is_some());
    let warnings = warnings(&found, verifier.is_some(), &checks);
    let refusal = match verifier {
        Some(verifier) => verifier.verify(token, now).err().map(|rejected| rejected.error),
        None => checks.iter().find_map(|check| check.reason),
    };
    Inspection {
        accepted: verifier.is_some() && refusal.is_none(),
        checks,
        claims: found.claims.map(sensitive::hide),
        header: found.header.map(sensitive::hide),
        key: found.key,
        refusal,
        times: found.times,
        warnings,
    }
}

/// What can be shown of a token, whatever is wrong with it.
#[derive(Default)]
struct Found {
    claims: Option<Value>,
    header: Option<Value>,
    key: Option<UsedKey>,
    times: Vec<Time>,
}

/// Makes every check that can be made, going on after a failed one as far as there is anything to look at.
fn look(token: &str, verifier: Option<&Verifier>, now: UnixTime, checks: &mut Checks, found: &mut Found) {
    let verifier = verifier.map(|verifier| verifier.current.load());
    let verifier = verifier.as_deref();
    if let Some(verifier) = verifier {
        checks.add("size", verifier.check_size(token), |()| {
            format!("{} of {} bytes", token.len(), verifier.max_token_bytes)
        });
    }
    let Some(parts) = checks.add("parts", wire::split(token), |_| "three parts".into()) else { return };

    let text = wire::decode(parts.header);
    found.header = lenient(&text);
    let header = text.as_deref().map_err(|error| *error).and_then(Header::parse);
    let header = checks.add("header", header, |header| format!("{:?}", header.algorithm()));
    let text = wire::decode(parts.claims);
    found.claims = lenient(&text);
    let claims = text.as_deref().map_err(|error| *error).and_then(Claims::parse);
    let claims = checks.add("claims", claims, |_| "one JSON object".into());
    let signature = checks
        .add("signature-encoding", wire::decode(parts.signature), |bytes| format!("{} bytes", bytes.len()));

    let issuer = verifier.zip(claims.as_ref()).and_then(|(verifier, claims)| {
        checks.add("issuer", verifier.issuer(claims), |issuer| issuer.name().to_string())
    });
    if let (Some(issuer), Some(header)) = (issuer, &header) {
        checks.add("type", issuer.check_type(header), |()| header.media_type().unwrap_or("absent").into());
    }
    if let Some(claims) = &claims {
        check_claims(claims, issuer, now, checks, found);
    }
    if let (Some(issuer), Some(header)) = (issuer, &header) {
        check_signature(issuer, header, parts.signed, signature, checks, found);
    }
    if let (Some(issuer), Some(claims)) = (issuer, &claims) {
        checks.add("sensitive", issuer.sensitive.check(claims), |found| match found.len() {
            0 => "nothing found, or not looked for".into(),
            _ => "found, and let pass".into(),
        });
    }
}

fn check_claims(
    claims: &Claims<'_>,
    issuer: Option<&Issuer>,
    now: UnixTime,
    checks: &mut Checks,
    found: &mut Found,
) {
    let terms = issuer.map(|issuer| &issuer.terms);
    checks.add("purpose", claims.check_purpose(), |()| "nothing speaks against an access token".into());
    if let Some(terms) = terms {
        checks.add("audience", claims.check_audience(&terms.audiences), |()| "one of the issuer's".into());
    }
    if let Some(times) = checks.add("times", claims.times(), |_| "whole seconds".into()) {
        let leeway = terms.map_or(0, |terms| terms.leeway);
        let relative = |seconds: Option<u64>| seconds.map_or("absent".into(), |s| when::relative(s, now));
        checks.add("expiry", times.check_expiry(now, leeway), |()| relative(Some(times.expires)));
        checks.add("not-before", times.check_not_before(now, leeway), |()| relative(times.not_before));
        checks.add("issued-at", times.check_issued(now, leeway), |()| relative(Some(times.issued_at)));
        if let Some(terms) = terms {
            checks.add("lifetime", times.check_lifetime(terms.max_lifetime), |()| {
                format!("at most {}", when::span(terms.max_lifetime))
            });
        }
        found.times = described(&times, now);
    }
    let default = ClaimMap::default();
    let map = terms.map_or(&default, |terms| &terms.claims);
    checks.add("subject", claims.subject(map), |_| "present".into());
    checks.add("scopes", claims.scopes(map), |scopes| match scopes.as_slice() {
        [] => "none".into(),
        scopes => scopes.join(" "),
    });
    let identifiers = claims.token_id().and_then(|_| claims.client(map)).and_then(|_| claims.tenant(map));
    checks.add("identifiers", identifiers, |_| "jti, client and tenant".into());
    checks.add("confirmation", claims.confirmation(), |bound| match bound {
        Some(certificate) => format!("good only with the client certificate {certificate}"),
        None => "bound to nothing: whoever has it can use it".into(),
    });
}

fn check_signature(
    issuer: &Issuer,
    header: &Header<'_>,
    signed: &[u8],
    signature: Option<Vec<u8>>,
    checks: &mut Checks,
    found: &mut Found,
) {
    let named = |id: Option<&str>| id.map_or("without a kid".into(), |id| format!("kid {id:?}"));
    let keys = issuer.keys.load();
    let Some(key) = checks.add("key", keys.find(header.key_id()), |key| named(key.id())) else {
        return;
    };
    let algorithm = format!("{:?}", key.algorithm());
    let fits = checks.add("algorithm", key.check_algorithm(header.algorithm()), |()| algorithm.clone());
    found.key =
        Some(UsedKey { algorithm, id: key.id().map(str::to_owned), issuer: issuer.name().to_string() });
    if let (Some(()), Some(signature)) = (fits, signature) {
        checks.add("signature", key.verify(signed, &signature), |_| "holds".into());
    }
}

fn described(times: &Times, now: UnixTime) -> Vec<Time> {
    [("exp", Some(times.expires)), ("nbf", times.not_before), ("iat", Some(times.issued_at))]
        .into_iter()
        .filter_map(|(claim, seconds)| {
            let seconds = seconds?;
            Some(Time { claim, relative: when::relative(seconds, now), seconds, utc: when::utc(seconds) })
        })
        .collect()
}

/// For showing only: of a member that occurs twice this keeps the last, and the check says so.
fn lenient(text: &Result<Vec<u8>, TokenError>) -> Option<Value> {
    text.as_deref().ok().and_then(|text| serde_json::from_slice(text).ok())
}

fn warnings(found: &Found, has_verifier: bool, checks: &[Check]) -> Vec<String> {
    let verified = checks.iter().any(|check| check.name == "signature" && check.outcome == Outcome::Pass);
    let mut warnings = Vec::new();
    if !has_verifier {
        warnings.push("the signature was not checked: anyone can have written this token".into());
    } else if !verified {
        warnings.push("the signature does not hold or was not checked: believe nothing in this token".into());
    }
    for (place, value) in [("header", &found.header), ("claims", &found.claims)] {
        if let Some(value) = value {
            let value = Json::from(value);
            let findings = sensitive::find(std::iter::once((place, &value)));
            warnings.extend(findings.iter().map(ToString::to_string));
        }
    }
    warnings
}

/// Collects outcomes; a check that was not reached counts as skipped.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add<T>(
        &mut self,
        name: &'static str,
        result: Result<T, TokenError>,
        detail: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (outcome, detail) = match &result {
            Ok(value) => (Outcome::Pass, detail(value)),
            Err(error) => (Outcome::Fail, error.description().into()),
        };
        self.0.push(Check { detail, name, outcome, reason: result.as_ref().err().copied() });
        result.ok()
    }

    fn complete(mut self, has_verifier: bool) -> Vec<Check> {
        let why = if has_verifier { "not reached" } else { "needs the configuration, or was not reached" };
        let skipped = |name| Check { detail: why.into(), name, outcome: Outcome::Skipped, reason: None };
        CHECKS
            .into_iter()
            .map(|name| match self.0.iter().position(|check| check.name == name) {
                Some(index) => self.0.swap_remove(index),
                None => skipped(name),
            })
            .collect()
    }
}
