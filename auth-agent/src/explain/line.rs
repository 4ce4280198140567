//! A line of the access log: one JSON object, whatever the client sent.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::entry::{Entry, Outcome, Via};
use crate::clock::Monotonic;
use crate::identity::{Identity, Method};

/// What is logged of one request. Its texts are written over those of an earlier one.
#[derive(Debug)]
pub(super) struct Line {
    pub at: Monotonic,
    pub bytes_out: u64,
    pub took: Duration,
    /// Whether the whole answer was sent, as far as is known here.
    pub whole: bool,
    pub bytes_in: u64,
    pub credential: Option<Method>,
    pub host: String,
    pub id: String,
    pub identity: Option<Arc<Identity>>,
    pub method: String,
    pub outcome: Outcome,
    pub path: String,
    pub route: Option<Arc<str>>,
    pub source: IpAddr,
    pub upstream: Option<Arc<str>>,
    pub upstream_took: Option<Duration>,
    pub via: Via,
}

impl Default for Line {
    fn default() -> Self {
        let Entry { at, host, id, method, outcome, path, took, via, .. } = Entry::default();
        Self {
            at,
            bytes_in: 0,
            bytes_out: 0,
            credential: None,
            host,
            id,
            identity: None,
            method,
            outcome,
            path,
            route: None,
            source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            took,
            upstream: None,
            upstream_took: None,
            via,
            whole: true,
        }
    }
}

impl Line {
    /// Makes this the line of a request whose answer has a body of so many bytes.
    pub(super) fn fill(&mut self, entry: &Entry, bytes_out: u64) {
        self.host.clone_from(&entry.host);
        self.id.clone_from(&entry.id);
        self.method.clone_from(&entry.method);
        self.path.clone_from(&entry.path);
        let notes = &entry.notes;
        self.at = entry.at;
        self.bytes_in = notes.bytes_in;
        self.bytes_out = bytes_out;
        self.credential = notes.credential;
        self.identity.clone_from(&notes.identity);
        self.outcome = entry.outcome;
        self.route.clone_from(&notes.route);
        self.source = entry.source;
        self.took = entry.took;
        self.upstream.clone_from(&notes.upstream);
        self.upstream_took = entry.upstream_took();
        self.via = entry.via;
        self.whole = true;
    }

    /// Lets go of what it refers to.
    pub(super) fn let_go(&mut self) {
        (self.identity, self.route, self.upstream) = (None, None, None);
    }

    /// Adds the line to `text`; `clock` is the wall clock less the monotonic one.
    pub(super) fn render(&self, text: &mut Vec<u8>, clock: Duration, principals: bool) {
        let time = SystemTime::UNIX_EPOCH + clock + Duration::from_nanos(self.at.0);
        let object = Object {
            time: humantime::format_rfc3339_millis(time).to_string(),
            request_id: &self.id,
            via: self.via.name(),
            source: self.source,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            route: self.route.as_deref(),
            status: self.outcome.status,
            reason: self.outcome.reason(),
            auth: self.credential.map(Method::name),
            issuer: self.identity.as_ref().and_then(|identity| identity.facts().issuer.as_deref()),
            principal: self.identity.as_ref().filter(|_| principals).map(|identity| identity.subject()),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            broke_off: (!self.whole).then_some(true),
            duration_ms: milliseconds(self.took),
            upstream: self.upstream.as_deref(),
            upstream_ms: self.upstream_took.map(milliseconds),
        };
        let start = text.len();
        if serde_json::to_writer(&mut *text, &object).is_err() {
            text.truncate(start);
            return;
        }
        text.push(b'\n');
    }
}

/// To the microsecond.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_nanos() / 1_000) as f64 / 1_000.0
}

#[derive(Serialize)]
struct Object<'l> {
    time: String,
    request_id: &'l str,
    via: &'static str,
    source: IpAddr,
    method: &'l str,
    host: &'l str,
    path: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'l str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'l str>,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    broke_off: Option<bool>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;

    #[test]
    fn a_line_is_one_object_whatever_the_client_sent() {
        for path in ["/a\nb", "/\u{1b}[2J", "/\"},{\"status\":200", "/\u{2028}", "/%0a"] {
            let line = Line {
                outcome: Outcome::refused(Refusal::RouteNotFound),
                path: path.to_owned(),
                host: "a\r\nb".to_owned(),
                ..Line::default()
            };
            let mut text = Vec::new();
            line.render(&mut text, Duration::from_secs(1_700_000_000), true);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert!(text.ends_with('\n') && !text.trim_end().contains(char::is_control), "{text}");
            let object: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&object["path"], &object["status"]), (&path.into(), &404.into()));
            assert_eq!(object["time"], "2023-11-14T22:13:20.000Z");
        }
    }
}
