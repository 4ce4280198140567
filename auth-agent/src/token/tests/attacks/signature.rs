//! Classes 1, 2 and 10: no signature, someone else's, or one in another form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, crypto};
use serde_json::json;

use super::*;
use crate::token::wire;

#[test]
fn unsecured_tokens() {
    let (signer, verifier) = pair();
    let good = signer.token(&claims());
    let none = |alg: &str| encode(json!({"alg": alg, "typ": "at+jwt"}).to_string());
    let body = encode(claims().to_string());
    let signature = good.rsplit_once('.').unwrap().1;
    let (malformed, algorithm) = (TokenError::Malformed, TokenError::Algorithm);
    let rows: Vec<Row> = vec![
        ("none, empty signature", format!("{}.{body}.", none("none")), malformed),
        ("none, no signature part", format!("{}.{body}", none("none")), malformed),
        ("None, empty signature", format!("{}.{body}.", none("None")), malformed),
        ("none, some signature", format!("{}.{body}.AA", none("none")), algorithm),
        ("None, some signature", format!("{}.{body}.AA", none("None")), algorithm),
        ("NONE, some signature", format!("{}.{body}.AA", none("NONE")), algorithm),
        (
            "nOnE, a good signature of something else",
            format!("{}.{body}.{signature}", none("nOnE")),
            algorithm,
        ),
        ("none with a space", format!("{}.{body}.AA", none("none ")), algorithm),
        ("none with a NUL", format!("{}.{body}.AA", none("none\0")), algorithm),
        ("alg empty", format!("{}.{body}.AA", none("")), algorithm),
        ("alg absent", signer.sign(r#"{"typ":"jwt"}"#, &claims().to_string()), algorithm),
        ("alg null", signer.sign(r#"{"alg":null,"typ":"jwt"}"#, &claims().to_string()), algorithm),
        ("alg a list", signer.sign(r#"{"alg":["none"],"typ":"jwt"}"#, &claims().to_string()), algorithm),
        ("a good header, the signature cut off", good[..=good.rfind('.').unwrap()].to_owned(), malformed),
    ];
    assert_refused("unsecured", &verifier, &good, &rows, 14);
}

#[test]
fn a_public_key_as_a_shared_secret() {
    let signer = Signer::of(Algorithm::RS256);
    let verifier = verifier(&[Algorithm::RS256], &signer.pem);
    let body: String = signer.pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(&body).unwrap();
    let jwk = signer.jwk().to_string();
    let secrets: [(&str, &[u8]); 6] = [
        ("the PEM file", signer.pem.as_bytes()),
        ("the PEM file without its last line end", signer.pem.trim_end().as_bytes()),
        ("the PEM body", body.as_bytes()),
        ("the DER bytes", &der),
        ("the JWK", jwk.as_bytes()),
        ("an empty secret", b""),
    ];
    let rows: Vec<Row> = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]
        .into_iter()
        .flat_map(|hmac| {
            secrets.map(|(what, secret)| {
                (what, Signer::hmac(hmac, secret).token(&claims()), TokenError::Algorithm)
            })
        })
        .chain(secrets.map(|(what, secret)| {
            let forger = Signer::hmac(Algorithm::HS256, secret);
            let token = forger.sign(&header(Algorithm::RS256), &claims().to_string());
            (what, token, TokenError::Signature)
        }))
        .collect();
    assert_refused("algorithm confusion", &verifier, &signer.token(&claims()), &rows, 24);
}

#[test]
fn signatures_in_another_form() {
    let (signer, verifier) = pair();
    let good = signer.token(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = wire::decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let elsewhere = crypto::sign(b"something else", &signer.key, Algorithm::ES256).unwrap();
    let with = |bytes: &[u8]| format!("{signed}.{}", encode(bytes));
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap()).collect();
    let rows: Vec<Row> = [
        ("r and s zero", vec![0; 64]),
        ("r zero", [&[0; 32], s].concat()),
        ("s zero", [r, &[0; 32]].concat()),
        ("r the order of the curve", [&order, s].concat()),
        ("s the order of the curve", [r, &order].concat()),
        ("r and s all ones", vec![0xff; 64]),
        ("r and s exchanged", [s, r].concat()),
        ("DER", super::super::signatures::der(r, s)),
        ("one byte short", signature[..63].to_vec()),
        ("one byte more", [&signature[..], &[0]].concat()),
        ("a zero before", [&[0], &signature[..]].concat()),
        ("as long as ES384's", [&[0; 16], r, &[0; 16], s].concat()),
        ("twice", signature.repeat(2)),
        ("one byte", vec![1]),
    ]
    .map(|(what, bytes)| (what, with(&bytes), TokenError::Signature))
    .into_iter()
    .chain([("of another text", format!("{signed}.{elsewhere}"), TokenError::Signature)])
    .collect();
    assert_refused("signature form", &verifier, &good, &rows, 15);
}
