//! Why a token was refused.

use std::fmt;

use serde::{Serialize, Serializer};

/// Why a token was refused. The first failed check decides.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TokenError {
    /// `alg` is missing, `none`, unknown, or not the one that the key is pinned to.
    Algorithm,
    /// No `aud` value is one of the issuer's audiences.
    Audience,
    /// `iss`, `aud`, `exp`, `iat` or the subject is missing.
    ClaimMissing,
    /// A claim has the wrong JSON type, or a value no issuer should send.
    ClaimType,
    /// `cnf` binds the token to a key in a way that can't be checked here.
    Confirmation,
    /// `crit` or `b64` in the header: extensions that change what is signed.
    CriticalHeader,
    /// A JSON object with one member twice.
    DuplicateMember,
    /// A part is not canonical, unpadded base64url.
    Encoding,
    /// Past `exp`.
    Expired,
    /// A header parameter of encrypted, compressed or nested tokens, or an embedded key.
    HeaderForbidden,
    /// `iat` lies ahead.
    IssuedInFuture,
    /// `iss` names no configured issuer.
    Issuer,
    /// The issuer has no key of that `kid`, or there is no `kid` to choose by.
    KeyUnknown,
    /// The issuer's keys could not be had yet.
    KeysUnavailable,
    /// Valid for longer than the issuer's tokens may be.
    Lifetime,
    /// Not three parts of which the first two are JSON objects.
    Malformed,
    /// Before `nbf`.
    NotYetValid,
    /// Personal data or secrets in the claims, where the issuer's `sensitive_claims` is `reject`.
    Sensitive,
    /// The signature does not hold.
    Signature,
    /// The subject is empty, over-long, or not printable as it stands.
    Subject,
    /// Longer than `sizes.token_bytes`.
    TooLong,
    /// Not an access token by its `typ` header or its claims.
    Type,
}

impl TokenError {
    /// Every reason, for counters that exist before they are first needed.
    pub const ALL: &[Self] = &[
        Self::Algorithm,
        Self::Audience,
        Self::ClaimMissing,
        Self::ClaimType,
        Self::Confirmation,
        Self::CriticalHeader,
        Self::DuplicateMember,
        Self::Encoding,
        Self::Expired,
        Self::HeaderForbidden,
        Self::IssuedInFuture,
        Self::Issuer,
        Self::KeyUnknown,
        Self::KeysUnavailable,
        Self::Lifetime,
        Self::Malformed,
        Self::NotYetValid,
        Self::Sensitive,
        Self::Signature,
        Self::Subject,
        Self::TooLong,
        Self::Type,
    ];

    /// The reason's name: lower case, words joined by hyphens.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// One sentence for the RFC 6750 `error_description`: it says nothing that came from the token.
    pub fn description(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Algorithm => {
                ("token-algorithm", "the signature algorithm is not the one this key is used with")
            }
            Self::Audience => ("token-audience", "the token is meant for another audience"),
            Self::ClaimMissing => ("token-claim-missing", "iss, aud, exp, iat or the subject is missing"),
            Self::ClaimType => ("token-claim-type", "a claim has the wrong type or an unacceptable value"),
            Self::Confirmation => {
                ("token-confirmation", "the token is bound to a key in a way that can't be checked here")
            }
            Self::CriticalHeader => {
                ("token-critical-header", "the token needs an extension that is not supported")
            }
            Self::DuplicateMember => ("token-duplicate-member", "a JSON member occurs twice"),
            Self::Encoding => ("token-encoding", "a part is not canonical unpadded base64url"),
            Self::Expired => ("token-expired", "the token has expired"),
            Self::HeaderForbidden => (
                "token-header-forbidden",
                "encrypted, compressed and nested tokens and embedded keys are not accepted",
            ),
            Self::IssuedInFuture => ("token-issued-in-future", "the token was issued in the future"),
            Self::Issuer => ("token-issuer", "the issuer is not known here"),
            Self::KeyUnknown => ("token-key-unknown", "the issuer has no such key"),
            Self::KeysUnavailable => ("token-keys-unavailable", "the issuer's keys could not be had yet"),
            Self::Lifetime => ("token-lifetime", "the token is valid for longer than is allowed"),
            Self::Malformed => ("token-malformed", "this is not a signed JWT in compact form"),
            Self::NotYetValid => ("token-not-yet-valid", "the token is not valid yet"),
            Self::Sensitive => {
                ("token-sensitive", "the token carries personal data or a secret that anyone can read")
            }
            Self::Signature => ("token-signature", "the signature does not verify"),
            Self::Subject => ("token-subject", "the subject is empty, too long or not printable"),
            Self::TooLong => ("token-too-long", "the token is too long"),
            Self::Type => ("token-type", "this is not an access token"),
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.description())
    }
}

impl std::error::Error for TokenError {}

impl Serialize for TokenError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
