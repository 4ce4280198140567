//! Every reason to refuse a request, and the one place that turns a reason into a status.
//!
//! The name is the same in the response, the log, the counter and the CLI (promise P15).

use std::time::Duration;

use http::StatusCode;

use crate::path::PathError;
use crate::token::TokenError;

mod endpoint;
mod forward_auth;
mod proxy_status;
mod response;

pub use endpoint::{EndpointRefused, respond_endpoint};
pub use forward_auth::respond_to_nginx;
pub use response::{Refused, respond};

/// Why a request was refused. Adding a variant here is all it takes to name a new reason.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// The request carries an API key and the marks of a browser.
    ApiKeyBrowser,
    /// The API key is well formed and unknown, or its checksum is wrong.
    ApiKeyInvalid,
    /// The API key is past its expiry.
    ApiKeyExpired,
    /// The API key is over its own request limit.
    ApiKeyLimit {
        /// Until its next request is admitted.
        retry_after: Duration,
    },
    /// The API key is used from outside its networks.
    ApiKeyNetwork,
    /// The API key was revoked.
    ApiKeyRevoked,
    /// The source failed to authenticate too often, or too many failed with this key.
    AuthFailureLimit {
        /// Until the next attempt is admitted.
        retry_after: Duration,
    },
    /// The body breaks the rules of its framing, or broke off.
    BodyInvalid,
    /// The body is longer than `sizes.body_bytes`.
    BodyTooLarge,
    /// The body came more slowly than `sizes.body_rate`.
    BodySlow,
    /// No body bytes came for `timeouts.body_idle`.
    BodyTimeout,
    /// A client certificate in a request from a browser, which sends it unasked.
    CertificateBrowser,
    /// The connection's client certificate has expired, or is no longer trusted.
    CertificateInvalid,
    /// The client certificate carries no name, or several, of the kind that says who it stands for.
    CertificateNameless,
    /// The credential lacks a claim that the route needs, or has it with another value.
    ClaimMismatch,
    /// The token was verified before the route wanted to know what it asks of it, or after: the configuration is being
    /// changed.
    ClaimsUnread,
    /// A trusted proxy names no client, or one without an address.
    ClientAddressInvalid,
    /// A request to the built-in issuer without a client's credentials.
    ClientMissing,
    /// More than one credential.
    CredentialAmbiguous,
    /// The credential was valid when the request came, and its time ran out before the upstream answered.
    CredentialExpired,
    /// A credential that can't be read as one (scheme, characters, place).
    CredentialMalformed,
    /// No credential on a route that needs one.
    CredentialMissing,
    /// The token, or who it speaks for, was revoked.
    CredentialRevoked,
    /// The principal asked for too many objects of others, one after the other.
    EnumerationLimit {
        /// Until its next request to a route with object bindings is admitted.
        retry_after: Duration,
    },
    /// The body of a request to the built-in issuer is not the form that it takes.
    FormInvalid,
    /// The message's length is stated in a way that another server could read differently.
    FramingInvalid,
    /// The built-in issuer is asked for a grant that it does not give.
    GrantUnsupported,
    /// More than `sizes.headers` fields.
    HeadersTooMany,
    /// `Host` missing, twice, malformed, or unlike the target's authority or scheme.
    HostInvalid,
    /// `Host` is not the name that the TLS connection was made for.
    HostMisdirected,
    /// The built-in issuer could not sign, or could not store a revocation.
    IssuerFailed,
    /// The query names another method than the request, for upstreams that believe it.
    MethodAmbiguous,
    /// CONNECT, TRACE, or a method that no route of this host and path takes.
    MethodNotAllowed,
    /// What says which object is meant is there twice, or in a form that two servers may read differently.
    ObjectAmbiguous,
    /// The object is someone else's, or none is named.
    ObjectForeign {
        /// Whether the client is told that there is no such route.
        hidden: bool,
    },
    /// The path has no single canonical form.
    PathInvalid(PathError),
    /// A policy forbids it, or none permits it.
    PolicyDenied {
        /// Whether the client is told that there is no such route.
        hidden: bool,
    },
    /// A policy could not be evaluated.
    PolicyFailed,
    /// Over a `[[quota]]`.
    Quota {
        /// Whether it is used up by the client's address alone.
        by_source: bool,
        /// Until its period is over.
        retry_after: Duration,
    },
    /// A proxy that asks about a request does not say which one, or says it twice.
    QuestionInvalid,
    /// Over a `[[limit]]`.
    RateLimit {
        /// Whether the client's address alone owes too much.
        by_source: bool,
        /// Until the next request is admitted.
        retry_after: Duration,
    },
    /// The source is over its request budget.
    RequestLimit {
        /// Until the next request is admitted.
        retry_after: Duration,
    },
    /// No route matches.
    RouteNotFound,
    /// The built-in issuer is asked for scopes that the client does not have, or for more than a token holds.
    ScopeInvalid,
    /// The credential lacks a scope that the route needs.
    ScopeMissing,
    /// The client behind a trusted proxy is banned.
    SourceBanned,
    /// The JWT was refused.
    Token(TokenError),
    /// The built-in issuer is asked to revoke another client's token.
    TokenForeign,
    /// The token is bound to a client certificate that the connection does not have.
    TokenUnbound,
    /// No endpoint of the upstream is fit to be asked.
    UpstreamDown {
        /// Until it is worth another try.
        retry_after: Duration,
    },
    /// Every endpoint of the upstream has as many requests as it takes, and so has the queue, or this one waited too
    /// long in it.
    UpstreamFull {
        /// Until it is worth another try.
        retry_after: Duration,
    },
    /// A stream of HTTP/2 is to become a WebSocket, and the route does not list that.
    UpgradeNotAllowed,
    /// The upstream can't be reached.
    UpstreamUnreachable,
    /// The upstream's answer can't be understood or broke off.
    UpstreamInvalid,
    /// A stream of HTTP/2 is to become a WebSocket, and the upstream did not agree to that.
    UpstreamNoUpgrade,
    /// The upstream did not answer within `timeouts.response`.
    UpstreamTimeout,
    /// The request target is longer than `sizes.uri_bytes`.
    UriTooLong,
}

impl Refusal {
    /// The reason's name: lower case, words joined by hyphens.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApiKeyBrowser => "api-key-browser",
            Self::ApiKeyInvalid => "api-key-invalid",
            Self::ApiKeyExpired => "api-key-expired",
            Self::ApiKeyLimit { .. } => "api-key-limit",
            Self::ApiKeyNetwork => "api-key-network",
            Self::ApiKeyRevoked => "api-key-revoked",
            Self::AuthFailureLimit { .. } => "auth-failure-limit",
            Self::BodyInvalid => "body-invalid",
            Self::BodySlow => "body-slow",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::CertificateBrowser => "certificate-browser",
            Self::CertificateInvalid => "certificate-invalid",
            Self::CertificateNameless => "certificate-nameless",
            Self::ClaimMismatch => "claim-mismatch",
            Self::ClaimsUnread => "claims-unread",
            Self::ClientAddressInvalid => "client-address-invalid",
            Self::ClientMissing => "client-missing",
            Self::CredentialAmbiguous => "credential-ambiguous",
            Self::CredentialExpired => "credential-expired",
            Self::CredentialMalformed => "credential-malformed",
            Self::CredentialMissing => "credential-missing",
            Self::CredentialRevoked => "credential-revoked",
            Self::EnumerationLimit { .. } => "enumeration-limit",
            Self::FormInvalid => "form-invalid",
            Self::FramingInvalid => "framing-invalid",
            Self::GrantUnsupported => "grant-unsupported",
            Self::HeadersTooMany => "headers-too-many",
            Self::HostInvalid => "host-invalid",
            Self::HostMisdirected => "host-misdirected",
            Self::IssuerFailed => "issuer-failed",
            Self::MethodAmbiguous => "method-ambiguous",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::ObjectAmbiguous => "object-ambiguous",
            Self::ObjectForeign { .. } => "object-foreign",
            Self::PathInvalid(_) => "path-invalid",
            Self::PolicyDenied { .. } => "policy-denied",
            Self::PolicyFailed => "policy-failed",
            Self::QuestionInvalid => "question-invalid",
            Self::Quota { .. } => "quota",
            Self::RateLimit { .. } => "rate-limit",
            Self::RequestLimit { .. } => "request-limit",
            Self::RouteNotFound => "route-not-found",
            Self::ScopeInvalid => "scope-invalid",
            Self::ScopeMissing => "scope-missing",
            Self::SourceBanned => "source-banned",
            Self::Token(error) => error.name(),
            Self::TokenForeign => "token-foreign",
            Self::TokenUnbound => "token-unbound",
            Self::UpgradeNotAllowed => "upgrade-not-allowed",
            Self::UpstreamDown { .. } => "upstream-down",
            Self::UpstreamFull { .. } => "upstream-full",
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::UpstreamInvalid => "upstream-invalid",
            Self::UpstreamNoUpgrade => "upstream-no-upgrade",
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
            | Self::CertificateInvalid
            | Self::CertificateNameless
            | Self::ClientMissing
            | Self::CredentialAmbiguous
            | Self::CredentialExpired
            | Self::CredentialMalformed
            | Self::CredentialMissing
            | Self::CredentialRevoked
            | Self::TokenUnbound => StatusCode::UNAUTHORIZED,
            // Nothing is known against the token.
            Self::Token(TokenError::KeysUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::ApiKeyBrowser
            | Self::ApiKeyNetwork
            | Self::CertificateBrowser
            | Self::ClaimMismatch
            | Self::ObjectForeign { hidden: false }
            | Self::PolicyDenied { hidden: false }
            | Self::PolicyFailed
            | Self::ScopeMissing
            | Self::SourceBanned => StatusCode::FORBIDDEN,
            Self::ApiKeyLimit { .. }
            | Self::AuthFailureLimit { .. }
            | Self::EnumerationLimit { .. }
            | Self::Quota { .. }
            | Self::RateLimit { .. }
            | Self::RequestLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodySlow | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyInvalid
            | Self::ClientAddressInvalid
            | Self::FormInvalid
            | Self::FramingInvalid
            | Self::GrantUnsupported
            | Self::HostInvalid
            | Self::MethodAmbiguous
            | Self::ObjectAmbiguous
            | Self::PathInvalid(_)
            | Self::QuestionInvalid
            | Self::ScopeInvalid
            | Self::TokenForeign => StatusCode::BAD_REQUEST,
            Self::HeadersTooMany => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HostMisdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::IssuerFailed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ObjectForeign { hidden: true }
            | Self::PolicyDenied { hidden: true }
            | Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::ClaimsUnread | Self::UpstreamDown { .. } | Self::UpstreamFull { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            // RFC 9220, 3.
            Self::UpgradeNotAllowed => StatusCode::NOT_IMPLEMENTED,
            Self::UpstreamInvalid | Self::UpstreamNoUpgrade | Self::UpstreamUnreachable => {
                StatusCode::BAD_GATEWAY
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
        }
    }

    /// Whether an operator wants to read of each one. The rest is what any scan of the internet brings, and a
    /// client over its limits could fill the disk with.
    pub fn is_notable(&self) -> bool {
        let status = self.status();
        self.is_hidden()
            || *self != Self::SourceBanned
                && matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)
            || status.is_server_error()
    }

    /// What the client is told: where a route hides what is someone else's, that there is no such route.
    pub fn shown(self) -> Self {
        match self {
            Self::ObjectForeign { hidden: true } | Self::PolicyDenied { hidden: true } => Self::RouteNotFound,
            told => told,
        }
    }

    /// Whether the client is told of another refusal.
    pub fn is_hidden(&self) -> bool {
        self.shown() != *self
    }

    /// What is wrong, in a sentence for the client; tells nothing that the client does not know.
    pub fn detail(&self) -> &'static str {
        match self {
            Self::ApiKeyBrowser => "api keys are for servers, and this request came from a browser",
            Self::ApiKeyInvalid => "the api key is not known",
            Self::ApiKeyExpired => "the api key is past its expiry",
            Self::ApiKeyLimit { .. } => "too many requests with this api key",
            Self::ApiKeyNetwork => "the api key may not be used from this network",
            Self::ApiKeyRevoked => "the api key was revoked",
            Self::AuthFailureLimit { .. } => {
                "too many failed authentications from this address, or with this key"
            }
            Self::BodyInvalid => "the request body broke off or is not framed correctly",
            Self::BodySlow => "the request body comes too slowly",
            Self::BodyTooLarge => "the request body is too large",
            Self::BodyTimeout => "the request body stopped coming",
            Self::CertificateBrowser => {
                "client certificates are for servers here, and this request came from a browser"
            }
            Self::CertificateInvalid => "the client certificate has expired or is no longer trusted",
            Self::CertificateNameless => {
                "the client certificate does not carry exactly one name of the kind that counts here"
            }
            Self::ClaimMismatch => "the credential lacks a claim that this route needs",
            Self::ClaimsUnread => "the rules of this route are just changing, try again",
            Self::ClientAddressInvalid => "the proxy in front does not say where the request comes from",
            Self::ClientMissing => "the request carries no client credentials",
            Self::CredentialAmbiguous => "the request carries more than one credential",
            Self::CredentialExpired => "the credential ran out while the request was under way",
            Self::CredentialMalformed => "the credential is not in a form that is accepted here",
            Self::CredentialMissing => "the request carries no credential",
            Self::CredentialRevoked => "the credential was revoked",
            Self::EnumerationLimit { .. } => "too many objects of others were asked for with this credential",
            Self::FormInvalid => {
                "the request is not a form of at most 16 kib with every parameter once, lacks one, or authenticates \
                 in two ways"
            }
            Self::FramingInvalid => "the transfer coding is not supported",
            Self::GrantUnsupported => "the only grant here is client_credentials",
            Self::HeadersTooMany => "the request has too many header fields",
            Self::HostInvalid => "the host is missing, repeated, malformed or unlike the request target",
            Self::HostMisdirected => "the host is not the one this connection was made for",
            Self::IssuerFailed => "the issuer failed, try again later",
            Self::MethodAmbiguous => "the query names another method than the request",
            Self::MethodNotAllowed => "the method is not allowed here",
            Self::ObjectAmbiguous => {
                "what names the object is there more than once, or is spelled in a way that servers read differently"
            }
            Self::ObjectForeign { .. } => "the credential gives no access to this object",
            Self::PathInvalid(error) => error.description(),
            Self::PolicyDenied { .. } => "the credential gives no access to this",
            Self::PolicyFailed => "whether the credential gives access to this can't be decided",
            Self::QuestionInvalid => "the proxy does not say exactly once which request it asks about",
            Self::Quota { .. } => "the quota of this day or month is used up",
            Self::RateLimit { .. } => "too many requests, or bytes, for a limit of this route",
            Self::RequestLimit { .. } => "too many requests from this address",
            Self::RouteNotFound => "no route matches the host and the path",
            Self::ScopeInvalid => "the client lacks one of these scopes, or they are too many for one token",
            Self::ScopeMissing => "the credential lacks a scope that this route needs",
            Self::SourceBanned => "requests from this address are not taken",
            Self::Token(error) => error.description(),
            Self::TokenForeign => "the token was issued to another client",
            Self::TokenUnbound => {
                "the token is bound to a client certificate that this connection does not have"
            }
            Self::UpgradeNotAllowed => "websockets are not allowed here",
            Self::UpstreamDown { .. } => "the upstream is down, try again later",
            Self::UpstreamFull { .. } => "the upstream has as many requests as it takes, try again later",
            Self::UpstreamUnreachable => "the upstream can't be reached",
            Self::UpstreamInvalid => "the upstream's answer broke off or can't be understood",
            Self::UpstreamNoUpgrade => "the upstream did not agree to a websocket",
            Self::UpstreamTimeout => "the upstream did not answer in time",
            Self::UriTooLong => "the request target is too long",
        }
    }

    /// Whether it counts as a failed authentication, and so brings the source nearer to
    /// [`Self::AuthFailureLimit`]. A missing credential, a browser's request and a key over its limit guess nothing; nor
    /// does a token that can't be checked for want of its issuer's keys.
    pub fn is_auth_failure(&self) -> bool {
        match self {
            Self::Token(error) => *error != TokenError::KeysUnavailable,
            Self::ApiKeyInvalid
            | Self::ApiKeyExpired
            | Self::ApiKeyNetwork
            | Self::ApiKeyRevoked
            | Self::CredentialAmbiguous
            | Self::CredentialMalformed
            | Self::CredentialRevoked
            | Self::TokenUnbound => true,
            _ => false,
        }
    }
}
