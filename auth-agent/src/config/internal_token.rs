//! Tokens that tell upstreams who sent a request.

use std::time::Duration;

use http::HeaderName;

/// No internal token is valid for longer.
pub const LONGEST_INTERNAL_TOKEN: Duration = Duration::from_secs(15 * 60);

/// `[internal_token]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InternalToken {
    /// What it is signed with: ES256 or EdDSA.
    pub algorithm: jsonwebtoken::Algorithm,
    /// The header field that carries it.
    pub header: HeaderName,
    /// Its `iss`.
    pub issuer: String,
    /// How long it is valid, at most as long as the credential that it was made from.
    pub lifetime: Duration,
    /// How long a key signs.
    pub rotate_every: Duration,
}

/// `upstream.identity`: how an upstream is told who sent a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IdentityForm {
    /// In both ways.
    Both,
    /// In `[identity_headers]`.
    #[default]
    Headers,
    /// In an `[internal_token]`.
    Token,
}

impl IdentityForm {
    /// Whether the identity headers are sent.
    pub fn has_headers(self) -> bool {
        self != Self::Token
    }

    /// Whether a token is sent.
    pub fn has_token(self) -> bool {
        self != Self::Headers
    }
}
