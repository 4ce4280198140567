//! What is kept of one request, in memory that the next ones use again.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderValue, Method};

use super::trail::Notes;
use super::{RequestId, Trail};
use crate::clock::Monotonic;
use crate::refusal::Refusal;

/// Bytes that are kept of a method, a host and a path.
const MAX_METHOD_BYTES: usize = 32;
const MAX_HOST_BYTES: usize = 255;
pub(super) const MAX_PATH_BYTES: usize = 256;

/// Who wanted to know about the request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Via {
    /// Its client: it came to a public listener.
    #[default]
    Edge,
    /// Another proxy, which asked about it.
    ForwardAuth,
}

impl Via {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::ForwardAuth => "forward-auth",
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Its client, or its connection, was gone before it was answered.
    pub is_client_gone: bool,
    /// Why it was refused, if it was.
    pub refusal: Option<Refusal>,
    /// The status of its answer; 499, which nobody was told, where there is none.
    pub status: u16,
}

impl Outcome {
    /// The client was gone before there was an answer.
    pub const CLIENT_GONE: Self = Self { is_client_gone: true, refusal: None, status: 499 };

    /// It was answered with this status.
    pub fn answered(status: u16) -> Self {
        Self { is_client_gone: false, refusal: None, status }
    }

    /// It was refused, with the reason's own status.
    pub fn refused(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::answered(refusal.status().as_u16()) }
    }

    /// In a word, why there was no answer, or none of an upstream's.
    pub fn reason(&self) -> Option<&'static str> {
        let gone = self.is_client_gone.then_some("client-gone");
        self.refusal.map(|refusal| refusal.name()).or(gone)
    }

    /// The same in a sentence.
    pub fn detail(&self) -> Option<&'static str> {
        let gone = "the connection or its stream was ended before there was an answer; an upstream may have acted on it";
        self.refusal.map(|refusal| refusal.detail()).or(self.is_client_gone.then_some(gone))
    }
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Came<'r> {
    /// When.
    pub at: Monotonic,
    /// Its method.
    pub method: &'r Method,
    /// Its path, as it was sent; that of its one form is taken where there is one.
    pub path: &'r str,
    /// The client's address.
    pub source: IpAddr,
    /// Who wanted to know.
    pub via: Via,
}

/// One request.
#[derive(Debug)]
pub struct Entry {
    /// When it came.
    pub at: Monotonic,
    /// Its host, with the port where it was given.
    pub host: String,
    /// Its id.
    pub id: String,
    /// Its method.
    pub method: String,
    /// What its stages noted.
    pub notes: Notes,
    /// What became of it.
    pub outcome: Outcome,
    /// Its path, without the query.
    pub path: String,
    /// The client's address.
    pub source: IpAddr,
    /// From its coming to the head of its answer.
    pub took: Duration,
    /// Who wanted to know.
    pub via: Via,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            at: Monotonic(0),
            host: String::new(),
            id: String::new(),
            method: String::new(),
            notes: Notes::default(),
            outcome: Outcome::answered(0),
            path: String::new(),
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            took: Duration::ZERO,
            via: Via::Edge,
        }
    }
}

impl Entry {
    /// Makes this the entry of the request that came and has left `trail`. Its texts are written over the old ones.
    pub(super) fn fill(&mut self, came: Came<'_>, trail: &Trail, outcome: Outcome, now: Monotonic) {
        let notes = trail.take();
        set(&mut self.id, trail.id().as_str(), super::id::MAX_ID_BYTES);
        set(&mut self.method, came.method.as_str(), MAX_METHOD_BYTES);
        let host = notes.host.as_ref().and_then(|host: &HeaderValue| host.to_str().ok());
        set(&mut self.host, host.unwrap_or_default(), MAX_HOST_BYTES);
        set(&mut self.path, notes.target.as_ref().map_or(came.path, |target| target.path()), MAX_PATH_BYTES);
        self.notes = notes;
        // They may hold on to everything else that the client sent.
        (self.notes.host, self.notes.target) = (None, None);
        self.at = came.at;
        self.outcome = outcome;
        self.source = came.source;
        self.took = since(came.at, now);
        self.via = came.via;
    }

    /// From when the request went on to its upstream to the head of the answer.
    pub fn upstream_took(&self) -> Option<Duration> {
        let end = self.at.0.saturating_add(u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX));
        self.notes.forwarded.map(|then| since(then, Monotonic(end)))
    }

    /// Whether it has this id.
    pub fn is(&self, id: &RequestId) -> bool {
        self.id == id.as_str()
    }
}

pub(super) fn since(then: Monotonic, now: Monotonic) -> Duration {
    Duration::from_nanos(now.0.saturating_sub(then.0))
}

fn set(text: &mut String, to: &str, most: usize) {
    text.clear();
    text.push_str(&to[..to.floor_char_boundary(most)]);
}
