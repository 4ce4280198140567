//! What a token would say if it were verified: for trying out rules without one.

use serde_json::Value;

use super::TokenError;
use super::claims::Claims;
use super::json::Json;
use crate::config;
use crate::identity::{Facts, KeptClaims, Method};

/// What a token of `issuer` with these claims would be found to say. Nothing is verified, so that nobody may be let in for
/// it: neither its signature nor its times are there.
///
/// # Errors
/// No token with these claims would be accepted.
pub fn claimed(issuer: &config::Issuer, claims: &Value) -> Result<Facts, TokenError> {
    let Json::Object(object) = Json::from(claims) else { return Err(TokenError::Malformed) };
    let (claims, map) = (Claims::of(object), &issuer.claims);
    let optional = |text: Option<&str>| text.map(Into::into);
    Ok(Facts {
        claims: KeptClaims::read(&map.kept, |name| claims.kept(name)),
        client: optional(claims.client(map)?),
        issuer: Some(issuer.name.clone()),
        scopes: claims.scopes(map)?.into_iter().map(Into::into).collect(),
        tenant: optional(claims.tenant(map)?),
        token_id: optional(claims.token_id()?),
        ..Facts::new(Method::Jwt, claims.subject(map)?)
    })
}
