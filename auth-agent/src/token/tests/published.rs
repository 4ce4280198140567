//! Key sets that an issuer publishes (ATTACKS 10 and 13): what is used of them, and what never is.

use std::time::Duration;

use jsonwebtoken::Algorithm::{self, *};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::mint::*;
use crate::config::{self, KeySource, RemoteKeys, RemoteSource};
use crate::https_url::HttpsUrl;
use crate::token::{KeyFault, KnownKeys, TokenError, Verifier};

fn published(algorithms: &[Algorithm]) -> config::Issuer {
    let keys = RemoteKeys {
        ca: None,
        max_age: Duration::from_secs(86_400),
        refetch_interval: Duration::from_secs(30),
        refresh_default: Duration::from_secs(600),
        refresh_max: Duration::from_secs(3600),
        refresh_min: Duration::from_secs(60),
        source: RemoteSource::Jwks(HttpsUrl::parse("https://issuer.example/jwks").unwrap()),
    };
    config::Issuer { keys: KeySource::Remote(keys), ..issuer(algorithms, "none".as_ref()) }
}

fn waiting(algorithms: &[Algorithm]) -> Verifier {
    Verifier::load(&[published(algorithms)], MAX_BYTES).unwrap()
}

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn token(signer: &Signer, id: &str) -> String {
    let header = json!({"alg": signer.algorithm, "typ": "at+jwt", "kid": id}).to_string();
    signer.sign(&header, &claims().to_string())
}

fn ids(known: &KnownKeys) -> Vec<Option<&str>> {
    known.keys.iter().map(|key| key.id.as_deref()).collect()
}

#[test]
fn one_bad_key_does_not_take_the_good_ones_away_and_is_named() {
    let (good, rsa, stranger) = (Signer::of(ES256), Signer::of(RS256), Signer::stranger());
    let mut short = rsa.jwk_with(json!({"kid": "short", "alg": "RS256"}));
    short["n"] = json!(encode([0xff; 128]));
    let cases = [
        (Signer::of(HS256).jwk_with(json!({"kid": "secret"})), "key \"secret\" is a shared secret"),
        (short, "key \"short\" is an RSA key of 1024 bits"),
        (rsa.jwk_with(json!({"kid": "enc", "use": "enc"})), "key \"enc\" is not meant for verifying"),
        (rsa.jwk_with(json!({"kid": "ops", "key_ops": ["encrypt"]})), "key \"ops\" is not meant for"),
        (stranger.jwk_with(json!({"kid": "private", "d": "AAAA"})), "key \"private\" is a private key"),
        (stranger.jwk_with(json!({"kid": "curve", "x": "AAAA"})), "key \"curve\" is not a valid key"),
        (stranger.jwk_with(json!({"kid": "alg", "alg": "RS256"})), "does not go with its type"),
        (stranger.jwk_with(json!({"kid": "hmac", "alg": "HS256"})), "does not go with its type"),
        (Signer::of(EdDSA).jwk_with(json!({"kid": "other"})), "key \"other\" is for EdDSA"),
        (rsa.jwk_with(json!({"kid": "either"})), "key \"either\" fits RS256, PS256"),
        (json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "new"}), "key \"new\" has an unsupported"),
        (json!({"kty": 7}), "has an unsupported"),
        (json!("text"), "has an unsupported"),
        (json!(null), "has an unsupported"),
        (stranger.jwk_with(json!({"kid": "good"})), "two keys have the `kid` \"good\""),
        (stranger.jwk(), "has no `kid`"),
    ];
    let first = good.jwk_with(json!({"kid": "good"}));
    for (bad, reason) in cases {
        let verifier = waiting(&[ES256, RS256, PS256]);
        verifier.replace_keys("main", &set(&[first.clone(), bad.clone()])).unwrap();
        let known = verifier.known_keys("main").unwrap();
        assert_eq!(ids(&known), [Some("good")], "{bad}");
        assert!(known.skipped.len() == 1 && known.skipped[0].contains(reason), "{bad}: {:?}", known.skipped);
        assert_eq!(refusal(&verifier, &token(&good, "good")), None, "{bad}");
        let alone = waiting(&[ES256, RS256, PS256]).replace_keys("main", &set(std::slice::from_ref(&bad)));
        let usable_alone = reason.contains("two keys") || reason.contains("no `kid`");
        assert_eq!(alone.is_ok(), usable_alone, "{bad}");
    }
}

#[test]
fn a_published_secret_verifies_nothing_whatever_its_key_claims_to_be() {
    let secret = Signer::of(HS256);
    for members in
        [json!({"kid": "k"}), json!({"kid": "k", "alg": "ES256"}), json!({"kid": "k", "use": "sig"})]
    {
        let verifier = waiting(&[ES256, HS256]);
        let refused = verifier.replace_keys("main", &set(&[secret.jwk_with(members)]));
        assert!(matches!(refused, Err(KeyFault::NoUsableKey { .. })), "{refused:?}");
        assert_eq!(refusal(&verifier, &token(&secret, "k")), Some(TokenError::KeysUnavailable));
    }
}

#[test]
fn what_is_no_key_set_changes_nothing() {
    let good = Signer::of(ES256);
    let verifier = waiting(&[ES256, HS256]);
    verifier.replace_keys("main", &set(&[good.jwk_with(json!({"kid": "good"}))])).unwrap();
    let many: Vec<_> = (0..101).map(|id| good.jwk_with(json!({"kid": id.to_string()}))).collect();
    for (text, words) in [
        (set(&[]), "no usable key"),
        (set(&many), "more than 100 keys"),
        (good.jwk().to_string().into_bytes(), "not a JWK set"),
        (b"{\"keys\":{}}".to_vec(), "not a JWK set"),
        (b"{}".to_vec(), "not a JWK set"),
        (b"{\"keys\":[],\"keys\":[]}".to_vec(), "member once"),
        (b"<html></html>".to_vec(), "one JSON object"),
        (good.pem.clone().into_bytes(), "one JSON object"),
        (SECRET.to_vec(), "one JSON object"),
        (vec![], "one JSON object"),
        (vec![0xff, 0xfe], "one JSON object"),
        (set(&many[..2])[..200].to_vec(), "one JSON object"),
    ] {
        let error = verifier.replace_keys("main", &text).unwrap_err().to_string();
        assert!(error.contains(words), "{:?}: {error}", String::from_utf8_lossy(&text));
        assert_eq!(refusal(&verifier, &token(&good, "good")), None);
    }
    verifier.replace_keys("main", &set(&many[..100])).unwrap();
}

#[test]
fn keys_overlap_and_a_removed_one_is_refused_at_once() {
    let (old, new) = (Signer::of(ES256), Signer::stranger());
    let (old_key, new_key) = (old.jwk_with(json!({"kid": "old"})), new.jwk_with(json!({"kid": "new"})));
    let verifier = waiting(&[ES256]);
    assert_eq!(refusal(&verifier, &token(&old, "old")), Some(TokenError::KeysUnavailable));
    for (keys, of_old, of_new) in [
        (vec![old_key.clone()], None, Some(TokenError::KeyUnknown)),
        (vec![old_key, new_key.clone()], None, None),
        (vec![new_key], Some(TokenError::KeyUnknown), None),
    ] {
        verifier.replace_keys("main", &set(&keys)).unwrap();
        assert_eq!(refusal(&verifier, &token(&old, "old")), of_old);
        assert_eq!(refusal(&verifier, &token(&new, "new")), of_new);
    }
    verifier.forget_keys("main");
    assert_eq!(refusal(&verifier, &token(&new, "new")), Some(TokenError::KeysUnavailable));
    assert_eq!(verifier.known_keys("main"), None);
}

#[test]
fn only_a_key_that_its_issuer_lacks_is_worth_asking_for() {
    let signer = Signer::of(ES256);
    let verifier = waiting(&[ES256]);
    assert_eq!(
        verifier.unknown_key(&token(&signer, "new")),
        None,
        "with no keys at all they are fetched anyway"
    );
    verifier.replace_keys("main", &set(&[signer.jwk_with(json!({"kid": "good"}))])).unwrap();
    let unknown = verifier.unknown_key(&token(&signer, "new")).unwrap();
    assert_eq!((&*unknown.issuer, &*unknown.id), ("main", "new"));
    let foreign = claims_with(json!({"iss": "https://other.example"}));
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "new"}).to_string();
    for (token, why) in [
        (token(&signer, "good"), "known"),
        (signer.token(&claims()), "no kid"),
        (signer.sign(&header, &foreign.to_string()), "another issuer's"),
        (token(&signer, &"k".repeat(256)), "too long an id"),
        (token(&signer, &"k".repeat(MAX_BYTES)), "too long a token"),
        ("a.b.c".to_owned(), "no token"),
    ] {
        assert_eq!(verifier.unknown_key(&token), None, "{why}");
    }
}

proptest! {
    /// Whatever a set's bytes become on the way: it is taken or refused as a whole, and no other key comes of it.
    #[test]
    fn a_damaged_set_is_taken_or_changes_nothing(
        at in any::<prop::sample::Index>(),
        length in 0_usize..20,
        damage in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let (good, stranger) = (Signer::of(ES256), Signer::stranger());
        let verifier = waiting(&[ES256]);
        let set = set(&[good.jwk_with(json!({"kid": "good"})), stranger.jwk_with(json!({"kid": "other"}))]);
        verifier.replace_keys("main", &set).unwrap();
        let mut damaged = set.clone();
        let start = at.index(set.len());
        damaged.splice(start..(start + length).min(set.len()), damage);
        let known = verifier.known_keys("main");
        match verifier.replace_keys("main", &damaged) {
            Ok(()) => prop_assert!(verifier.known_keys("main").is_some_and(|known| known.keys.len() <= 2)),
            Err(_) => prop_assert_eq!(verifier.known_keys("main"), known),
        }
    }
}
