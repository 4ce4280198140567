//! Every reason to refuse a request, and the one place that turns a reason into a status.
//!
//! The name is the same in the response, the log, the counter and the CLI (promise P15).

use std::time::Duration;

use http::StatusCode;

/// Why a request was refused. Adding a variant here is all it takes to name a new reason.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// The API key is well formed and unknown, or its checksum is wrong.
    ApiKeyInvalid,
    /// The API key is past its expiry.
    ApiKeyExpired,
    /// The API key is used from outside its networks.
    ApiKeyNetwork,
    /// The API key was revoked.
    ApiKeyRevoked,
    /// The source failed to authenticate too often.
    AuthFailureLimit {
        /// Until the next attempt is admitted.
        retry_after: Duration,
    },
    /// The body is longer than `sizes.body_bytes`.
    BodyTooLarge,
    /// No body bytes came for `timeouts.body_idle`.
    BodyTimeout,
    /// More than one credential.
    CredentialAmbiguous,
    /// A credential that can't be read as one (scheme, characters, place).
    CredentialMalformed,
    /// No credential on a route that needs one.
    CredentialMissing,
    /// `Host` missing, twice, malformed, or unlike `:authority`.
    HostInvalid,
    /// CONNECT, TRACE, or a method that this edge does not forward.
    MethodNotAllowed,
    /// The path has no single canonical form.
    PathInvalid,
    /// The source is over its request budget.
    RequestLimit {
        /// Until the next request is admitted.
        retry_after: Duration,
    },
    /// No route matches.
    RouteNotFound,
    /// The credential lacks a scope that the route needs.
    ScopeMissing,
    /// The JWT was refused.
    Token(crate::token::TokenError),
    /// The upstream can't be reached.
    UpstreamUnreachable,
    /// The upstream's answer can't be understood or broke off.
    UpstreamInvalid,
    /// The upstream did not answer within `timeouts.response`.
    UpstreamTimeout,
    /// The request target is longer than `sizes.uri_bytes`.
    UriTooLong,
}

impl Refusal {
    /// The reason's name: lower case, words joined by hyphens.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApiKeyInvalid => "api-key-invalid",
            Self::ApiKeyExpired => "api-key-expired",
            Self::ApiKeyNetwork => "api-key-network",
            Self::ApiKeyRevoked => "api-key-revoked",
            Self::AuthFailureLimit { .. } => "auth-failure-limit",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::CredentialAmbiguous => "credential-ambiguous",
            Self::CredentialMalformed => "credential-malformed",
            Self::CredentialMissing => "credential-missing",
            Self::HostInvalid => "host-invalid",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::PathInvalid => "path-invalid",
            Self::RequestLimit { .. } => "request-limit",
            Self::RouteNotFound => "route-not-found",
            Self::ScopeMissing => "scope-missing",
            Self::Token(error) => error.name(),
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::UpstreamInvalid => "upstream-invalid",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::UriTooLong => "uri-too-long",
        }
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ApiKeyInvalid
            | Self::ApiKeyExpired
            | Self::ApiKeyRevoked
            | Self::CredentialAmbiguous
            | Self::CredentialMalformed
            | Self::CredentialMissing
            | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::ApiKeyNetwork | Self::ScopeMissing => StatusCode::FORBIDDEN,
            Self::AuthFailureLimit { .. } | Self::RequestLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::HostInvalid | Self::PathInvalid => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::UpstreamInvalid | Self::UpstreamUnreachable => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
        }
    }
}
