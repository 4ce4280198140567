//! A refusal as nginx can take it: its `auth_request` knows 401 and 403, and makes a 500 of everything else.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::{Refused, respond};

/// The status that the gateway would have answered.
const X_AUTH_STATUS: HeaderName = HeaderName::from_static("x-auth-status");
/// The reason's name.
const X_AUTH_REASON: HeaderName = HeaderName::from_static("x-auth-reason");

/// The response to a question of nginx's about a request that is refused: 401 as it is, all others as 403, with the status
/// and the reason beside it.
pub fn respond_to_nginx(refused: Refused<'_>) -> Response<Full<Bytes>> {
    let mut response = respond(refused);
    let status = response.status();
    response.headers_mut().insert(X_AUTH_STATUS, HeaderValue::from(status.as_u16()));
    response.headers_mut().insert(X_AUTH_REASON, HeaderValue::from_static(refused.refusal.shown().name()));
    if status != StatusCode::UNAUTHORIZED {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    response
}
