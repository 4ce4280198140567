//! What was decided about a request.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::edge::SourceView;

/// `GET /v1/requests/{id}`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RequestStory {
    /// What it carried, if anything was found.
    pub credential: Option<CredentialStory>,
    /// What decided whether the route, or the object, may be used, where it is told.
    pub decided_by: Option<DeciderStory>,
    /// In words, why it was refused.
    pub detail: Option<String>,
    /// From its coming to the head of its answer.
    pub duration_ms: f64,
    /// The host that was asked for; empty: it was not found out.
    pub host: String,
    /// What it is called.
    pub id: String,
    /// What the kernel knows of its source now.
    pub kernel: Option<SourceView>,
    /// The limits that were looked at, in their order.
    pub limits: Vec<LimitStory>,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Why it was refused: the same name as in the response, the log and the metrics.
    pub reason: Option<String>,
    /// The route's name, or its hosts and path as configured.
    pub route: Option<String>,
    /// The client's address.
    pub source: IpAddr,
    /// The status that it was answered with.
    pub status: u16,
    /// When it came.
    pub time: UnixTime,
    /// The same to the millisecond, as RFC 3339 has it.
    pub time_text: String,
    /// Where it went, if it did.
    pub upstream: Option<UpstreamStory>,
    /// `edge`, or `forward-auth`.
    pub via: String,
}

/// What a request carried. What its own words are is marked so: they were not found to be true.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CredentialStory {
    /// Whether what a token came to was remembered.
    pub cached: Option<bool>,
    /// The first second in which it is not valid.
    pub expires: Option<UnixTime>,
    /// When it was issued: a token's `iat`, a key's creation.
    pub issued_at: Option<UnixTime>,
    /// The name in the configuration of a token's issuer.
    pub issuer: Option<String>,
    /// The id of the API key, or of the key that the token was signed with.
    pub key: Option<String>,
    /// An API key's age when the request came; for a token, that of what is known of its issuer's keys.
    pub key_age_seconds: Option<u64>,
    /// `api-key`, `certificate` or `jwt`.
    pub kind: String,
    /// Who it stands for.
    pub principal: Option<String>,
    /// Whether it was found to be revoked; absent: it was not come to.
    pub revoked: Option<bool>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Whose customer that is.
    pub tenant: Option<String>,
    /// It was found to be good. Otherwise issuer and key are its own words.
    pub verified: bool,
}

/// A rule that decided.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeciderStory {
    /// `binding`, `claim`, `exception`, `policy` or `scope`.
    pub kind: String,
    /// Which one.
    pub name: String,
}

/// A limit.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LimitStory {
    /// What was owed, in the limit's own unit, this request included.
    pub debt: u64,
    /// The most that may be owed.
    pub limit: u64,
    /// Its name.
    pub name: String,
}

/// Where a request went.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UpstreamStory {
    /// The endpoint that was asked last.
    pub endpoint: Option<String>,
    /// From there to the head of the answer.
    pub duration_ms: Option<f64>,
    /// The upstream's name.
    pub name: String,
}
