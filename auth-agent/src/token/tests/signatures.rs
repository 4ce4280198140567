//! Whose signature, with which key and algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, crypto};
use serde_json::json;

use super::mint::*;
use crate::token::{TokenError, Verifier};

#[test]
fn every_algorithm_verifies_its_own_signature_and_no_other_algorithm_s() {
    for algorithm in ALGORITHMS {
        let signer = Signer::of(algorithm);
        let key = signer.jwk().to_string();
        let verifier = verifier(&[algorithm], key);
        assert_eq!(refusal(&verifier, &signer.token(&claims())), None, "{algorithm:?}");
        for other in ALGORITHMS.into_iter().filter(|other| *other != algorithm) {
            let token = Signer::of(other).token(&claims());
            assert_eq!(refusal(&verifier, &token), Some(TokenError::Algorithm), "{algorithm:?} {other:?}");
            let renamed = Signer::of(other).sign(&header(algorithm), &claims().to_string());
            assert_eq!(refusal(&verifier, &renamed), Some(TokenError::Signature), "{algorithm:?} {other:?}");
        }
    }
}

#[test]
fn an_unsecured_token_is_refused_in_any_casing() {
    let (signer, verifier) = pair();
    for name in
        ["none", "None", "NONE", "nOnE", "", "es256", "ES256 ", "ES256\u{0}", "RS1", "ES256K", "HS257"]
    {
        let header = json!({"alg": name, "typ": "at+jwt"}).to_string();
        let unsigned = format!("{}.{}", encode(&header), encode(claims().to_string()));
        assert_eq!(refusal(&verifier, &unsigned), Some(TokenError::Malformed), "{name}");
        assert_eq!(refusal(&verifier, &format!("{unsigned}.")), Some(TokenError::Malformed), "{name}");
        assert_eq!(refusal(&verifier, &format!("{unsigned}.AA")), Some(TokenError::Algorithm), "{name}");
        let signed = signer.sign(&header, &claims().to_string());
        assert_eq!(refusal(&verifier, &signed), Some(TokenError::Algorithm), "{name}");
    }
    assert_headers(&[
        (r#"{"typ":"at+jwt"}"#, Some(TokenError::Algorithm)),
        (r#"{"alg":null,"typ":"at+jwt"}"#, Some(TokenError::Algorithm)),
        (r#"{"alg":["ES256"],"typ":"at+jwt"}"#, Some(TokenError::Algorithm)),
        (r#"{"alg":256,"typ":"at+jwt"}"#, Some(TokenError::Algorithm)),
    ]);
}

#[test]
fn a_public_key_is_never_an_hmac_secret() {
    for (algorithm, hmac) in [
        (Algorithm::RS256, Algorithm::HS256),
        (Algorithm::ES256, Algorithm::HS384),
        (Algorithm::EdDSA, Algorithm::HS512),
    ] {
        let signer = Signer::of(algorithm);
        let body: String = signer.pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).unwrap();
        let jwk = signer.jwk().to_string();
        let guesses: [&[u8]; 6] = [
            signer.pem.as_bytes(),
            signer.pem.trim_end().as_bytes(),
            &der,
            &der[der.len() - 32..],
            jwk.as_bytes(),
            b"",
        ];
        // Also where the issuer uses HS for another key.
        let alone = verifier(&[algorithm], &signer.pem);
        let beside = verifier(
            &[algorithm, hmac],
            json!({"keys": [signer.jwk_with(json!({"kid": "a"})), Signer::of(hmac).jwk_with(json!({"kid": "b"}))]})
                .to_string(),
        );
        for guess in guesses {
            let forger = Signer::hmac(hmac, guess);
            for header in [json!({"alg": hmac, "typ": "jwt"}), json!({"alg": hmac, "typ": "jwt", "kid": "a"})]
            {
                let token = forger.sign(&header.to_string(), &claims().to_string());
                assert_eq!(refusal(&alone, &token), Some(TokenError::Algorithm), "{algorithm:?}");
                assert!(refusal(&beside, &token).is_some(), "{algorithm:?}");
            }
            let disguised = forger.sign(&header(algorithm), &claims().to_string());
            assert_eq!(refusal(&alone, &disguised), Some(TokenError::Signature), "{algorithm:?}");
        }
    }
}

#[test]
fn an_rsa_key_pinned_to_one_padding_or_hash_does_not_verify_another() {
    let key = Signer::of(Algorithm::RS256).jwk_with(json!({"alg": "PS256"})).to_string();
    let verifier = verifier(&[Algorithm::RS256, Algorithm::PS256, Algorithm::PS512], key);
    for (algorithm, expected) in [
        (Algorithm::PS256, None),
        (Algorithm::RS256, Some(TokenError::Algorithm)),
        (Algorithm::PS512, Some(TokenError::Algorithm)),
    ] {
        assert_eq!(refusal(&verifier, &Signer::of(algorithm).token(&claims())), expected, "{algorithm:?}");
    }
}

#[test]
fn a_kid_finds_exactly_one_key_of_the_token_s_own_issuer() {
    let (one, two) = (Signer::of(Algorithm::ES256), Signer::of(Algorithm::EdDSA));
    let keys = json!({"keys": [one.jwk_with(json!({"kid": "one"})), two.jwk_with(json!({"kid": "../two"}))]})
        .to_string();
    let verifier = verifier(&[Algorithm::ES256, Algorithm::EdDSA], keys);
    let long = "k".repeat(4000);
    for (id, expected) in [
        (json!("one"), None),
        (json!("../two"), Some(TokenError::Algorithm)),
        (json!("One"), Some(TokenError::KeyUnknown)),
        (json!("one "), Some(TokenError::KeyUnknown)),
        (json!("one\u{0}"), Some(TokenError::KeyUnknown)),
        (json!(""), Some(TokenError::KeyUnknown)),
        (json!("two"), Some(TokenError::KeyUnknown)),
        (json!("../../../../dev/null"), Some(TokenError::KeyUnknown)),
        (json!("' OR '1'='1"), Some(TokenError::KeyUnknown)),
        (json!("one' UNION SELECT 'secret"), Some(TokenError::KeyUnknown)),
        (json!(long), Some(TokenError::KeyUnknown)),
        (json!(null), Some(TokenError::KeyUnknown)),
        (json!(1), Some(TokenError::KeyUnknown)),
        (json!(["one"]), Some(TokenError::KeyUnknown)),
    ] {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": id}).to_string();
        assert_eq!(refusal(&verifier, &one.sign(&header, &claims().to_string())), expected, "{id}");
    }
    let no_kid = one.token(&claims());
    assert_eq!(refusal(&verifier, &no_kid), Some(TokenError::KeyUnknown), "several keys, no kid");
    let huge = json!({"alg": "ES256", "kid": "k".repeat(65536)}).to_string();
    assert_eq!(refusal(&verifier, &one.sign(&huge, "{}")), Some(TokenError::TooLong));
}

#[test]
fn a_sole_key_needs_no_kid_and_a_nameless_one_answers_to_any() {
    let signer = Signer::of(Algorithm::ES256);
    let with_kid = signer.sign(r#"{"alg":"ES256","typ":"jwt","kid":"k"}"#, &claims().to_string());
    let named = verifier(&[Algorithm::ES256], signer.jwk_with(json!({"kid": "other"})).to_string());
    assert_eq!(refusal(&named, &signer.token(&claims())), None);
    assert_eq!(refusal(&named, &with_kid), Some(TokenError::KeyUnknown));
    let nameless = verifier(&[Algorithm::ES256], &signer.pem);
    assert_eq!(refusal(&nameless, &with_kid), None);
    for (bytes, expected) in [(255, None), (256, Some(TokenError::KeyUnknown))] {
        let header = json!({"alg": "ES256", "typ": "jwt", "kid": "k".repeat(bytes)}).to_string();
        assert_eq!(
            refusal(&nameless, &signer.sign(&header, &claims().to_string())),
            expected,
            "{bytes} bytes"
        );
    }
}

#[test]
fn keys_are_looked_up_only_inside_the_token_s_issuer() {
    let (mine, theirs) = (Signer::of(Algorithm::ES256), Signer::stranger());
    let folder = tempfile::tempdir().unwrap();
    let issuers: Vec<_> = [("mine", &mine), ("theirs", &theirs)]
        .into_iter()
        .map(|(name, signer)| {
            let file = folder.path().join(name);
            std::fs::write(&file, signer.jwk_with(json!({"kid": "same"})).to_string()).unwrap();
            let mut issuer = issuer(&[Algorithm::ES256], &file);
            issuer.issuer = format!("https://{name}.example");
            issuer.name = name.into();
            issuer
        })
        .collect();
    let verifier = Verifier::load(&issuers, MAX_BYTES).unwrap();
    let header = r#"{"alg":"ES256","typ":"jwt","kid":"same"}"#;
    for (signer, name, expected) in [
        (&mine, "mine", None),
        (&theirs, "theirs", None),
        (&mine, "theirs", Some(TokenError::Signature)),
        (&theirs, "mine", Some(TokenError::Signature)),
    ] {
        let claims = claims_with(json!({"iss": format!("https://{name}.example")}));
        assert_eq!(refusal(&verifier, &signer.sign(header, &claims.to_string())), expected, "{name}");
    }
}

#[test]
fn a_token_that_brings_its_own_key_is_never_believed() {
    let (_, verifier) = pair();
    let forger = Signer::stranger();
    let jwk = forger.jwk();
    for (member, expected) in [
        (json!({"jwk": jwk}), TokenError::HeaderForbidden),
        (json!({"jwk": null}), TokenError::HeaderForbidden),
        (json!({"x5c": ["MIIB"]}), TokenError::HeaderForbidden),
        (json!({"jku": "https://evil.example/jwks"}), TokenError::Signature),
        (json!({"x5u": "https://evil.example/cert"}), TokenError::Signature),
        (json!({"x5t": "AAAA"}), TokenError::Signature),
    ] {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt"});
        header.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        let token = forger.sign(&header.to_string(), &claims().to_string());
        assert_eq!(refusal(&verifier, &token), Some(expected), "{member}");
    }
}

#[test]
fn references_to_keys_are_ignored_in_a_good_token() {
    assert_headers(&[
        (r#"{"alg":"ES256","typ":"jwt","jku":"https://issuer.example/token_keys"}"#, None),
        (r#"{"alg":"ES256","typ":"jwt","x5t":"AAAA","x5t#S256":"AAAA","x5u":"https://a"}"#, None),
        (r#"{"alg":"ES256","typ":"jwt","nonce":"n","unknown":{"a":[1]}}"#, None),
    ]);
}

#[test]
fn extensions_encryption_compression_and_nesting_are_refused() {
    let critical = Some(TokenError::CriticalHeader);
    let forbidden = Some(TokenError::HeaderForbidden);
    assert_headers(&[
        (r#"{"alg":"ES256","typ":"jwt","crit":["exp"]}"#, critical),
        (r#"{"alg":"ES256","typ":"jwt","crit":[]}"#, critical),
        (r#"{"alg":"ES256","typ":"jwt","crit":null}"#, critical),
        (r#"{"alg":"ES256","typ":"jwt","crit":["b64"],"b64":false}"#, critical),
        (r#"{"alg":"ES256","typ":"jwt","b64":false}"#, critical),
        (r#"{"alg":"ES256","typ":"jwt","b64":true}"#, critical),
        (r#"{"alg":"ES256","typ":"jwt","\u0063rit":["x"]}"#, critical),
        (r#"{"alg":"ES256","typ":"jwt","zip":"DEF"}"#, forbidden),
        (r#"{"alg":"ES256","typ":"jwt","enc":"A256GCM"}"#, forbidden),
        (r#"{"alg":"ES256","typ":"jwt","cty":"JWT"}"#, forbidden),
        (r#"{"alg":"ES256","typ":"jwt","cty":"json"}"#, forbidden),
        (r#"{"alg":"RSA-OAEP","typ":"jwt"}"#, Some(TokenError::Algorithm)),
    ]);
}

#[test]
fn only_the_issuer_s_token_types_are_accepted() {
    let refused = Some(TokenError::Type);
    assert_headers(&[
        (r#"{"alg":"ES256","typ":"at+jwt"}"#, None),
        (r#"{"alg":"ES256","typ":"AT+JWT"}"#, None),
        (r#"{"alg":"ES256","typ":"application/at+jwt"}"#, None),
        (r#"{"alg":"ES256","typ":"Application/At+JWT"}"#, None),
        (r#"{"alg":"ES256","typ":"JWT"}"#, None),
        (r#"{"alg":"ES256"}"#, refused),
        (r#"{"alg":"ES256","typ":""}"#, refused),
        (r#"{"alg":"ES256","typ":"application/"}"#, refused),
        (r#"{"alg":"ES256","typ":"application/application/jwt"}"#, refused),
        (r#"{"alg":"ES256","typ":"text/at+jwt"}"#, refused),
        (r#"{"alg":"ES256","typ":"at+jwt "}"#, refused),
        (r#"{"alg":"ES256","typ":"dpop+jwt"}"#, refused),
        (r#"{"alg":"ES256","typ":"logout+jwt"}"#, refused),
        (r#"{"alg":"ES256","typ":"secevent+jwt"}"#, refused),
        (r#"{"alg":"ES256","typ":"refresh+jwt"}"#, refused),
        (r#"{"alg":"ES256","typ":"rt+jwt"}"#, refused),
        (r#"{"alg":"ES256","typ":null}"#, refused),
        (r#"{"alg":"ES256","typ":["jwt"]}"#, refused),
    ]);
    let signer = Signer::of(Algorithm::ES256);
    let absent = adjusted(&[Algorithm::ES256], &signer.pem, |issuer| issuer.types = vec![String::new()]);
    for (header, expected) in [
        (r#"{"alg":"ES256"}"#, None),
        (r#"{"alg":"ES256","typ":""}"#, refused),
        (r#"{"alg":"ES256","typ":"application/"}"#, refused),
        (r#"{"alg":"ES256","typ":"jwt"}"#, refused),
    ] {
        assert_eq!(refusal(&absent, &signer.sign(header, &claims().to_string())), expected, "{header}");
    }
}

#[test]
fn a_signature_of_another_form_or_length_is_refused() {
    for algorithm in
        [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256, Algorithm::HS256]
    {
        let signer = Signer::of(algorithm);
        let verifier = verifier(&[algorithm], signer.jwk().to_string());
        let token = signer.token(&claims());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = crate::token::wire::decode(signature).unwrap();
        let half = signature.len() / 2;
        let mut variants = vec![
            vec![0],
            vec![0; signature.len()],
            vec![0xff; signature.len()],
            signature[..signature.len() - 1].to_vec(),
            signature[1..].to_vec(),
            [&signature[..], &[0]].concat(),
            [&[0], &signature[..]].concat(),
            signature.repeat(2),
            // r and s exchanged, and each of them zero.
            [&signature[half..], &signature[..half]].concat(),
            [&vec![0; half], &signature[half..]].concat(),
            [&signature[..half], &vec![0; half]].concat(),
        ];
        if family(algorithm) == jsonwebtoken::AlgorithmFamily::Ec {
            variants.push(der(&signature[..half], &signature[half..]));
        }
        for variant in variants {
            let token = format!("{signed}.{}", encode(&variant));
            assert_eq!(refusal(&verifier, &token), Some(TokenError::Signature), "{algorithm:?} {variant:?}");
        }
    }
}

/// ECDSA's other encoding: SEQUENCE { INTEGER r, INTEGER s }.
pub fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = if digits[0] >= 0x80 { vec![0] } else { vec![] };
        let length = u8::try_from(sign.len() + digits.len()).unwrap();
        [vec![2, length], sign, digits].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat()
}

#[test]
fn a_der_encoded_signature_in_the_test_is_a_real_one() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    let signer = Signer::of(Algorithm::ES256);
    let signature = crypto::sign(b"message", &signer.key, Algorithm::ES256).unwrap();
    let signature = crate::token::wire::decode(&signature).unwrap();
    let point = jsonwebtoken::DecodingKey::from_ec_pem(signer.pem.as_bytes()).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point.try_get_as_bytes().unwrap())
        .verify(b"message", &der(&signature[..32], &signature[32..]))
        .unwrap();
}

/// The reason tells which check came first: a token that is refused for anything but its signature costs none.
#[test]
fn what_can_be_refused_without_the_signature_costs_no_signature() {
    let (_, verifier) = pair();
    let forger = Signer::stranger();
    for (members, expected) in [
        (json!({}), TokenError::Signature),
        (json!({"iss": "https://x"}), TokenError::Issuer),
        (json!({"aud": "https://x"}), TokenError::Audience),
        (json!({"aud": 1}), TokenError::ClaimType),
        (json!({"exp": NOW.0 - 600, "iat": NOW.0 - 700}), TokenError::Expired),
        (json!({"exp": "x"}), TokenError::ClaimType),
        (json!({"nbf": NOW.0 + 600}), TokenError::NotYetValid),
        (json!({"iat": NOW.0 + 600}), TokenError::IssuedInFuture),
        (json!({"exp": NOW.0 + 2 * MAX_LIFETIME}), TokenError::Lifetime),
        (json!({"events": {}}), TokenError::Type),
        (json!({"sub": ""}), TokenError::Subject),
        (json!({"scope": 1}), TokenError::ClaimType),
    ] {
        let token = forger.token(&claims_with(members.clone()));
        assert_eq!(refusal(&verifier, &token), Some(expected), "{members}");
    }
    for header in [r#"{"alg":"EdDSA","typ":"jwt"}"#, r#"{"alg":"HS256","typ":"jwt"}"#] {
        let token = forger.sign(header, &claims().to_string());
        assert_eq!(refusal(&verifier, &token), Some(TokenError::Algorithm), "{header}");
    }
}

#[test]
fn parts_of_two_good_tokens_make_no_third() {
    let (signer, verifier) = pair();
    let one = signer.token(&claims());
    let two = signer.token(&claims_with(json!({"sub": "admin"})));
    let (one, two): (Vec<&str>, Vec<&str>) = (one.split('.').collect(), two.split('.').collect());
    let mixed = [one[0], two[1], one[2]].join(".");
    assert_eq!(refusal(&verifier, &mixed), Some(TokenError::Signature));
    let moved = [one[0], &one[1][..8], &one[1][8..]].join(".");
    assert!(refusal(&verifier, &moved).is_some());
}
