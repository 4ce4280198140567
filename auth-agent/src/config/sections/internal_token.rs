//! `[internal_token]`

use http::HeaderName;
use jsonwebtoken::Algorithm;

use crate::config::defaults::{DAY, HOUR, MINUTE, SECOND};
use crate::config::document::{Section, wrong};
use crate::config::{InternalToken, LONGEST_INTERNAL_TOKEN, values};

/// None unless the section is there. `taken`: header fields that have another meaning.
pub(super) fn internal_token(
    mut section: Section<'_>,
    taken: &[&HeaderName],
    has_forward_auth: bool,
) -> Option<InternalToken> {
    if !section.is_present() {
        return None;
    }
    let default = HeaderName::from_static("x-auth-token");
    let token = InternalToken {
        header: section.or("header", values::header, default),
        issuer: section.or("issuer", values::text, "auth-agent".to_owned()),
        lifetime: section.or("lifetime", values::duration(SECOND * 10..=LONGEST_INTERNAL_TOKEN), MINUTE),
        algorithm: section.or("algorithm", values::signing_algorithm, Algorithm::ES256),
        rotate_every: section.or("rotate_every", values::duration(HOUR..=DAY * 365), DAY * 30),
    };
    if taken.contains(&&token.header) {
        let what = format!("{} carries a credential or an identity already", token.header);
        section.check("header", wrong(what, "choose another name"));
    }
    if !has_forward_auth {
        let problem = wrong(
            "nobody could fetch the keys that verify it",
            "write [forward_auth] with listen, which serves them",
        );
        section.check("header", problem);
    }
    section.finish();
    Some(token)
}
