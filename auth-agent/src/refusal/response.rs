//! A refusal as the client sees it: problem+json (RFC 9457), the challenge (RFC 6750), `Retry-After`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::Refusal;
use super::proxy_status::proxy_status;
use crate::explain::RequestId;
use crate::token::TokenError;

/// Keys that are missing are fetched within seconds, where the issuer can be reached.
const KEYS_RETRY_SECONDS: u64 = 5;
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const REALM: &str = "auth-agent";
const FORWARDED_METHODS: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// A refusal, and what the response to it needs to know of the route.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'r> {
    /// The methods that the route takes, where it was another one.
    pub allow: Option<&'r HeaderValue>,
    /// What the request is called.
    pub id: Option<&'r RequestId>,
    /// The reason.
    pub refusal: Refusal,
    /// The scopes that the route needs; empty where that does not matter.
    pub scopes: &'r [String],
}

impl From<Refusal> for Refused<'_> {
    fn from(refusal: Refusal) -> Self {
        Self { allow: None, id: None, refusal, scopes: &[] }
    }
}

#[derive(Serialize)]
struct Problem<'p> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'p str>,
}

/// The response to a refused request.
pub fn respond(refused: Refused<'_>) -> Response<Full<Bytes>> {
    let refused = Refused { refusal: refused.refusal.shown(), ..refused };
    let refusal = refused.refusal;
    let status = refusal.status();
    let mut response = Response::new(Full::new(problem(&refusal, refused.id, status)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PROXY_STATUS, proxy_status(&refusal));
    add_challenge(headers, refused);
    match refusal {
        Refusal::ApiKeyLimit { retry_after }
        | Refusal::AuthFailureLimit { retry_after }
        | Refusal::EnumerationLimit { retry_after }
        | Refusal::Quota { retry_after, .. }
        | Refusal::RateLimit { retry_after, .. }
        | Refusal::RequestLimit { retry_after }
        | Refusal::UpstreamDown { retry_after }
        | Refusal::UpstreamFull { retry_after } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)));
        }
        Refusal::ClaimsUnread => {
            headers.insert(RETRY_AFTER, HeaderValue::from(1));
        }
        Refusal::Token(TokenError::KeysUnavailable) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(KEYS_RETRY_SECONDS));
        }
        Refusal::MethodNotAllowed => {
            let forwarded = || HeaderValue::from_static(FORWARDED_METHODS);
            headers.insert(ALLOW, refused.allow.cloned().unwrap_or_else(forwarded));
        }
        _ => {}
    }
    end_connection(headers, &refusal);
    response
}

/// Where this message ends is in doubt, and so is where the next one starts.
pub(super) fn end_connection(headers: &mut HeaderMap, refusal: &Refusal) {
    if matches!(refusal, Refusal::BodyInvalid | Refusal::FramingInvalid) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

fn problem(refusal: &Refusal, id: Option<&RequestId>, status: StatusCode) -> Bytes {
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: refusal.detail(),
        reason: refusal.name(),
        request_id: id.map(RequestId::as_str),
    };
    serde_json::to_vec(&problem).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// Rounded up, so that a client that waits exactly this long is admitted; at least one.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

fn add_challenge(headers: &mut HeaderMap, refused: Refused<'_>) {
    let Some(error) = challenge_error(&refused.refusal) else { return };
    let mut challenge = format!("Bearer realm=\"{REALM}\"");
    if let Some(error) = error {
        let description: String =
            refused.refusal.detail().chars().filter(|&char| is_quotable(char)).collect();
        challenge.push_str(&format!(", error=\"{error}\", error_description=\"{description}\""));
    }
    if !refused.scopes.is_empty() && refused.refusal == Refusal::ScopeMissing {
        challenge.push_str(&format!(", scope=\"{}\"", refused.scopes.join(" ")));
    }
    if let Ok(value) = HeaderValue::try_from(challenge) {
        headers.insert(WWW_AUTHENTICATE, value);
    }
}

/// The error code of RFC 6750, 3.1. `Some(None)` is a challenge that names no error, for a client that
/// sent no credential.
fn challenge_error(refusal: &Refusal) -> Option<Option<&'static str>> {
    match refusal {
        Refusal::CredentialMissing => Some(None),
        Refusal::CredentialAmbiguous | Refusal::CredentialMalformed => Some(Some("invalid_request")),
        Refusal::ScopeMissing => Some(Some("insufficient_scope")),
        _ if refusal.status() == StatusCode::UNAUTHORIZED => Some(Some("invalid_token")),
        _ => None,
    }
}

/// What an `error_description` may hold: RFC 6750, 3.
fn is_quotable(char: char) -> bool {
    matches!(char, ' '..='~') && !matches!(char, '"' | '\\')
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::path::PathError;

    fn header(refusal: Refusal, name: HeaderName) -> Option<String> {
        let response = respond(refusal.into());
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_challenge_says_what_rfc_6750_says() {
        let scopes = ["orders:read".to_owned(), "orders:write".to_owned()];
        let challenge = |refusal: Refusal, scopes: &[String]| {
            let response = respond(Refused { scopes, ..refusal.into() });
            response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned())
        };
        let description = TokenError::Expired.description();
        let expired = format!(
            "Bearer realm=\"auth-agent\", error=\"invalid_token\", error_description=\"{description}\""
        );
        for (refusal, expected) in [
            (Refusal::CredentialMissing, Some("Bearer realm=\"auth-agent\"")),
            (Refusal::Token(TokenError::Expired), Some(expired.as_str())),
            (
                Refusal::CredentialAmbiguous,
                Some(
                    "Bearer realm=\"auth-agent\", error=\"invalid_request\", \
                     error_description=\"the request carries more than one credential\"",
                ),
            ),
            (
                Refusal::ScopeMissing,
                Some(
                    "Bearer realm=\"auth-agent\", error=\"insufficient_scope\", \
                     error_description=\"the credential lacks a scope that this route needs\", \
                     scope=\"orders:read orders:write\"",
                ),
            ),
            (Refusal::RouteNotFound, None),
            (Refusal::ApiKeyNetwork, None),
        ] {
            assert_eq!(challenge(refusal, &scopes).as_deref(), expected, "{refusal:?}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_checked_is_no_failed_authentication() {
        let refusal = Refusal::Token(TokenError::KeysUnavailable);
        assert_eq!((respond(refusal.into()).status().as_u16(), refusal.is_auth_failure()), (503, false));
        assert_eq!(header(refusal, WWW_AUTHENTICATE), None);
        assert_eq!(header(refusal, RETRY_AFTER).as_deref(), Some("5"));
        for error in TokenError::ALL.iter().filter(|error| **error != TokenError::KeysUnavailable) {
            let refusal = Refusal::Token(*error);
            assert_eq!((respond(refusal.into()).status().as_u16(), refusal.is_auth_failure()), (401, true));
        }
    }

    #[test]
    fn retry_after_is_in_whole_seconds_rounded_up() {
        for (millis, expected) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_500, "60")] {
            let refusal = Refusal::RequestLimit { retry_after: Duration::from_millis(millis) };
            assert_eq!(header(refusal, RETRY_AFTER).as_deref(), Some(expected), "{millis}");
        }
        assert_eq!(header(Refusal::RouteNotFound, RETRY_AFTER), None);
    }

    #[test]
    fn a_refused_method_learns_which_are_allowed() {
        assert_eq!(header(Refusal::MethodNotAllowed, ALLOW).as_deref(), Some(FORWARDED_METHODS));
    }

    #[test]
    fn the_body_is_a_problem_that_names_the_reason() {
        let response = respond(Refusal::PathInvalid(PathError::DotSegment).into());
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "the path holds a dot segment",
            "reason": "path-invalid",
        });
        assert_eq!(problem, expected);
    }
}
