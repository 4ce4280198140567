//! The JWS compact serialization (RFC 7515 7.1): `header.claims.signature`, each base64url.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::TokenError;

/// A token's parts, still encoded; none is empty.
pub(super) struct Parts<'a> {
    pub claims: &'a str,
    pub header: &'a str,
    pub signature: &'a str,
    /// What the signature covers: header, dot, claims.
    pub signed: &'a [u8],
}

/// Exactly three parts: five are an encrypted token, and an empty signature is an unsecured one.
pub(super) fn split(token: &str) -> Result<Parts<'_>, TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if claims.contains('.') || [header, claims, signature].contains(&"") {
        return Err(TokenError::Malformed);
    }
    Ok(Parts { claims, header, signature, signed: signed.as_bytes() })
}

/// Refuses padding, whitespace, the standard alphabet and stray bits in the last character, so that
/// one value has one spelling.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Encoding)
}
