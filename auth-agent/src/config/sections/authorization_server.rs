//! `[authorization_server]`

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use crate::config::defaults::{DAY, HOUR, MINUTE, SECOND};
use crate::config::document::{Section, wrong};
use crate::config::{
    AuthorizationServer, ClaimMap, Issuer, KeySource, LONGEST_OWN_TOKEN, OWN_ISSUER, OWN_LEEWAY,
    SensitiveClaims, values,
};

/// None unless the section is there; then its issuer is one of `issuers`, too.
pub(super) fn authorization_server(
    mut section: Section<'_>,
    issuers: &mut Vec<Issuer>,
) -> Option<AuthorizationServer> {
    if !section.is_present() {
        return None;
    }
    let issuer = section.required("issuer", values::issuer_url, r#"issuer = "https://api.example.com""#);
    let audience = section.required("audience", values::text, "audience = the `aud` that its tokens carry");
    let algorithm = section.or("algorithm", values::signing_algorithm, Algorithm::ES256);
    let introspection_scope = section.or("introspection_scope", values::scope, "introspect".to_owned());
    let rotate_every = section.or("rotate_every", values::duration(HOUR..=DAY * 365), DAY * 30);
    let token_lifetime =
        section.or("token_lifetime", values::duration(SECOND * 10..=LONGEST_OWN_TOKEN), MINUTE * 5);
    let taken = issuer.as_ref().and_then(|url| issuers.iter().find(|other| other.issuer == url.text));
    if let Some(other) = taken {
        let what = format!("the [[issuer]] \"{}\" has it too", other.name);
        section.check("issuer", wrong(what, "take that out: this one's keys are known"));
    }
    section.finish();
    let server = AuthorizationServer {
        algorithm,
        audience: audience?,
        introspection_scope,
        issuer: issuer?,
        rotate_every,
        token_lifetime,
    };
    issuers.push(own_issuer(&server));
    Some(server)
}

/// What its tokens are held against. Keys of both algorithms, as it goes on verifying tokens of before a change.
fn own_issuer(server: &AuthorizationServer) -> Issuer {
    Issuer {
        algorithms: vec![Algorithm::ES256, Algorithm::EdDSA],
        audiences: vec![server.audience.clone()],
        claims: ClaimMap::default(),
        issuer: server.issuer.text.clone(),
        keys: KeySource::Own,
        leeway: OWN_LEEWAY,
        max_lifetime: LONGEST_OWN_TOKEN,
        name: Arc::from(OWN_ISSUER),
        sensitive_claims: SensitiveClaims::default(),
        types: vec!["at+jwt".to_owned()],
    }
}
