//! Requests and answers about the built-in issuer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::UnixTime;

/// The client of a token that is issued by hand and names none.
pub const OPERATOR: &str = "operator";

/// `POST /v1/tokens`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IssueToken {
    /// The client that it is for; the id of an API key makes it end with that key.
    #[serde(default = "operator")]
    pub client: String,
    /// How long it is valid, an hour at most.
    pub lifetime_seconds: u64,
    /// What it may do.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Who it stands for.
    pub subject: String,
}

fn operator() -> String {
    OPERATOR.to_owned()
}

/// The answer to [`IssueToken`].
#[derive(Deserialize, Serialize)]
pub struct IssuedToken {
    /// What it says.
    pub claims: Value,
    /// The token.
    pub token: String,
}

/// `GET /v1/signing-keys`, and the answer to [`RotateSigningKey`].
#[derive(Debug, Deserialize, Serialize)]
pub struct SigningKeyList {
    /// In the order in which they sign.
    pub signing_keys: Vec<SigningKeyEntry>,
}

/// One signing key.
#[derive(Debug, Deserialize, Serialize)]
pub struct SigningKeyEntry {
    /// `ES256` or `EdDSA`.
    pub algorithm: String,
    /// When it was made.
    pub created: UnixTime,
    /// Its thumbprint (RFC 7638).
    pub kid: String,
    /// It is the one that signs.
    pub signs: bool,
    /// The first second in which it signs.
    pub signs_from: UnixTime,
}

/// `POST /v1/signing-keys/rotate`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RotateSigningKey {
    /// All other keys are deleted, and what they signed is refused; only together with `now`.
    #[serde(default)]
    pub drop_old: bool,
    /// The next key signs at once, though some may not have fetched it yet.
    #[serde(default)]
    pub now: bool,
}
