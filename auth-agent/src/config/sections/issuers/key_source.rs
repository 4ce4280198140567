//! Where an issuer's keys come from: exactly one of `keys`, `jwks_url` and `discovery`.

use crate::config::defaults::{
    DAY, HOUR, KEYS_MAX_AGE, MINUTE, REFETCH_INTERVAL, REFRESH_DEFAULT, REFRESH_MAX, REFRESH_MIN, SECOND,
};
use crate::config::document::{Section, wrong};
use crate::config::{KeySource, RemoteKeys, RemoteSource, values};
use crate::https_url::HttpsUrl;

/// Fields that only mean something for keys that are fetched.
const REMOTE_FIELDS: [&str; 6] =
    ["ca", "keys_max_age", "refetch_interval", "refresh_default", "refresh_max", "refresh_min"];

const WRITE: &str =
    r#"keys = "issuer.pem" (or a JWK or JWKS file), jwks_url = "https://...", or discovery = true"#;

/// `issuer` is the section's own field, where it is right.
pub(super) fn key_source(section: &mut Section<'_>, issuer: Option<&str>) -> Option<KeySource> {
    let path = values::path(section.folder());
    let (has_file, has_url) = (section.has("keys"), section.has("jwks_url"));
    let file = section.optional("keys", path);
    let url = section.optional("jwks_url", values::https_url);
    let has_discovery = section.has("discovery");
    let discovery = section.optional("discovery", values::boolean);
    match (has_file, has_url, discovery.unwrap_or(false)) {
        (true, false, false) => {
            refuse_remote_fields(section);
            file.map(KeySource::File)
        }
        (false, true, false) => {
            let keys = remote(section, url.map(RemoteSource::Jwks));
            keys.map(KeySource::Remote)
        }
        (false, false, true) => {
            let source = issuer.and_then(|issuer| discoverable(section, issuer));
            remote(section, source.map(RemoteSource::Discovery)).map(KeySource::Remote)
        }
        (false, false, false) => {
            // What is wrong has been told.
            if !has_discovery || discovery.is_some() {
                section.required("keys", values::text, WRITE);
            }
            // Read, so that they don't count as unknown.
            let _ = remote(section, None);
            None
        }
        _ => {
            let second = if has_file && has_url { "jwks_url" } else { "discovery" };
            section
                .check(second, wrong("a second source of keys", "leave one of keys, jwks_url and discovery"));
            let _ = remote(section, None);
            None
        }
    }
}

/// The issuer as the address that its metadata's is made from. OpenID Connect Discovery 1.0 section 3: no query.
fn discoverable(section: &Section<'_>, issuer: &str) -> Option<HttpsUrl> {
    const CURE: &str = "give jwks_url instead of discovery";
    match HttpsUrl::parse(issuer) {
        Ok(url) if url.query().is_none() => return Some(url),
        Ok(_) => {
            section.check("discovery", wrong("the issuer has a query, so nothing can be discovered", CURE));
        }
        Err(error) => {
            section
                .check("discovery", wrong(format!("the issuer {error}, so nothing can be discovered"), CURE));
        }
    }
    None
}

fn remote(section: &mut Section<'_>, source: Option<RemoteSource>) -> Option<RemoteKeys> {
    let ca = section.optional("ca", values::path(section.folder()));
    let max_age = section.or("keys_max_age", values::duration(MINUTE..=30 * DAY), KEYS_MAX_AGE);
    let refetch_interval = section.or("refetch_interval", values::duration(SECOND..=HOUR), REFETCH_INTERVAL);
    let refresh_max = section.or("refresh_max", values::duration(SECOND..=7 * DAY), REFRESH_MAX);
    let refresh_min = section.or("refresh_min", values::duration(SECOND..=DAY), REFRESH_MIN.min(refresh_max));
    if refresh_min > refresh_max {
        section
            .check("refresh_min", wrong("longer than refresh_max", "make it shorter, or refresh_max longer"));
    }
    if max_age < refresh_max {
        let cure = "make it longer, or refresh_max shorter: keys must not expire between two refreshes";
        section.check("keys_max_age", wrong("shorter than refresh_max", cure));
    }
    let between = refresh_min.min(refresh_max)..=refresh_max;
    let default = REFRESH_DEFAULT.clamp(*between.start(), *between.end());
    let refresh_default = section.or("refresh_default", values::duration(between), default);
    Some(RemoteKeys {
        ca,
        max_age,
        refetch_interval,
        refresh_default,
        refresh_max,
        refresh_min,
        source: source?,
    })
}

fn refuse_remote_fields(section: &mut Section<'_>) {
    for field in REMOTE_FIELDS {
        if section.has(field) {
            let what = "of no use for keys in a file, which is looked at every second";
            section.check(field, wrong(what, "take it out, or give jwks_url or discovery instead of keys"));
        }
    }
}
