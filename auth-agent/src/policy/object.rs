//! Whose object a request names: its parts that are bound to claims, compared with them.
//!
//! A part is compared as what it stands for once it is decoded, byte by byte. What does not stand for one thing alone is
//! refused, whoever asks; then comes whether the credential may use all objects; then whether each part is among what its
//! claim says. All of that takes the same time for a foreign object as for one that does not exist: nothing here knows
//! which ones exist.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::query::{self, Ambiguous};
use crate::clock::UnixTime;
use crate::config::{Access, Binding, ClaimRule, Part};
use crate::explain::{Decider, Trail};
use crate::headers::is_spelling_of;
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::routes::Captures;

/// What a request says of the objects that it is for, and of itself.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What the path holds for the route's names.
    pub captures: &'a Captures<'a, 'a>,
    /// Whether there is a body, or may be one.
    pub has_body: bool,
    /// Header fields, as they came.
    pub headers: &'a HeaderMap,
    /// The method.
    pub method: &'a Method,
    /// When it came.
    pub now: UnixTime,
    /// The canonical path.
    pub path: &'a str,
    /// The query, as it came.
    pub query: Option<&'a str>,
    /// The client's address.
    pub source: IpAddr,
    /// Where to note what decided.
    pub trail: &'a Trail,
}

/// Whether every object that the request names is one of `identity`'s. `false`: one is someone else's, or not named. Notes
/// what decided it: the first binding that does not hold, or what makes all objects the credential's own.
///
/// # Errors
/// Servers could take the request for one for another object.
pub(super) fn is_own(access: &Access, identity: &Identity, asked: &Asked<'_>) -> Result<bool, Refusal> {
    let Some(first) = access.bindings.first() else { return Ok(true) };
    let note = |binding: &Binding| asked.trail.decided_by(Decider::Binding, Arc::clone(&binding.shown));
    let mut foreign = None;
    for binding in &access.bindings {
        let part = part(&binding.part, asked).map_err(|Ambiguous| {
            note(binding);
            Refusal::ObjectAmbiguous
        })?;
        if !part.is_some_and(|part| is_bound(binding, identity, &part)) {
            foreign.get_or_insert(binding);
        }
    }
    if let Some(binding) = overlaid(access, asked) {
        note(binding);
        return Err(Refusal::ObjectAmbiguous);
    }
    let excepted = foreign.and_then(|_| exception(access, identity));
    match &excepted {
        Some(exception) => asked.trail.decided_by(Decider::Exception, exception.as_str()),
        None => note(foreign.unwrap_or(first)),
    }
    Ok(foreign.is_none() || excepted.is_some())
}

fn is_bound(binding: &Binding, identity: &Identity, part: &str) -> bool {
    identity.claim(&binding.claim).has(part)
}

/// Whether it is known what the credential claims of that which objects are compared with.
pub(super) fn is_known(access: &Access, identity: &Identity) -> bool {
    let mut bound = access.bindings.iter().map(|binding| &binding.claim);
    let mut unless = access.unless_claims.iter().map(|rule| &rule.claim);
    bound.all(|claim| identity.knows_claim(claim)) && unless.all(|claim| identity.knows_claim(claim))
}

/// What makes all objects count as this one's own.
fn exception(access: &Access, identity: &Identity) -> Option<String> {
    let scope = access.unless_scopes.iter().find(|scope| has_scope(identity, std::slice::from_ref(scope)));
    let claim = || access.unless_claims.iter().find(|rule| holds(rule, identity));
    scope
        .map(|scope| format!("unless_scope = {scope}"))
        .or_else(|| claim().map(|rule| format!("unless_claims = {}", rule.claim)))
}

/// Whether a credential has one of these scopes.
pub(super) fn has_scope(identity: &Identity, scopes: &[String]) -> bool {
    scopes.iter().any(|scope| identity.scopes().iter().any(|held| **held == **scope))
}

/// Whether a claim is as a route wants it.
pub(super) fn holds(rule: &ClaimRule, identity: &Identity) -> bool {
    let claim = identity.claim(&rule.claim);
    rule.values.iter().any(|value| claim.has(value))
}

/// What names one of the request's objects; `None`: nothing does.
fn part<'a>(part: &Part, asked: &Asked<'a>) -> Result<Option<Cow<'a, str>>, Ambiguous> {
    match part {
        Part::Header(name) => field(asked.headers, name).map(|value| value.map(Cow::Borrowed)),
        Part::Path(name) => asked.captures.value(name).map(segment).transpose(),
        Part::Query(name) => asked.query.map_or(Ok(None), |query| query::value(query, name)),
    }
}

/// A canonical segment, decoded once. A raw plus is a space to some servers.
pub(super) fn segment(text: &str) -> Result<Cow<'_, str>, Ambiguous> {
    if text.contains('+') { Err(Ambiguous) } else { query::text(text).ok_or(Ambiguous) }
}

/// Refuses a path that holds something for a name of the route which servers may read differently.
pub(super) fn refuse_ambiguous(asked: &Asked<'_>) -> Result<(), Refusal> {
    let ambiguous = asked.captures.iter().any(|(_, text)| segment(text).is_err());
    if ambiguous { Err(Refusal::ObjectAmbiguous) } else { Ok(()) }
}

/// The one field of that name, in whatever spelling some server may take for it.
fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Ambiguous> {
    let folded = name.as_str();
    let another = |present: &HeaderName| present != name && is_spelling_of(present.as_str(), folded);
    if headers.keys().any(another) || is_nominated(headers, name) {
        return Err(Ambiguous);
    }
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => str::from_utf8(value.as_bytes()).map(Some).map_err(|_| Ambiguous),
        (Some(_), Some(_)) => Err(Ambiguous),
    }
}

/// Whether the field would not reach the upstream (RFC 9110, 7.6.1).
fn is_nominated(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        let names = value.as_bytes().split(|byte| *byte == b',');
        names
            .map(<[u8]>::trim_ascii)
            .any(|nominated| nominated.eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// The bound parameter of the query that some server may take from the body instead. Servers lay over the query what they
/// read in a form, in JSON, or in what they guess a body to be that does not say; so there is none, but where the route says
/// that its upstream reads nothing of the kind. What calls itself a form is refused even there.
fn overlaid<'a>(access: &'a Access, asked: &Asked<'_>) -> Option<&'a Binding> {
    let is_form = |value: &HeaderValue| {
        value.to_str().map_or(true, |value| value.to_ascii_lowercase().contains("form"))
    };
    let form = || asked.headers.get_all(CONTENT_TYPE).iter().any(is_form);
    let in_query = |binding: &&Binding| matches!(binding.part, Part::Query(_));
    let bound = access.bindings.iter().find(in_query)?;
    (asked.has_body && !access.body_unchecked || form()).then_some(bound)
}

/// What tells this object from others of the route, for counting them.
pub(super) fn hash(label: &str, access: &Access, asked: &Asked<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    label.hash(&mut hasher);
    asked.captures.iter().for_each(|capture| capture.hash(&mut hasher));
    for binding in access.bindings.iter().filter(|binding| !matches!(binding.part, Part::Path(_))) {
        part(&binding.part, asked).ok().flatten().hash(&mut hasher);
    }
    hasher.finish()
}
