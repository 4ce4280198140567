//! Class 12: a token that was accepted once, used where or when it is no longer good. The cache is filled with it
//! first, so that every row would pass if the cache were believed.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::api_key::{KeyRing, Pepper};
use crate::authenticate::Verify as _;
use crate::clock::UnixTime;
use crate::config;
use crate::credentials::Credentials;
use crate::explain::Trail;
use crate::issuers::Issuers;
use crate::refusal::Refusal;

fn credentials(adjust: impl FnOnce(&mut config::Issuer)) -> (Credentials, Arc<Verifier>, tempfile::TempDir) {
    let signer = Signer::of(Algorithm::ES256);
    let folder = tempfile::tempdir().unwrap();
    let ring = KeyRing::new(Pepper::open(folder.path(), false).unwrap(), []);
    let tokens = Arc::new(adjusted(&[Algorithm::ES256], &signer.pem, adjust));
    let issuers = Arc::new(Issuers::open(&[], folder.path(), Arc::clone(&tokens), NOW).unwrap());
    let (ring, config) = (Arc::new(ring), config::Tokens::default());
    let credentials = Credentials::new(issuers, ring, Arc::default(), Arc::clone(&tokens));
    (credentials.remembering(&config, Arc::default()), tokens, folder)
}

fn refusal_at(credentials: &Credentials, token: &str, now: u64) -> Option<Refusal> {
    credentials.token(token, UnixTime(now), &Trail::default()).err().map(|denied| denied.refusal)
}

#[test]
fn replays_on_another_configuration() {
    let signer = Signer::of(Algorithm::ES256);
    let token = signer.token(&claims());
    let (first, ..) = credentials(|_| {});
    assert_eq!(refusal_at(&first, &token, NOW.0), None);
    type Change = fn(&mut config::Issuer);
    let rows: [(&str, Change, TokenError); 7] = [
        ("another issuer", |issuer| issuer.issuer = "https://b.example".into(), TokenError::Issuer),
        ("another audience", |issuer| issuer.audiences = vec!["b".into()], TokenError::Audience),
        ("another typ", |issuer| issuer.types = vec!["b".into()], TokenError::Type),
        (
            "a shorter lifetime",
            |issuer| issuer.max_lifetime = std::time::Duration::from_secs(60),
            TokenError::Lifetime,
        ),
        (
            "another subject",
            |issuer| issuer.claims.subject = config::ClaimPath::parse("uid").unwrap(),
            TokenError::ClaimMissing,
        ),
        (
            "another key",
            |issuer| {
                let config::KeySource::File(file) = &issuer.keys else { panic!("a file") };
                std::fs::write(file, Signer::stranger().pem).unwrap();
            },
            TokenError::Signature,
        ),
        ("no keys", |issuer| issuer.keys = config::KeySource::Own, TokenError::KeysUnavailable),
    ];
    for (what, change, expected) in rows {
        let (other, ..) = credentials(change);
        assert_eq!(refusal_at(&other, &token, NOW.0), Some(Refusal::Token(expected)), "{what}");
        assert_eq!(refusal_at(&first, &token, NOW.0), None, "{what}");
    }
}

#[test]
fn entries_that_outlive_their_reason() {
    let signer = Signer::of(Algorithm::ES256);
    let token = signer.token(&claims_with(json!({"nbf": NOW.0 - 60})));
    let other = Signer::stranger().pem;
    let other = other.as_bytes();
    for (what, now, keys, expected) in [
        ("exp", NOW.0 + 600 + LEEWAY, None, TokenError::Expired),
        ("a clock that was put back before nbf", NOW.0 - 61 - LEEWAY, None, TokenError::NotYetValid),
        ("removal of its key", NOW.0, Some(other), TokenError::Signature),
        ("removal of its key and exp", NOW.0 + 600 + LEEWAY, Some(other), TokenError::Expired),
    ] {
        let (credentials, tokens, _folder) = credentials(|_| {});
        assert_eq!(refusal_at(&credentials, &token, NOW.0), None, "{what}");
        if let Some(keys) = keys {
            tokens.replace_keys("main", keys).unwrap();
        }
        for _ in 0..2 {
            assert_eq!(refusal_at(&credentials, &token, now), Some(Refusal::Token(expected)), "{what}");
        }
    }
}
