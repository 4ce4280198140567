//! The one credential of a request.
//!
//! It comes in `Authorization: Bearer` or in the API-key header, never both, never twice. Cookies and bodies
//! are never looked at; a credential in the query is refused, since addresses end up in logs and histories.

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::api_key::ApiKey;
use crate::identity::Method;
use crate::path;
use crate::refusal::Refusal;

/// A credential that has been found and not yet verified. Only [`extract`] makes one.
pub struct Credential<'r> {
    method: Method,
    text: &'r str,
}

impl<'r> Credential<'r> {
    /// How it was sent.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The token or key itself: a secret.
    pub fn text(&self) -> &'r str {
        self.text
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Finds the credential, which is at most `max_bytes` long.
pub fn extract<'r>(
    headers: &'r HeaderMap,
    query: Option<&str>,
    api_key_header: &HeaderName,
    max_bytes: usize,
) -> Result<Credential<'r>, Refusal> {
    let authorization = single(headers, &AUTHORIZATION)?;
    let api_key = single(headers, api_key_header)?;
    let in_query = query.is_some_and(|query| query_has_credential(query, api_key_header));
    let (method, text) = match (authorization, api_key) {
        (Some(_), Some(_)) => return Err(Refusal::CredentialAmbiguous),
        (Some(_), None) | (None, Some(_)) if in_query => return Err(Refusal::CredentialAmbiguous),
        (None, None) if in_query => return Err(Refusal::CredentialMalformed),
        (None, None) => return Err(Refusal::CredentialMissing),
        (Some(value), None) => (Method::Jwt, bearer(value)),
        (None, Some(value)) => (Method::ApiKey, api_key_text(value)),
    };
    let text = text.filter(|text| text.len() <= max_bytes).ok_or(Refusal::CredentialMalformed)?;
    Ok(Credential { method, text })
}

fn single<'r>(headers: &'r HeaderMap, name: &HeaderName) -> Result<Option<&'r HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() { Err(Refusal::CredentialAmbiguous) } else { Ok(value) }
}

/// `Bearer` in any casing (RFC 9110, 11.1), one space, one b64token (RFC 6750, 2.1), nothing else.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let body = token.trim_end_matches('=');
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let valid = scheme.eq_ignore_ascii_case("bearer") && !body.is_empty() && body.bytes().all(is_token);
    valid.then_some(token)
}

/// Visible ASCII without the comma that would join two keys.
fn api_key_text(value: &HeaderValue) -> Option<&str> {
    let key = value.to_str().ok()?;
    let valid = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    valid.then_some(key)
}

/// Names of query parameters that carry credentials elsewhere, folded as [`folded`] does.
const QUERY_CREDENTIALS: [&str; 9] = [
    "accesstoken",
    "apikey",
    "apisecret",
    "apitoken",
    "authorization",
    "bearertoken",
    "clientsecret",
    "idtoken",
    "xapikey",
];

fn query_has_credential(query: &str, api_key_header: &HeaderName) -> bool {
    query.split(['&', ';']).any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.as_bytes();
        QUERY_CREDENTIALS.iter().any(|credential| folded(name).eq(credential.bytes()))
            || folded(name).eq(folded(api_key_header.as_str().as_bytes()))
            || is_api_key(value)
    })
}

/// Whether `value` is one of our API keys, whatever it is called.
fn is_api_key(value: &str) -> bool {
    let start = decoded(value.as_bytes()).take(ApiKey::PREFIX.len());
    start.eq(ApiKey::PREFIX.iter().copied())
        && String::from_utf8(decoded(value.as_bytes()).collect())
            .is_ok_and(|text| ApiKey::parse(&text).is_ok())
}

/// `name` decoded, in lower case, without what its spellings differ in.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    decoded(name).map(|byte| byte.to_ascii_lowercase()).filter(|byte| !matches!(byte, b'-' | b'_' | b'.'))
}

fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let &first = rest.first()?;
        let escaped = path::escape(rest);
        rest = &rest[if escaped.is_some() { 3 } else { 1 }..];
        Some(escaped.unwrap_or(first))
    })
}

#[cfg(test)]
mod tests;
