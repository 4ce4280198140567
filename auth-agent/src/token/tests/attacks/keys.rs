//! Classes 3, 4 and 13: names of keys, keys that a token brings, and sets of keys that change.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::*;
use crate::config::KeySource;

#[test]
fn names_of_keys() {
    let signer = Signer::of(Algorithm::ES256);
    let other = Signer::stranger();
    let keys =
        json!({"keys": [signer.jwk_with(json!({"kid": "one"})), other.jwk_with(json!({"kid": "two"}))]});
    let verifier = verifier(&[Algorithm::ES256], keys.to_string());
    let named = |id: Value| {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": id}).to_string();
        signer.sign(&header, &claims().to_string())
    };
    let rows: Vec<Row> = [
        ("a path", json!("../../../../dev/null")),
        ("an absolute path", json!("/proc/self/environ")),
        ("SQL", json!("' OR '1'='1")),
        ("SQL that selects a secret", json!("x' UNION SELECT 'secret' --")),
        ("a command", json!("one|id")),
        ("an address", json!("https://evil.example/key")),
        ("a NUL at the end", json!("one\0")),
        ("a space at the end", json!("one ")),
        ("another casing", json!("ONE")),
        ("empty", json!("")),
        ("256 bytes", json!("k".repeat(256))),
        ("4000 bytes", json!("k".repeat(4000))),
        ("a number", json!(1)),
        ("null", Value::Null),
        ("a list", json!(["one"])),
        ("an object", json!({"one": 1})),
    ]
    .map(|(what, id)| (what, named(id), TokenError::KeyUnknown))
    .into_iter()
    .chain([
        ("absent, with several keys", signer.token(&claims()), TokenError::KeyUnknown),
        ("64 KiB", named(json!("k".repeat(65_536))), TokenError::TooLong),
        ("another key of the issuer", named(json!("two")), TokenError::Signature),
    ])
    .collect();
    assert_refused("kid", &verifier, &named(json!("one")), &rows, 19);
}

#[test]
fn keys_that_the_token_brings_or_points_at() {
    let (signer, verifier) = pair();
    let forger = Signer::stranger();
    let bring = |member: Value| {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "k"});
        header.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        forger.sign(&header.to_string(), &claims().to_string())
    };
    let address = "https://evil.example/keys";
    let rows: Vec<Row> = vec![
        ("jwk", bring(json!({"jwk": forger.jwk()})), TokenError::HeaderForbidden),
        ("jwk null", bring(json!({"jwk": null})), TokenError::HeaderForbidden),
        ("x5c", bring(json!({"x5c": ["MIIB"]})), TokenError::HeaderForbidden),
        ("x5c empty", bring(json!({"x5c": []})), TokenError::HeaderForbidden),
        ("jku", bring(json!({"jku": address})), TokenError::Signature),
        ("jku of the host itself", bring(json!({"jku": "file:///etc/passwd"})), TokenError::Signature),
        (
            "jku of the metadata service",
            bring(json!({"jku": "http://169.254.169.254/"})),
            TokenError::Signature,
        ),
        ("x5u", bring(json!({"x5u": address})), TokenError::Signature),
        ("x5t", bring(json!({"x5t": "AAAA", "x5t#S256": "AAAA"})), TokenError::Signature),
    ];
    assert_refused("key in the token", &verifier, &signer.token(&claims()), &rows, 9);
}

#[test]
fn sets_of_keys_that_change() {
    let signer = Signer::of(Algorithm::ES256);
    let good = signer.sign(r#"{"alg":"ES256","typ":"jwt","kid":"one"}"#, &claims().to_string());
    let none = adjusted(&[Algorithm::ES256], "", |issuer| issuer.keys = KeySource::Own);
    assert_eq!(refusal(&none, &good), Some(TokenError::KeysUnavailable), "no keys yet");
    assert_eq!(
        verify(&none, "x.y.z").err(),
        Some(TokenError::Encoding),
        "what is wrong anyway is told first"
    );

    let set = |keys: &[&Value]| json!({"keys": keys}).to_string();
    let (one, two) =
        (signer.jwk_with(json!({"kid": "one"})), Signer::stranger().jwk_with(json!({"kid": "two"})));
    let verifier = verifier(&[Algorithm::ES256], set(&[&one]));
    let secret = Signer::of(Algorithm::HS256).jwk_with(json!({"kid": "one"}));
    for (what, keys, accepted, after) in [
        ("empty", set(&[]), false, None),
        ("not JSON", "<html>".to_owned(), false, None),
        ("cut off", set(&[&one])[..40].to_owned(), false, None),
        ("one kid twice", set(&[&one, &one]), false, None),
        ("a member twice", format!(r#"{{"keys":[],"keys":[{one}]}}"#), false, None),
        ("a shared secret alone", set(&[&secret]), false, None),
        ("a shared secret of the same name besides", set(&[&secret, &one]), true, None),
        ("another key besides", set(&[&one, &two]), true, None),
        ("the key gone", set(&[&two]), true, Some(TokenError::KeyUnknown)),
        ("a broken set after that", "{".to_owned(), false, Some(TokenError::KeyUnknown)),
        (
            "another key of its name",
            set(&[&Signer::stranger().jwk_with(json!({"kid": "one"}))]),
            true,
            Some(TokenError::Signature),
        ),
        ("the key back", set(&[&two, &one]), true, None),
    ] {
        assert_eq!(verifier.replace_keys("main", keys.as_bytes()).is_ok(), accepted, "{what}");
        assert_eq!(refusal(&verifier, &good), after, "{what}");
    }
    verifier.replace_keys("other", b"{}").unwrap_err();
}
