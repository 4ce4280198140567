//! Which requests go where, and what they need.

mod access;
mod pattern;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

pub use self::access::{Access, Binding, ClaimRule, Foreign, Part};
pub use self::pattern::{HostPattern, PathPattern, Rewrite, Segment, Template};

/// `[[route]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// What is needed beyond a valid credential.
    pub access: Access,
    /// Whether a credential is needed.
    pub auth: Auth,
    /// Longest request body, bytes; `sizes.body_bytes` where the route says nothing.
    pub body_bytes: u64,
    /// The hosts that it is for; empty: any.
    pub hosts: Vec<HostPattern>,
    /// What it is called in limits, metrics and explanations.
    pub label: Arc<str>,
    /// The limits and quotas that are for it: indexes into [`Config::request_limits`](super::Config::request_limits).
    pub limits: Vec<usize>,
    /// The methods that it is for; empty: any. GET stands for HEAD, too, where no other route of this path names that.
    pub methods: Vec<Method>,
    /// The paths that it is for.
    pub path: PathPattern,
    /// What becomes of the header fields of requests.
    pub request_headers: HeaderChanges,
    /// What becomes of the header fields of the upstream's responses.
    pub response_headers: HeaderChanges,
    /// What is sent once more.
    pub retries: Retries,
    /// The path that the upstream sees, where it is another.
    pub rewrite: Option<Rewrite>,
    /// Scopes that are all needed.
    pub scopes: Vec<String>,
    /// Deadlines.
    pub timeouts: RouteTimeouts,
    /// Protocols that a connection may be switched to (RFC 9110, 7.8), in lower case; never one that carries HTTP.
    pub upgrades: Vec<String>,
    /// Index into [`Config::upstreams`](super::Config::upstreams).
    pub upstream: usize,
}

impl Route {
    /// What it is called in limits, metrics and explanations: its name, or its hosts and its path as written.
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// The label of a route without a name. It has a slash in it, which no name has.
pub(super) fn label(hosts: &[HostPattern], path: &PathPattern) -> Arc<str> {
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    format!("{}{path}", hosts.join(",")).into()
}

/// `route.auth`: has no default, so that nothing is open by forgetting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Auth {
    /// Open to anyone; still limited per source.
    None,
    /// A valid credential is needed.
    Required,
}

/// `route.request_headers`, `route.response_headers`: none of them is one that this edge or HTTP itself decides.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderChanges {
    /// Taken out.
    pub remove: Vec<HeaderName>,
    /// Put in, in place of what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

/// `route.retries`: of requests that can be sent twice without harm (RFC 9110, 9.2.2) and whose body has not been
/// touched. A connection that can't be made is always worth another try, as nothing was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Retries {
    /// Tries after the first; 0: none.
    pub attempts: u8,
    /// Statuses of the upstream that are worth another try, too: some of 429, 502, 503 and 504.
    pub statuses: Vec<u16>,
}

/// `route.timeouts`, with `[timeouts]` where the route says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteTimeouts {
    /// Between two reads of the request body.
    pub body_idle: Duration,
    /// From the request's header fields to the end of the response; `None`: as long as it takes. What a connection was
    /// switched to is not counted.
    pub request: Option<Duration>,
    /// From the whole request to the upstream's response header fields.
    pub response: Duration,
}

#[cfg(test)]
impl Route {
    /// Of everything under `prefix`, on any host.
    pub(crate) fn under(prefix: &str, auth: Auth, scopes: &[&str], upstream: usize) -> Self {
        use super::{Sizes, Timeouts};
        let (sizes, timeouts) = (Sizes::default(), Timeouts::default());
        Self {
            access: Access::default(),
            auth,
            body_bytes: sizes.body_bytes,
            hosts: vec![],
            label: prefix.into(),
            limits: vec![],
            methods: vec![],
            path: PathPattern::Prefix(prefix.to_owned()),
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            retries: Retries::default(),
            rewrite: None,
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            timeouts: RouteTimeouts::within(&timeouts),
            upgrades: vec!["websocket".to_owned()],
            upstream,
        }
    }
}
