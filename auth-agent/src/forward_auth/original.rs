//! The request that a proxy asks about.

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::client_address::parse_address;
use crate::headers;
use crate::refusal::Refusal;

/// How a proxy tells which request it asks about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// `/verify/envoy` before the path of the request itself; the client in `X-Real-IP`.
    Envoy,
    /// Caddy and Traefik: in `X-Forwarded-Method`, `-Host`, `-Uri` and `-For`.
    Forwarded,
    /// As the example has it: in `X-Original-Method`, `-Host` and `-URI`, and `X-Real-IP`.
    Nginx,
}

const ENVOY: &str = "/verify/envoy";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_ORIGINAL_CONTENT_LENGTH: HeaderName = HeaderName::from_static("x-original-content-length");
const X_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-original-host");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_TRANSFER_ENCODING: HeaderName = HeaderName::from_static("x-original-transfer-encoding");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

impl Dialect {
    /// By the path that the proxy asks at, with the target of the request where that is part of it.
    pub fn of(asking: &Parts) -> Option<(Self, Option<&str>)> {
        let target = asking.uri.path_and_query()?.as_str();
        if let Some(original) = target.strip_prefix(ENVOY).filter(|original| original.starts_with('/')) {
            return Some((Self::Envoy, Some(original)));
        }
        // Caddy leaves the client's query there; the request's whole target is in a field.
        if asking.uri.path() == "/verify/caddy" {
            return Some((Self::Forwarded, None));
        }
        match target {
            "/verify/traefik" => Some((Self::Forwarded, None)),
            "/verify/nginx" => Some((Self::Nginx, None)),
            _ => None,
        }
    }
}

/// The request, and the address of its client. `target` is the request's, where the path holds it.
///
/// # Errors
/// A part of it is missing, there twice, or not what it should be: whatever the proxy does then, it does not forward.
pub(super) fn request(
    dialect: Dialect,
    target: Option<&str>,
    asking: &Parts,
) -> Result<(Parts, IpAddr), Refusal> {
    let sole = |name: &HeaderName| sole(&asking.headers, name);
    let (method, host, target, client) = match dialect {
        Dialect::Envoy => {
            let target = target.ok_or(Refusal::QuestionInvalid)?;
            (asking.method.clone(), sole(&HOST)?, target, X_REAL_IP)
        }
        Dialect::Forwarded => (
            parsed(sole(&X_FORWARDED_METHOD)?)?,
            sole(&X_FORWARDED_HOST)?,
            text(sole(&X_FORWARDED_URI)?)?,
            X_FORWARDED_FOR,
        ),
        Dialect::Nginx => (
            parsed(sole(&X_ORIGINAL_METHOD)?)?,
            sole(&X_ORIGINAL_HOST)?,
            text(sole(&X_ORIGINAL_URI)?)?,
            X_REAL_IP,
        ),
    };
    let client = parse_address(text(sole(&client)?)?).ok_or(Refusal::ClientAddressInvalid)?;
    // What follows a `#` would not be read here, and may be there.
    if target.contains('#') || asking.headers.keys().any(|name| headers::is_override(name.as_str())) {
        return Err(Refusal::QuestionInvalid);
    }
    // A target with a scheme says which host it is for, too.
    let uri = Uri::try_from(target).map_err(|_| Refusal::QuestionInvalid)?;
    let (mut original, ()) = Request::new(()).into_parts();
    (original.method, original.uri) = (method, uri);
    original.headers = asking.headers.clone();
    original.headers.insert(HOST, host.clone());
    Ok((original, client))
}

/// Whether a request that a proxy asks about may have a body. Proxies keep it, and often its length and its coding, too,
/// and what they say of a length may be that of their question: it counts only for there being one. So a body is ruled out
/// for GET and HEAD alone, where nothing tells of it.
pub fn may_have_body(original: &Parts) -> bool {
    let headers = &original.headers;
    let is_some = |value: &HeaderValue| value != "0" && !value.is_empty();
    let told = |name: &HeaderName| headers.get_all(name).iter().any(is_some);
    ![Method::GET, Method::HEAD].contains(&original.method)
        || headers.contains_key(CONTENT_TYPE)
        || headers::tell_of_a_body(headers)
        || told(&X_ORIGINAL_CONTENT_LENGTH)
        || told(&X_ORIGINAL_TRANSFER_ENCODING)
}

/// The value of a field that is there exactly once.
fn sole<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h HeaderValue, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(Refusal::QuestionInvalid),
    }
}

fn text(value: &HeaderValue) -> Result<&str, Refusal> {
    value.to_str().map_err(|_| Refusal::QuestionInvalid)
}

fn parsed(value: &HeaderValue) -> Result<Method, Refusal> {
    Method::from_bytes(value.as_bytes()).map_err(|_| Refusal::QuestionInvalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_ruled_out_for_get_and_head_alone_where_no_field_tells_of_one() {
        for (method, fields, expected) in [
            ("GET", &[][..], false),
            ("HEAD", &[("accept", "*/*"), ("x-original-content-length", "")], false),
            ("GET", &[("x-original-content-length", "0"), ("x-original-transfer-encoding", "")], false),
            ("GET", &[("content-type", "text/plain")], true),
            ("GET", &[("content-length", "5")], true),
            ("GET", &[("transfer-encoding", "chunked")], true),
            ("GET", &[("x-original-content-length", "5")], true),
            ("GET", &[("x-original-content-length", "0"), ("x-original-content-length", "5")], true),
            ("HEAD", &[("x-original-transfer-encoding", "chunked")], true),
            ("POST", &[("content-length", "0")], true),
            ("DELETE", &[], true),
            ("OPTIONS", &[], true),
        ] {
            let mut request = Request::builder().method(method);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (original, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(may_have_body(&original), expected, "{method} {fields:?}");
        }
    }
}
