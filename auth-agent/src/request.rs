//! The one canonical request: method, host and target checked before anything is decided about them.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method};

use crate::config::Sizes;
use crate::headers;
use crate::path::{self, PathError};
use crate::refusal::Refusal;

/// The target of a request whose every part has been checked. Only [`canonicalise`] makes one; it is what
/// routes are matched with and what the upstream gets.
#[derive(Clone, Debug)]
pub struct Canonical {
    host: HeaderValue,
    /// What the upstream gets in place of `target`.
    rewritten: Option<PathAndQuery>,
    target: PathAndQuery,
}

impl Canonical {
    /// The host, with its port where the client gave one.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The name or the address in [`Self::host`], as the client spelled it.
    pub fn host_name(&self) -> &str {
        self.host.to_str().ok().and_then(host_name).unwrap_or_default()
    }

    /// The canonical path.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The query as the client sent it.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// Path and query of the request.
    pub fn asked(&self) -> &PathAndQuery {
        &self.target
    }

    /// Path and query for the upstream: those of the request, unless its route rewrites them.
    pub fn target(&self) -> &PathAndQuery {
        self.rewritten.as_ref().unwrap_or(&self.target)
    }

    /// With another path for the upstream, itself canonical. The query stays.
    pub fn rewrite(&mut self, path: String) -> Result<(), Refusal> {
        let rewritten = match self.target.query() {
            Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
            None => PathAndQuery::try_from(path),
        };
        self.rewritten = Some(rewritten.map_err(|_| Refusal::UriTooLong)?);
        Ok(())
    }
}

/// Checks `request`, which came over a TLS connection made for `server_name` (where the client named one).
pub fn canonicalise(request: &Parts, server_name: Option<&str>, sizes: &Sizes) -> Result<Canonical, Refusal> {
    check_method(&request.method)?;
    check_sizes(request, sizes)?;
    if !headers::has_plain_framing(&request.headers) {
        return Err(Refusal::FramingInvalid);
    }
    let host = canonical_host(request, server_name)?;
    let target = canonical_target(request)?;
    Ok(Canonical { host, rewritten: None, target })
}

/// CONNECT would make a tunnel; TRACE and TRACK would show what we add. Methods are told apart by their case (RFC 9110,
/// 9.1), and not by every server: `post` is no POST to a route, and may be one to what is behind it.
fn check_method(method: &Method) -> Result<(), Refusal> {
    let is = |name: &str| method.as_str() == name;
    let lower = method.as_str().bytes().any(|byte| byte.is_ascii_lowercase());
    let refused = lower || is("CONNECT") || is("TRACE") || is("TRACK");
    if refused { Err(Refusal::MethodNotAllowed) } else { Ok(()) }
}

fn check_sizes(request: &Parts, sizes: &Sizes) -> Result<(), Refusal> {
    let authority = request.uri.authority().map_or(0, |authority| authority.as_str().len());
    let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if authority + target > sizes.uri_bytes.get() {
        return Err(Refusal::UriTooLong);
    }
    if request.headers.len() > sizes.headers.get() {
        return Err(Refusal::HeadersTooMany);
    }
    Ok(())
}

/// Exactly one host: that of the target's authority and of the `Host` field, which agree where both are
/// there (RFC 9112, 3.2; RFC 9113, 8.3.1), and agree with the name in the TLS handshake (RFC 9110, 7.4).
fn canonical_host(request: &Parts, server_name: Option<&str>) -> Result<HeaderValue, Refusal> {
    if request.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS) {
        return Err(Refusal::HostInvalid);
    }
    let mut fields = request.headers.get_all(HOST).iter();
    let field = fields.next();
    let authority = request.uri.authority();
    let host = match (authority, field, fields.next()) {
        (_, Some(field), None) => field.clone(),
        (Some(authority), None, None) => {
            HeaderValue::try_from(authority.as_str()).map_err(|_| Refusal::HostInvalid)?
        }
        _ => return Err(Refusal::HostInvalid),
    };
    let text = host.to_str().map_err(|_| Refusal::HostInvalid)?;
    if authority.is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(text)) {
        return Err(Refusal::HostInvalid);
    }
    let name = host_name(text).ok_or(Refusal::HostInvalid)?;
    if server_name.is_some_and(|expected| !expected.eq_ignore_ascii_case(name)) {
        return Err(Refusal::HostMisdirected);
    }
    Ok(host)
}

/// RFC 1035, 2.3.4, in text.
const MAX_LABEL_BYTES: usize = 63;
const MAX_NAME_BYTES: usize = 253;

/// The name or address in `host[:port]`, if both are well formed.
fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            address.parse::<Ipv6Addr>().ok()?;
            (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    // An empty label would be a second spelling of a name: `api.example.` is `api.example`.
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_name);
    let is_label = |label: &str| label.len() <= MAX_LABEL_BYTES && is_label(label);
    let named = host.starts_with('[') || name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label);
    let ported = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    (named && ported).then_some(name)
}

fn canonical_target(request: &Parts) -> Result<PathAndQuery, Refusal> {
    let uri = &request.uri;
    let Some(target) = uri.path_and_query().filter(|_| uri.scheme().is_some() || uri.authority().is_none())
    else {
        return Err(Refusal::PathInvalid(PathError::Form));
    };
    if let Some(query) = target.query() {
        path::check_query(query).map_err(Refusal::PathInvalid)?;
    }
    let path = path::canonical(target.path()).map_err(Refusal::PathInvalid)?;
    if path == target.path() {
        return Ok(target.clone());
    }
    let rewritten = match target.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path.into_owned()),
    };
    rewritten.map_err(|_| Refusal::PathInvalid(PathError::Character))
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use http::Request;

    use super::*;

    fn sizes() -> Sizes {
        let some = |number| NonZeroUsize::new(number).unwrap();
        Sizes {
            body_bytes: 0,
            connections: some(1),
            connections_per_source: some(1),
            handshakes: some(1),
            header_bytes: some(8192),
            headers: some(4),
            streams: NonZeroU32::MIN,
            token_bytes: some(1),
            uri_bytes: some(64),
            workers: None,
            ..Sizes::default()
        }
    }

    fn check(uri: &str, headers: &[(&str, &str)]) -> Result<Canonical, Refusal> {
        check_for(None, "GET", uri, headers)
    }

    fn check_for(
        server_name: Option<&str>,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<Canonical, Refusal> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        canonicalise(&request.body(()).unwrap().into_parts().0, server_name, &sizes())
    }

    #[test]
    fn there_is_exactly_one_well_formed_host() {
        for (uri, hosts, expected) in [
            ("/", &["api.example"][..], Some("api.example")),
            ("/", &["api.example:8443"], Some("api.example:8443")),
            ("/", &["[::1]:443"], Some("[::1]:443")),
            ("/", &["192.0.2.1"], Some("192.0.2.1")),
            ("https://api.example/", &[], Some("api.example")),
            ("https://api.example/", &["API.example"], Some("API.example")),
            ("/", &[], None),
            ("/", &["a", "a"], None),
            ("/", &["a", "b"], None),
            ("/", &[""], None),
            ("/", &["a b"], None),
            ("/", &["a,b"], None),
            ("/", &["user@a"], None),
            ("/", &["a/b"], None),
            ("/", &["api.example."], None),
            ("/", &["a..b"], None),
            ("/", &[".a"], None),
            ("/", &["a:"], None),
            ("/", &["a:0"], None),
            ("/", &["a:65536"], None),
            ("/", &["a:+1"], None),
            ("/", &["a:1:2"], None),
            ("/", &[":443"], None),
            ("/", &["[::1"], None),
            ("/", &["[::1]x"], None),
            ("/", &["[a]"], None),
            ("/", &["::1"], None),
            ("https://api.example/", &["other.example"], None),
            ("https://api.example:443/", &["api.example"], None),
            ("https://user@api.example/", &[], None),
            ("http://api.example/", &["api.example"], None),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let host = check(uri, &headers).map(|request| request.host().clone());
            match expected {
                Some(expected) => assert_eq!(host.unwrap(), expected, "{uri} {hosts:?}"),
                None => assert_eq!(host.unwrap_err(), Refusal::HostInvalid, "{uri} {hosts:?}"),
            }
        }
    }

    #[test]
    fn the_host_is_the_one_the_connection_was_made_for() {
        for (host, expected) in [
            ("api.example", None),
            ("API.EXAMPLE:8443", None),
            ("other.example", Some(Refusal::HostMisdirected)),
            ("xapi.example", Some(Refusal::HostMisdirected)),
        ] {
            let result = check_for(Some("api.example"), "GET", "/", &[("host", host)]);
            assert_eq!(result.err(), expected, "{host}");
        }
    }

    #[test]
    fn the_target_is_rewritten_to_its_canonical_form_and_the_query_kept() {
        for (uri, expected) in [
            ("/a?b=%2e%2e", "/a?b=%2e%2e"),
            ("/%61?", "/a?"),
            ("/%61?x=/../y", "/a?x=/../y"),
            ("/%c3%a9", "/%C3%A9"),
            ("https://h/%61", "/a"),
        ] {
            assert_eq!(check(uri, &[("host", "h")]).unwrap().target().as_str(), expected);
        }
    }

    #[test]
    fn other_targets_methods_sizes_and_codings_are_refused() {
        let form = Refusal::PathInvalid(PathError::Form);
        let long = format!("/{}", "a".repeat(64));
        for (method, uri, headers, expected) in [
            ("OPTIONS", "*", &[][..], form),
            ("GET", "h", &[], form),
            ("GET", "/a//b", &[], Refusal::PathInvalid(PathError::EmptySegment)),
            ("CONNECT", "h:443", &[], Refusal::MethodNotAllowed),
            ("TRACE", "/", &[], Refusal::MethodNotAllowed),
            ("track", "/", &[], Refusal::MethodNotAllowed),
            ("post", "/", &[], Refusal::MethodNotAllowed),
            ("Get", "/", &[], Refusal::MethodNotAllowed),
            ("GET", long.as_str(), &[], Refusal::UriTooLong),
            ("GET", "/", &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")], Refusal::HeadersTooMany),
            ("POST", "/", &[("transfer-encoding", "gzip, chunked")], Refusal::FramingInvalid),
            ("POST", "/", &[("transfer-encoding", "chunked, chunked")], Refusal::FramingInvalid),
            (
                "POST",
                "/",
                &[("transfer-encoding", "identity"), ("transfer-encoding", "chunked")],
                Refusal::FramingInvalid,
            ),
        ] {
            let mut all = vec![("host", "h")];
            all.extend_from_slice(headers);
            assert_eq!(
                check_for(None, method, uri, &all).unwrap_err(),
                expected,
                "{method} {uri} {headers:?}"
            );
        }
    }
}
