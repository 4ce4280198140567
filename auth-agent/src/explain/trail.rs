//! What the stages of one request note on its way.
//!
//! A note costs a lock that nobody else wants and a few words: what exists is referred to, and nothing is made into text
//! before somebody asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::RequestId;
use crate::clock::Monotonic;
use crate::identity::{Identity, Method};
use crate::request::Canonical;

/// Limits of one request that are noted without room being made for them.
const ORDINARY_LIMITS: usize = 4;
/// Bytes of a key's id that are kept of what a client claims.
const MAX_CLAIMED_BYTES: usize = 64;

/// The notes of one request, and its name.
#[derive(Debug, Default)]
pub struct Trail {
    id: RequestId,
    notes: Mutex<Notes>,
}

/// What was noted of one request. What is empty was not come to.
#[derive(Debug, Default)]
pub struct Notes {
    /// Bytes of the request's body that were read before it was answered.
    pub bytes_in: u64,
    /// Whether what the token came to was remembered.
    pub cached: Option<bool>,
    /// The kind of credential that the request carries.
    pub credential: Option<Method>,
    /// What decided whether the route, or the object, may be used.
    pub decided_by: Option<(Decider, Arc<str>)>,
    /// Which of the upstream's endpoints was asked last.
    pub endpoint: Option<Arc<str>>,
    /// When the request went on to its upstream.
    pub forwarded: Option<Monotonic>,
    /// The host that was asked for.
    pub host: Option<HeaderValue>,
    /// Who sent it.
    pub identity: Option<Arc<Identity>>,
    /// What the limits came to.
    pub limits: Limits,
    /// What a credential that was refused says of itself.
    pub presented: Option<Presented>,
    /// Whether the credential was found to be revoked.
    pub revoked: Option<bool>,
    /// [`Route::label`](crate::config::Route::label).
    pub route: Option<Arc<str>>,
    /// What was asked for there, in its one form.
    pub target: Option<PathAndQuery>,
    /// The name of the upstream.
    pub upstream: Option<Arc<str>>,
}

/// What kind of rule decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decider {
    /// `route.bind`: whose the object is.
    Binding,
    /// A claim that the route asks for.
    Claim,
    /// `route.unless_scope`, `route.unless_claims`: what makes everyone's objects its holder's own.
    Exception,
    /// A policy.
    Policy,
    /// A scope that the route asks for.
    Scope,
}

impl Decider {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binding => "binding",
            Self::Claim => "claim",
            Self::Exception => "exception",
            Self::Policy => "policy",
            Self::Scope => "scope",
        }
    }
}

/// What a limit came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LimitNote {
    /// What is owed, this request included, in the limit's own unit (requests, bytes).
    pub debt: u64,
    /// The most that may be owed.
    pub limit: u64,
    /// Its name.
    pub name: Arc<str>,
}

/// The limits of a request; few have more than a handful.
#[derive(Debug, Default)]
pub struct Limits {
    first: [Option<LimitNote>; ORDINARY_LIMITS],
    rest: Vec<LimitNote>,
}

impl Limits {
    fn push(&mut self, note: LimitNote) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(note),
            None => self.rest.push(note),
        }
    }

    /// All of them, in the order in which they were looked at.
    pub fn iter(&self) -> impl Iterator<Item = &LimitNote> {
        self.first.iter().flatten().chain(&self.rest)
    }
}

/// What a credential says of itself that stands for nobody. None of it is to be believed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Presented {
    /// The name in the configuration of the issuer that a token names.
    pub issuer: Option<Arc<str>>,
    /// The id of the key: an API key's own, or what a token says it was signed with.
    pub key: Option<Box<str>>,
}

impl Presented {
    /// With as much of the key's id as is kept.
    pub fn new(issuer: Option<Arc<str>>, key: Option<&str>) -> Self {
        let kept = |key: &str| key[..key.floor_char_boundary(MAX_CLAIMED_BYTES)].into();
        Self { issuer, key: key.map(kept) }
    }
}

impl Trail {
    /// Of a request with this name.
    pub fn new(id: RequestId) -> Self {
        Self { id, notes: Mutex::default() }
    }

    /// The name of the request.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Notes whether what a token came to was remembered.
    pub fn cached(&self, cached: bool) {
        self.lock().cached = Some(cached);
    }

    /// Notes the one form of the request.
    pub fn canonical(&self, canonical: &Canonical) {
        let mut notes = self.lock();
        notes.host = Some(canonical.host().clone());
        notes.target = Some(canonical.asked().clone());
    }

    /// Notes how much of the request's body was read.
    pub fn read(&self, bytes: u64) {
        self.lock().bytes_in = bytes;
    }

    /// Notes what kind of credential there is.
    pub fn credential(&self, method: Method) {
        self.lock().credential = Some(method);
    }

    /// Notes what decided whether the route, or the object, may be used: where several rules agree, the last one.
    pub fn decided_by(&self, decider: Decider, name: impl Into<Arc<str>>) {
        self.lock().decided_by = Some((decider, name.into()));
    }

    /// Notes the upstream that the request goes to.
    pub fn forwarded(&self, upstream: &Arc<str>, now: Monotonic) {
        let mut notes = self.lock();
        notes.upstream = Some(Arc::clone(upstream));
        notes.forwarded = Some(now);
    }

    /// Notes the endpoint that is asked.
    pub fn asked(&self, endpoint: &Arc<str>) {
        self.lock().endpoint = Some(Arc::clone(endpoint));
    }

    /// Notes who sent the request, and whether their credential was found to be revoked.
    pub fn identified(&self, identity: &Arc<Identity>, revoked: bool) {
        let mut notes = self.lock();
        notes.credential = Some(identity.method());
        notes.identity = Some(Arc::clone(identity));
        notes.revoked = Some(revoked);
    }

    /// Notes what a limit came to: `debt` of at most `limit` in its own unit, this request included.
    pub fn limit(&self, name: impl Into<Arc<str>>, debt: u64, limit: u64) {
        self.lock().limits.push(LimitNote { debt, limit, name: name.into() });
    }

    /// Notes what a refused credential says of itself.
    pub fn presented(&self, presented: Presented) {
        self.lock().presented = Some(presented);
    }

    /// Notes the route: its [label](crate::config::Route::label).
    pub fn route(&self, label: &Arc<str>) {
        self.lock().route = Some(Arc::clone(label));
    }

    /// Everything that was noted; the trail is empty after that.
    pub fn take(&self) -> Notes {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_kept_in_their_order_however_many_there_are() {
        let trail = Trail::default();
        for number in 0..7_u64 {
            trail.limit(format!("limit-{number}"), number, 10);
        }
        let notes = trail.take();
        let debts: Vec<_> = notes.limits.iter().map(|note| note.debt).collect();
        assert_eq!(debts, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(trail.take().limits.iter().count(), 0, "taken");
    }

    #[test]
    fn no_more_is_kept_of_a_claimed_key_than_a_name_needs() {
        let long = "\u{e9}".repeat(100);
        let kept = Presented::new(None, Some(&long)).key.unwrap();
        assert_eq!(kept.chars().count(), MAX_CLAIMED_BYTES / 2);
        assert_eq!(Presented::new(None, None).key, None);
    }
}
