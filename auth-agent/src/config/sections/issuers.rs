//! `[[issuer]]`

mod key_source;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::AlgorithmFamily;

use super::Earlier;
use crate::config::defaults::{HOUR, SECOND};
use crate::config::document::{Section, wrong};
use crate::config::{
    ClaimMap, Issuer, KeySource, LONGEST_LEEWAY, LONGEST_TOKEN, OWN_ISSUER, SensitiveClaims, values,
};

/// None, one or more.
pub(super) fn issuers(root: &mut Section<'_>) -> Vec<Issuer> {
    let mut names = Earlier::default();
    let mut issuers = Earlier::default();
    let sections = root.sections("issuer");
    sections.into_iter().filter_map(|section| issuer(section, &mut names, &mut issuers)).collect()
}

fn issuer(
    mut section: Section<'_>,
    names: &mut Earlier<String>,
    issuers: &mut Earlier<String>,
) -> Option<Issuer> {
    let name = section.required("name", values::name, r#"name = "main""#);
    let issuer = section.required("issuer", values::text, "issuer = the exact `iss` of its tokens");
    let keys = key_source::key_source(&mut section, issuer.as_deref());
    let audiences =
        section.required_list("audiences", values::text, "audiences = the `aud` values that mean this edge");
    let algorithms = section.required_list(
        "algorithms",
        values::algorithm,
        r#"algorithms = ["ES256"], or what it signs with"#,
    );
    let leeway = section.or("leeway", values::duration(Duration::ZERO..=LONGEST_LEEWAY), SECOND * 10);
    let max_lifetime = section.or("max_lifetime", values::duration(SECOND..=LONGEST_TOKEN), HOUR);
    let claims = claims(section.section("claims"));
    let sensitive_claims =
        section.or("sensitive_claims", values::sensitive_claims, SensitiveClaims::default());
    let types = section
        .filled_list("types", values::token_type, r#"types = ["at+jwt"]"#)
        .unwrap_or_else(|| ["at+jwt", "jwt"].map(str::to_owned).into());
    if let Some(name) = &name {
        names.check(&section, "name", name.clone(), String::eq);
        if name == OWN_ISSUER {
            let problem = wrong("that is the name of the built-in issuer", "choose another name");
            section.check("name", problem);
        }
    }
    if let Some(issuer) = &issuer {
        issuers.check(&section, "issuer", issuer.clone(), String::eq);
    }
    if let Some(algorithms) = &algorithms {
        // A public key that passes for a shared secret lets everyone sign (RFC 8725, 2.1).
        let shared =
            algorithms.iter().filter(|algorithm| algorithm.family() == AlgorithmFamily::Hmac).count();
        if shared > 0 && matches!(keys, Some(KeySource::Remote(_))) {
            section.check(
                "algorithms",
                wrong(
                    "HS algorithms with keys that are published",
                    "name a public-key algorithm; a shared secret can only come from a file (`keys`)",
                ),
            );
        }
        if shared > 0 && shared < algorithms.len() {
            section.check(
                "algorithms",
                wrong(
                    "HS algorithms beside public-key ones",
                    "keep one kind, so that no public key passes for a secret",
                ),
            );
        }
    }
    section.finish();
    Some(Issuer {
        algorithms: algorithms?,
        audiences: audiences?,
        claims,
        issuer: issuer?,
        keys: keys?,
        leeway,
        max_lifetime,
        name: Arc::from(name?),
        sensitive_claims,
        types,
    })
}

fn claims(mut section: Section<'_>) -> ClaimMap {
    let default = ClaimMap::default();
    let claims = ClaimMap {
        client: section.list("client", values::claim).unwrap_or(default.client),
        kept: default.kept,
        scopes: section.list("scopes", values::claim).unwrap_or(default.scopes),
        subject: section.or("subject", values::claim, default.subject),
        tenant: section.list("tenant", values::claim).unwrap_or(default.tenant),
    };
    section.finish();
    claims
}
