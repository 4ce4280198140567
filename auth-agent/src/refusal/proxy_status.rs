//! `Proxy-Status` (RFC 9209): that the answer is this edge's and not the upstream's, and which kind of error it is. It
//! tells nothing about the network behind.

use http::HeaderValue;

use super::Refusal;

/// The field's value; the error types are those of RFC 9209, 2.3.
pub(super) fn proxy_status(refusal: &Refusal) -> HeaderValue {
    HeaderValue::from_static(match refusal {
        Refusal::UpstreamDown { .. } | Refusal::UpstreamUnreachable => {
            "auth-agent; error=destination_unavailable"
        }
        Refusal::UpstreamFull { .. } => "auth-agent; error=connection_limit_reached",
        Refusal::UpgradeNotAllowed => "auth-agent; error=http_request_denied",
        Refusal::UpstreamInvalid => "auth-agent; error=http_protocol_error",
        Refusal::UpstreamNoUpgrade => "auth-agent; error=http_upgrade_failed",
        Refusal::UpstreamTimeout => "auth-agent; error=http_response_timeout",
        _ if refusal.status().is_server_error() => "auth-agent; error=proxy_internal_error",
        _ if is_policy(refusal) => "auth-agent; error=http_request_denied",
        _ => "auth-agent; error=http_request_error",
    })
}

/// Whether the request was well formed, and refused for what it asked or for who asked it.
fn is_policy(refusal: &Refusal) -> bool {
    // Unauthorized, forbidden, not found, too many.
    matches!(refusal.status().as_u16(), 401 | 403 | 404 | 429)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::path::PathError;
    use crate::refusal::respond;
    use crate::token::TokenError;

    #[test]
    fn every_answer_of_ours_says_that_it_is_and_why() {
        let retry_after = Duration::from_secs(1);
        for (refusal, expected) in [
            (Refusal::UpstreamInvalid, "http_protocol_error"),
            (Refusal::UpstreamTimeout, "http_response_timeout"),
            (Refusal::UpstreamNoUpgrade, "http_upgrade_failed"),
            (Refusal::UpgradeNotAllowed, "http_request_denied"),
            (Refusal::UpstreamUnreachable, "destination_unavailable"),
            (Refusal::UpstreamDown { retry_after }, "destination_unavailable"),
            (Refusal::UpstreamFull { retry_after }, "connection_limit_reached"),
            (Refusal::Token(TokenError::KeysUnavailable), "proxy_internal_error"),
            (Refusal::Token(TokenError::Expired), "http_request_denied"),
            (Refusal::CredentialMissing, "http_request_denied"),
            (Refusal::ScopeMissing, "http_request_denied"),
            (Refusal::RouteNotFound, "http_request_denied"),
            (Refusal::RequestLimit { retry_after }, "http_request_denied"),
            (Refusal::PathInvalid(PathError::DotSegment), "http_request_error"),
            (Refusal::BodyTooLarge, "http_request_error"),
            (Refusal::MethodNotAllowed, "http_request_error"),
        ] {
            let response = respond(refusal.into());
            assert_eq!(
                response.headers()["proxy-status"],
                format!("auth-agent; error={expected}"),
                "{refusal:?}"
            );
        }
    }
}
