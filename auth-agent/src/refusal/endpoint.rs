//! A refusal of the built-in issuer: the JSON of RFC 6749, 5.2, with our reason beside its code.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::response::{end_connection, whole_seconds};
use super::{Refusal, Refused, respond};
use crate::authenticate::Guess;
use crate::explain::RequestId;

/// A refusal, and what the response to it needs to know of the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndpointRefused {
    /// The methods that the endpoint takes, where it was another one.
    pub allow: Option<&'static str>,
    /// The client tried to authenticate in the header.
    pub basic: bool,
    /// What may have been guessed at.
    pub guess: Option<Guess>,
    /// The reason.
    pub refusal: Refusal,
}

impl EndpointRefused {
    /// The endpoint takes only these methods.
    pub fn method(allow: &'static str) -> Self {
        Self { allow: Some(allow), basic: false, guess: None, refusal: Refusal::MethodNotAllowed }
    }
}

/// The response to a request that the built-in issuer refused.
pub fn respond_endpoint(refused: &EndpointRefused, id: &RequestId) -> Response<Full<Bytes>> {
    let refusal = refused.refusal;
    let Some(code) = code(&refusal) else { return other(refused, id) };
    let body = json!({
        "error": code,
        "error_description": refusal.detail(),
        "reason": refusal.name(),
        "request_id": id.as_str(),
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if refusal.status() == StatusCode::UNAUTHORIZED && (refused.basic || refusal == Refusal::ClientMissing) {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"auth-agent\""));
    }
    if let Refusal::ApiKeyLimit { retry_after } = refusal {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)));
    }
    end_connection(headers, &refusal);
    response
}

/// What is no matter of RFC 6749 is answered as everywhere else.
fn other(refused: &EndpointRefused, id: &RequestId) -> Response<Full<Bytes>> {
    let mut response = respond(Refused { id: Some(id), ..refused.refusal.into() });
    if let Some(allow) = refused.allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// The error code: RFC 6749, 4.1.2.1 and 5.2; RFC 6750, 3.1 for a key that may not ask about tokens.
fn code(refusal: &Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::ApiKeyBrowser | Refusal::ApiKeyNetwork | Refusal::TokenForeign => "unauthorized_client",
        Refusal::ApiKeyLimit { .. } => "temporarily_unavailable",
        Refusal::BodyInvalid | Refusal::FormInvalid => "invalid_request",
        Refusal::GrantUnsupported => "unsupported_grant_type",
        Refusal::IssuerFailed => "server_error",
        Refusal::ScopeInvalid => "invalid_scope",
        Refusal::ScopeMissing => "insufficient_scope",
        _ if refusal.status() == StatusCode::UNAUTHORIZED => "invalid_client",
        _ => return None,
    })
}
