//! Header fields between the client and the upstream.
//!
//! Invariant: what the upstream reads about the client's identity and address was written here. The client's
//! spellings of those fields, hop-by-hop fields and whatever `Connection` nominates go first; ours come after.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::client_address::forwarded;
use crate::config::{Config, Forwarding, HeaderChanges, IdentityHeaders};
use crate::explain::RequestId;
use crate::identity::Identity;
use crate::policy::Permit;
use crate::request::Canonical;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// RFC 9110, 7.6.1, with the fields that older proxies treat so.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What upstreams believe about the client's address, the path or the method when it is in a header.
/// In the folded spelling of [`is_spelling_of`].
const NOT_FROM_CLIENTS: [&str; 21] = [
    "cf-connecting-ip",
    // RFC 9440: what a proxy in front says of the client's certificate.
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "forwarded",
    "proxy",
    "remote-user",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-remote-user",
    "x-rewrite-url",
];

/// All of them, among them `X-Forwarded-User` and its like.
const NOT_FROM_CLIENTS_PREFIXES: [&str; 2] = ["proxy-", "x-forwarded-"];

/// What a proxy that forwards a request says of its way, in place of what its client did.
const WRITTEN_BY_PROXIES: [&str; 5] = [
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// What of a client's fields is covered with empty ones, where a proxy would leave it in place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Covered {
    /// Whatever its upstream is not to get, in every spelling.
    Everything,
    /// The names under which it is told who sent a request.
    Identity,
    /// Nothing.
    Nothing,
}

/// The header rules of one configuration.
#[derive(Debug)]
pub struct Rules {
    identity: IdentityHeaders,
    /// Names that only we may send to the upstream, and those of credentials, folded.
    ours: Vec<String>,
    /// The field of the request's id.
    request_id: Option<HeaderName>,
    send: Vec<Forwarding>,
    /// The field of the internal token.
    token: Option<HeaderName>,
    /// By upstream, whether it gets the identity headers.
    wants_headers: Vec<bool>,
}

impl Rules {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Self {
        let identity = config.identity_headers.clone();
        let token = config.internal_token.as_ref().map(|token| token.header.clone());
        let names =
            identity.names().into_iter().chain([&config.api_keys.header, &AUTHORIZATION]).chain(&token);
        let request_id = config.explain.header.clone();
        let names = names.chain(&request_id);
        let ours = names.map(|name| name.as_str().replace(['_', '.'], "-")).collect();
        let wants_headers = config.upstreams.iter().map(|upstream| upstream.identity.has_headers());
        let (send, wants_headers) = (config.proxies.send.clone(), wants_headers.collect());
        Self { identity, ours, request_id, send, token, wants_headers }
    }

    /// Turns the client's header fields into those for the upstream.
    pub fn to_upstream(
        &self,
        headers: &mut HeaderMap,
        version: Version,
        request: &Canonical,
        (source, id): (IpAddr, &RequestId),
        permit: &Permit<'_>,
    ) {
        let accepts_trailers = headers.get_all(TE).iter().any(is_trailers);
        remove_hop_by_hop(headers);
        self.remove_not_from_clients(headers);
        // The length is that of the body as it was read, and the expectation has been met by reading it.
        headers.remove(CONTENT_LENGTH);
        headers.remove(EXPECT);
        join_cookies(headers);
        if accepts_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        headers.insert(HOST, request.host().clone());
        self.add_way(headers, request, source);
        headers.append(VIA, via(version));
        apply(headers, &permit.route().request_headers);
        self.add_who(headers, permit);
        headers.extend(self.request_id.clone().map(|name| (name, id.value().clone())));
    }

    /// The fields that tell the upstream who sent a request, for a proxy that forwards it with `client`'s fields; empty
    /// ones cover what is not to reach it.
    pub fn identity(&self, permit: &Permit<'_>, client: &HeaderMap, covered: Covered) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.add_who(&mut headers, permit);
        if covered != Covered::Nothing {
            for name in self.identity.names().into_iter().chain(&self.token) {
                headers.entry(name).or_insert(HeaderValue::from_static(""));
            }
        }
        if covered == Covered::Everything {
            for name in client.keys().filter(|name| self.is_for_us_alone(name.as_str())) {
                headers.entry(name).or_insert(HeaderValue::from_static(""));
            }
        }
        headers
    }

    /// Who sent the request, in the form that the upstream wants.
    fn add_who(&self, headers: &mut HeaderMap, permit: &Permit<'_>) {
        let Some(identity) = permit.identity() else { return };
        if self.wants_headers.get(permit.route().upstream) != Some(&false) {
            self.add_identity(headers, identity);
        }
        if let (Some(name), Some(token)) = (&self.token, permit.token()) {
            headers.insert(name, token.clone());
        }
    }

    /// Turns the upstream's header fields into those for the client.
    pub fn to_client(&self, headers: &mut HeaderMap, version: Version, permit: &Permit<'_>) {
        remove_hop_by_hop(headers);
        headers.append(VIA, via(version));
        apply(headers, &permit.route().response_headers);
    }

    fn remove_not_from_clients(&self, headers: &mut HeaderMap) {
        let goes = |name: &HeaderName| {
            let name = name.as_str();
            says_where_it_came_from(name) || self.is_ours(name)
        };
        while let Some(name) = headers.keys().find(|name| goes(name)).cloned() {
            headers.remove(name);
        }
    }

    /// Whether the upstream is not to get a field of this name behind a proxy that forwards the request: credentials, what
    /// only we may say, and what tells of a request's way but for what such a proxy says itself.
    fn is_for_us_alone(&self, name: &str) -> bool {
        self.is_ours(name) || says_where_it_came_from(name) && !WRITTEN_BY_PROXIES.contains(&name)
    }

    fn is_ours(&self, name: &str) -> bool {
        self.ours.iter().any(|known| is_spelling_of(name, known))
    }

    /// Where the request came from, in the fields that are wanted. One address and no more: nobody has to find the
    /// client's among others.
    fn add_way(&self, headers: &mut HeaderMap, request: &Canonical, source: IpAddr) {
        for form in &self.send {
            match form {
                Forwarding::Forwarded => {
                    headers.extend(forwarded(source, request.host()).map(|value| (FORWARDED, value)));
                }
                Forwarding::XForwarded => {
                    headers.insert(X_FORWARDED_HOST, request.host().clone());
                    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
                    let source = HeaderValue::try_from(source.to_string());
                    headers.extend(source.ok().map(|value| (X_FORWARDED_FOR, value)));
                }
            }
        }
    }

    fn add_identity(&self, headers: &mut HeaderMap, identity: &Identity) {
        headers.insert(&self.identity.method, HeaderValue::from_static(identity.method().name()));
        headers.insert(&self.identity.subject, encoded(std::iter::once(identity.subject())));
        headers.insert(&self.identity.scopes, encoded(identity.scopes().iter().map(|scope| &**scope)));
        let facts = identity.facts();
        let named = [
            (&self.identity.client, &facts.client),
            (&self.identity.issuer, &facts.issuer),
            (&self.identity.tenant, &facts.tenant),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                headers.insert(name, encoded(std::iter::once(&**value)));
            }
        }
    }
}

/// What an operator wants changed. Whoever reads a field that goes does not find it in another spelling.
fn apply(headers: &mut HeaderMap, changes: &HeaderChanges) {
    let set = changes.set.iter().map(|(name, _)| name);
    for name in changes.remove.iter().chain(set) {
        let is = |present: &&HeaderName| is_spelling_of(present.as_str(), name.as_str());
        while let Some(present) = headers.keys().find(is).cloned() {
            headers.remove(present);
        }
    }
    for (name, value) in &changes.set {
        headers.insert(name, value.clone());
    }
}

/// Whether upstreams may believe this of a request's way when they read it in a header field of that name.
pub fn says_where_it_came_from(name: &str) -> bool {
    let starts = |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| is_spelling_of(start, prefix));
    NOT_FROM_CLIENTS.iter().any(|known| is_spelling_of(name, known))
        || NOT_FROM_CLIENTS_PREFIXES.iter().any(starts)
}

/// Removes what concerns one connection only (RFC 9110, 7.6.1).
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let nominations: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for nomination in nominations.iter().filter_map(|value| value.to_str().ok()) {
        for name in nomination.split(',') {
            headers.remove(name.trim());
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether the fields say that there is a body (RFC 9112, 6.3).
pub fn tell_of_a_body(headers: &HeaderMap) -> bool {
    let is_some = |value: &HeaderValue| value != "0";
    headers.contains_key(TRANSFER_ENCODING) || headers.get_all(CONTENT_LENGTH).iter().any(is_some)
}

/// Whether the body is chunked and nothing else, or not coded at all. The HTTP/1 parser takes any list of codings
/// that ends in `chunked`, and would hand on the others' bytes without their name.
pub fn has_plain_framing(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// Other requests than the one that they come with, to servers that believe them; in the folded spelling.
const OVERRIDES: [&str; 5] =
    ["x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Whether a field of this name may make another request of the one that it comes with.
pub fn is_override(name: &str) -> bool {
    OVERRIDES.iter().any(|known| is_spelling_of(name, known))
}

/// Whether a gateway in front of a CGI-like server would take `name` for `folded`: such servers see no
/// difference between `-`, `_` and `.`, or between any characters that are no letters or digits. Header names are in
/// lower case already.
pub fn is_spelling_of(name: &str, folded: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    name.len() == folded.len() && name.bytes().map(fold).eq(folded.bytes())
}

fn is_trailers(value: &HeaderValue) -> bool {
    value
        .to_str()
        .is_ok_and(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
}

/// HTTP/2 clients may split the cookie field; HTTP/1.1 has only one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies = headers.get_all(COOKIE);
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let joined = cookies.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// RFC 9110, 7.6.3.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 auth-agent",
        Version::HTTP_10 => "1.0 auth-agent",
        _ => "1.1 auth-agent",
    })
}

/// Words joined by spaces; every byte of a word that isn't visible ASCII, and `%`, as a percent-escape, so
/// that no two values look the same to the upstream.
fn encoded<'a>(words: impl Iterator<Item = &'a str>) -> HeaderValue {
    let mut value = String::new();
    for word in words {
        if !value.is_empty() {
            value.push(' ');
        }
        for byte in word.bytes() {
            if byte.is_ascii_graphic() && byte != b'%' {
                value.push(char::from(byte));
            } else {
                value.push('%');
                value.extend(
                    [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
                );
            }
        }
    }
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
