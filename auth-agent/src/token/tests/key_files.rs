use std::path::Path;

use jsonwebtoken::Algorithm::{self, *};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::mint::*;
use crate::token::{KeyError, TokenError, Verifier};

fn load(algorithms: &[Algorithm], content: &[u8]) -> Result<Verifier, KeyError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    Verifier::load(&[issuer(algorithms, file.path())], MAX_BYTES)
}

/// Part of the message that a key file is refused with.
fn assert_refused(algorithms: &[Algorithm], content: impl AsRef<[u8]>, message: &str) {
    let content = content.as_ref();
    let error = load(algorithms, content).expect_err(message).to_string();
    assert!(error.contains(message), "{error}\nlacks: {message}");
    assert!(error.starts_with("issuer `main`: keys `/"), "{error}");
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

#[test]
fn a_key_is_read_from_pem_jwk_and_jwks_alike() {
    for algorithm in [ES256, ES384, EdDSA, PS384, RS512] {
        let signer = Signer::of(algorithm);
        let token = signer.token(&claims());
        let crlf = signer.pem.replace('\n', "\r\n");
        let commented = format!("our key, 2027\n{}\n", signer.pem);
        for keys in [
            signer.pem.clone(),
            crlf,
            commented,
            signer.jwk().to_string(),
            format!("\n  {:#}\n", signer.jwk()),
            signer
                .jwk_with(json!({"alg": algorithm, "use": "sig", "key_ops": ["verify"], "kid": "k"}))
                .to_string(),
            set(&[signer.jwk()]),
        ] {
            assert_eq!(refusal(&verifier(&[algorithm], &keys), &token), None, "{keys}");
        }
    }
}

#[test]
fn an_rsa_key_is_read_from_pkcs1_and_with_a_leading_zero() {
    let signer = Signer::of(RS256);
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(signer.pem.as_bytes()).unwrap();
    let pkcs1 = pem("RSA PUBLIC KEY", key.try_get_as_bytes().unwrap());
    let mut jwk = signer.jwk();
    let modulus = crate::token::wire::decode(jwk["n"].as_str().unwrap()).unwrap();
    jwk["n"] = json!(encode([&[0], &modulus[..]].concat()));
    for keys in [pkcs1, jwk.to_string()] {
        assert_eq!(refusal(&verifier(&[RS256], &keys), &signer.token(&claims())), None, "{keys}");
    }
}

#[test]
fn an_hmac_secret_is_read_raw_or_from_a_jwk() {
    for (algorithm, bytes) in [(HS256, 32), (HS384, 48), (HS512, 64)] {
        let signer = Signer::hmac(algorithm, &SECRET[..bytes]);
        for keys in [SECRET[..bytes].to_vec(), signer.jwk().to_string().into_bytes()] {
            assert_eq!(refusal(&verifier(&[algorithm], keys), &signer.token(&claims())), None);
        }
        let short = &SECRET[..bytes - 1];
        assert_refused(
            &[algorithm],
            short,
            &format!("has {} bytes; {algorithm:?} needs at least {bytes}", bytes - 1),
        );
        let jwk = Signer::hmac(algorithm, short).jwk().to_string();
        assert_refused(&[algorithm], jwk, "needs at least");
    }
    let mut binary = [0xff; 32];
    binary[0] = b'{';
    assert_eq!(refusal(&verifier(&[HS256], binary), &Signer::hmac(HS256, &binary).token(&claims())), None);
}

#[test]
fn a_secret_never_comes_from_what_could_be_a_public_key() {
    let rsa = Signer::of(RS256);
    assert_refused(&[RS256], SECRET, "not a PEM public key, JWK or JWKS file");
    assert_refused(&[RS256, HS256], SECRET, "not a PEM public key, JWK or JWKS file");
    assert_refused(&[HS256, HS384], SECRET, "not a PEM public key, JWK or JWKS file");
    assert_refused(&[HS256], &rsa.pem, "is for RS256, RS384, RS512, PS256, PS384, PS512");
    assert_refused(&[HS256], rsa.jwk().to_string(), "the issuer's `algorithms` has none of these");
    assert_refused(
        &[HS256],
        rsa.jwk_with(json!({"alg": "HS256"})).to_string(),
        "`alg` HS256 does not go with its type",
    );
    assert_refused(&[RS256], Signer::of(HS256).jwk().to_string(), "is for HS256, HS384, HS512");
    assert_refused(&[HS256], r#"{"kty":"oct","k":"broken" "#, "line 1");
    assert_refused(&[HS256], [&SECRET[..], b"\n"].concat(), "ends in a newline");
    assert_refused(&[HS256], "", "the secret has 0 bytes");
}

#[test]
fn a_key_is_pinned_to_one_algorithm_or_refused() {
    let rsa = Signer::of(RS256);
    let ambiguous = "fits RS256, PS256; name one in the key's `alg`";
    assert_refused(&[RS256, PS256], &rsa.pem, ambiguous);
    assert_refused(&[PS256, ES256, RS256], rsa.jwk().to_string(), ambiguous);
    let chosen = rsa.jwk_with(json!({"alg": "PS256"})).to_string();
    assert_eq!(refusal(&verifier(&[RS256, PS256], chosen), &Signer::of(PS256).token(&claims())), None);
    assert_eq!(refusal(&verifier(&[ES256, RS256, EdDSA], &rsa.pem), &rsa.token(&claims())), None);

    assert_refused(&[ES256, EdDSA], &rsa.pem, "the PEM key is for RS256");
    assert_refused(&[RS256], rsa.jwk_with(json!({"alg": "PS256"})).to_string(), "key 1 is for PS256");
    assert_refused(&[ES384], &Signer::of(ES256).pem, "the PEM key is for ES256");
    let es256 = Signer::of(ES256);
    assert_refused(
        &[ES256, ES384],
        es256.jwk_with(json!({"alg": "ES384"})).to_string(),
        "does not go with its type",
    );
    assert_refused(
        &[ES256],
        es256.jwk_with(json!({"alg": "ES512", "kid": "k"})).to_string(),
        "key \"k\" has an unsupported",
    );
    assert_refused(&[RS256], rsa.jwk_with(json!({"alg": "none"})).to_string(), "unsupported");
    assert_refused(&[RS256], rsa.jwk_with(json!({"alg": "RSA-OAEP"})).to_string(), "unsupported");
}

#[test]
fn a_private_key_is_refused_where_a_public_one_belongs() {
    for algorithm in [RS256, ES256, EdDSA] {
        let signer = Signer::of(algorithm);
        assert_refused(&[algorithm], signer.private_pem(), "is a private key");
        assert_refused(&[algorithm], format!("{}{}", signer.pem, signer.private_pem()), "is a private key");
        let jwk = signer.jwk_with(json!({"d": "AAAA"}));
        assert_refused(&[algorithm], jwk.to_string(), "`openssl pkey -in FILE -pubout`");
        assert_refused(&[algorithm], set(&[signer.jwk_with(json!({"kid": "a"})), jwk]), "is a private key");
    }
    assert_refused(&[HS256], pem("ENCRYPTED PRIVATE KEY", b"x"), "is a private key");
}

#[test]
fn keys_that_may_not_verify_are_skipped_and_a_set_of_nothing_else_refused() {
    let good = Signer::of(ES256);
    let skipped = [
        Signer::of(RS256).jwk_with(json!({"kid": "enc", "use": "enc"})),
        Signer::of(EdDSA).jwk_with(json!({"kid": "sign", "key_ops": ["sign"]})),
        Signer::of(ES256).jwk_with(json!({"kid": "both", "use": "sig", "key_ops": ["encrypt"]})),
        Signer::of(HS256).jwk_with(json!({"kid": "oct"})),
        Signer::of(ES384).jwk_with(json!({"kid": "other algorithm"})),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "curve"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "p521"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "x25519"}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "new type"}),
        json!({}),
    ];
    let mut keys = skipped.to_vec();
    assert_refused(
        &[ES256, EdDSA, RS256],
        set(&keys),
        "no usable key: key \"enc\" is not meant for verifying",
    );
    keys.push(good.jwk_with(json!({"kid": "good"})));
    let verifier = verifier(&[ES256, EdDSA, RS256], set(&keys));
    for (id, signer, expected) in [
        ("good", &good, None),
        ("enc", &Signer::of(RS256), Some(TokenError::KeyUnknown)),
        ("sign", &Signer::of(EdDSA), Some(TokenError::KeyUnknown)),
        ("both", &good, Some(TokenError::KeyUnknown)),
        ("oct", &good, Some(TokenError::KeyUnknown)),
    ] {
        let header = json!({"alg": signer.algorithm, "typ": "jwt", "kid": id}).to_string();
        assert_eq!(refusal(&verifier, &signer.sign(&header, &claims().to_string())), expected, "{id}");
    }
    for keys in &skipped[..3] {
        assert_refused(&[ES256, EdDSA, RS256], keys.to_string(), "is not meant for verifying");
    }
    assert_refused(&[ES256], set(&[]), "no usable key; a JWKS needs");
}

#[test]
fn weak_and_impossible_numbers_are_refused() {
    let rsa = Signer::of(RS256);
    for (bits, modulus) in
        [(1024, vec![0xff; 128]), (2047, [vec![0x7f], vec![0xff; 255]].concat()), (0, vec![])]
    {
        let mut jwk = rsa.jwk();
        jwk["n"] = json!(encode(&modulus));
        assert_refused(&[RS256], jwk.to_string(), &format!("is an RSA key of {bits} bits"));
        // In a set too: a mistake, not a key for others.
        assert_refused(&[RS256], set(&[rsa.jwk_with(json!({"kid": "a"})), jwk]), "2048 to 8192");
    }
    let mut weak = vec![0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
    weak.extend([0xff; 128]);
    weak.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    assert_refused(&[RS256], pem("RSA PUBLIC KEY", &weak), "is an RSA key of 1024 bits");
    for exponent in [&[][..], &[1], &[2], &[0], &[0xff; 9]] {
        assert_refused(
            &[RS256],
            rsa.jwk_with(json!({"e": encode(exponent)})).to_string(),
            "is not a valid key",
        );
    }
    for (signer, members) in [
        (&rsa, json!({"n": "not base64!"})),
        (&Signer::of(ES256), json!({"x": encode([1; 32])})),
        (&Signer::of(ES256), json!({"y": encode([0; 32])})),
        (&Signer::of(ES256), json!({"x": encode([0; 32]), "y": encode([0; 32])})),
        (&Signer::of(ES256), json!({"x": encode([1; 31])})),
        (&Signer::of(ES384), json!({"x": "AA", "y": "AA"})),
        (&Signer::of(EdDSA), json!({"x": encode([1; 31])})),
        (&Signer::of(HS256), json!({"k": "not base64!"})),
    ] {
        assert_refused(&[signer.algorithm], signer.jwk_with(members).to_string(), "is not a valid key");
    }
}

#[test]
fn the_keys_of_a_set_have_names_and_no_two_the_same() {
    let (one, two) = (Signer::of(ES256), Signer::of(EdDSA));
    let both = [ES256, EdDSA];
    let named = |signer: &Signer, id: &str| signer.jwk_with(json!({ "kid": id }));
    assert_refused(&both, set(&[named(&one, "k"), named(&two, "k")]), "two keys have the `kid` \"k\"");
    assert_refused(&both, set(&[named(&one, "k"), two.jwk()]), "a key in a set of several has no `kid`");
    assert!(load(&both, set(&[named(&one, "k"), named(&two, "K")]).as_bytes()).is_ok());
}

#[test]
fn what_is_no_key_file_is_refused_with_its_cure() {
    let good = Signer::of(ES256);
    let der = {
        let body: String = good.pem.lines().filter(|line| !line.starts_with('-')).collect();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap()
    };
    for (content, message) in [
        (Vec::new(), "not a PEM public key"),
        (b"hello".to_vec(), "not a PEM public key"),
        (der, "convert it with `openssl pkey"),
        (pem("CERTIFICATE", b"x").into_bytes(), "`openssl x509 -in FILE -pubkey -noout`"),
        (pem("PUBLIC KEY", b"x").into_bytes(), "unsupported type"),
        (pem("EC PARAMETERS", b"x").into_bytes(), "not a PEM public key"),
        (format!("{}{}", good.pem, good.pem).into_bytes(), "2 PEM sections"),
        (good.pem.replace("-----END", "").into_bytes(), "unsupported type"),
        (b"{".to_vec(), "line 1, column 1"),
        (b"{}".to_vec(), "unsupported type"),
        (br#"{"keys": {}}"#.to_vec(), "not a PEM public key"),
        (br#"{"keys": [1]}"#.to_vec(), "not a PEM public key"),
        (br#"{"kty":"EC","kty":"RSA"}"#.to_vec(), "a member occurs twice"),
        (br#"{"keys":[{"kid":"a","k\u0069d":"b"}]}"#.to_vec(), "a member occurs twice"),
        (vec![b'x'; (1 << 20) + 1], "longer than 1048576 bytes"),
    ] {
        assert_refused(&[ES256], content, message);
    }
    for missing in ["/nonexistent/key.pem", "/"] {
        let error =
            Verifier::load(&[issuer(&[ES256], Path::new(missing))], MAX_BYTES).unwrap_err().to_string();
        assert!(error.contains(missing) && error.contains("can't be read"), "{error}");
    }
}

#[test]
fn two_issuers_of_one_name_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &Signer::of(ES256).pem).unwrap();
    let one = issuer(&[ES256], file.path());
    let two = crate::config::Issuer { name: "second".into(), ..one.clone() };
    let error = Verifier::load(&[one, two], MAX_BYTES).unwrap_err().to_string();
    assert!(error.starts_with("issuer `second`") && error.contains("issuer `main` has the same"), "{error}");
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let verifier = verifier(&[HS256], SECRET);
    let shown = format!("{verifier:?}");
    assert!(shown.contains("redacted") && !shown.contains("48, 49, 50"), "{shown}");
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

proptest! {
    #[test]
    fn no_key_file_makes_loading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), label in 0..3usize) {
        let framed = match label {
            0 => pem("PUBLIC KEY", &bytes).into_bytes(),
            1 => pem("RSA PUBLIC KEY", &bytes).into_bytes(),
            _ => bytes,
        };
        let _ = load(&[RS256, ES256, EdDSA], &framed);
    }

    #[test]
    fn no_damaged_key_makes_loading_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for algorithm in [RS256, ES256, EdDSA] {
            let key = Signer::of(algorithm).pem;
            let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
            let mut der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
            let at = at.index(der.len());
            der[at] = byte;
            let _ = load(&[algorithm], pem("PUBLIC KEY", &der).as_bytes());
        }
    }
}
