//! The JOSE header: what it must hold, and what it must not.

use std::borrow::Cow;

use jsonwebtoken::Algorithm;

use super::TokenError;
use super::json::{Json, Object};

/// Parameters that refuse the token by being there, whatever their value.
const REFUSED: [(&str, TokenError); 7] = [
    ("b64", TokenError::CriticalHeader),
    ("crit", TokenError::CriticalHeader),
    ("cty", TokenError::HeaderForbidden),
    ("enc", TokenError::HeaderForbidden),
    ("jwk", TokenError::HeaderForbidden),
    ("x5c", TokenError::HeaderForbidden),
    ("zip", TokenError::HeaderForbidden),
];

/// Bytes of a `kid`; real ones are thumbprints, UUIDs and short names.
const MAX_KEY_ID_BYTES: usize = 255;

/// The parameters that verification needs.
pub(super) struct Header<'t> {
    algorithm: Algorithm,
    key_id: Option<Cow<'t, str>>,
    media_type: Option<Cow<'t, str>>,
}

impl<'t> Header<'t> {
    pub fn parse(text: &'t [u8]) -> Result<Self, TokenError> {
        let members = Object::parse(text)?;
        if let Some((_, error)) = REFUSED.iter().find(|(name, _)| members.get(name).is_some()) {
            return Err(*error);
        }
        let algorithm = optional_string(&members, "alg", TokenError::Algorithm)?
            .and_then(|name| name.parse().ok())
            .ok_or(TokenError::Algorithm)?;
        let key_id = optional_string(&members, "kid", TokenError::KeyUnknown)?;
        if key_id.as_ref().is_some_and(|id| id.len() > MAX_KEY_ID_BYTES) {
            return Err(TokenError::KeyUnknown);
        }
        let media_type = optional_string(&members, "typ", TokenError::Type)?;
        Ok(Self { algorithm, key_id, media_type })
    }

    /// What the token says it was signed with; only ever compared with the key's own.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// `typ` without the `application/` that RFC 7515 4.1.9 lets an issuer leave out.
    pub fn media_type(&self) -> Option<&str> {
        const PREFIX: &str = "application/";
        let found = self.media_type.as_deref()?;
        match found.split_at_checked(PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => Some(rest),
            _ => Some(found),
        }
    }
}

fn optional_string<'t>(
    members: &Object<'t>,
    name: &str,
    error: TokenError,
) -> Result<Option<Cow<'t, str>>, TokenError> {
    match members.get(name) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text.clone())),
        Some(_) => Err(error),
    }
}
