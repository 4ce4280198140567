//! Classes 6, 7 and 8: claims that two parsers read differently, of the wrong type, or at the wrong time.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::*;

/// Good claims with something written before the closing brace.
fn and(more: &str) -> String {
    let good = claims().to_string();
    pair().0.sign(&header(Algorithm::ES256), &format!("{},{more}}}", &good[..good.len() - 1]))
}

/// Good claims, one of them in these words.
fn written(name: &str, value: &str) -> String {
    let good = claims_without(name).to_string();
    pair().0.sign(&header(Algorithm::ES256), &format!("{},\"{name}\":{value}}}", &good[..good.len() - 1]))
}

#[test]
fn members_that_occur_twice() {
    let (signer, verifier) = pair();
    let body = claims().to_string();
    let heading = |header: &str| signer.sign(header, &body);
    let many: String = (0..300).map(|number| format!(r#""m{number}":1,"#)).collect();
    let twice = TokenError::DuplicateMember;
    let rows: Vec<Row> = vec![
        ("sub", and(r#""sub":"admin""#), twice),
        ("sub, escaped", and(r#""s\u0075b":"admin""#), twice),
        ("sub, escaped throughout", and(r#""\u0073\u0075\u0062":"admin""#), twice),
        ("exp", and(r#""exp":9999999999"#), twice),
        ("scope of the same value", and(r#""scope":"read write""#), twice),
        ("inside an object", and(r#""x":{"a":1,"b":2,"a":3}"#), twice),
        ("inside a list", and(r#""x":[[{"a":1,"a":1}]]"#), twice),
        ("empty names", and(r#""x":{"":1,"":2}"#), twice),
        ("a surrogate pair and what it stands for", and(r#""x":{"\ud83d\ude00":1,"😀":2}"#), twice),
        ("a slash with and without a backslash", and(r#""x":{"a\/b":1,"a/b":2}"#), twice),
        ("the first and the last of many", and(&format!(r#"{many}"m0":2"#)), twice),
        ("alg", heading(r#"{"alg":"none","typ":"jwt","alg":"ES256"}"#), twice),
        ("alg, escaped", heading(r#"{"alg":"ES256","typ":"jwt","\u0061lg":"none"}"#), twice),
        ("kid", heading(r#"{"alg":"ES256","typ":"jwt","kid":"a","kid":"b"}"#), twice),
    ];
    assert_refused("twice", &verifier, &and(&format!(r#"{many}"m300":2"#)), &rows, 14);
}

#[test]
fn claims_of_the_wrong_type() {
    let (signer, verifier) = pair();
    let with = |members: Value| signer.token(&claims_with(members));
    let soon = NOW.0 + 60;
    let kind = TokenError::ClaimType;
    let mut rows: Vec<Row> = vec![
        ("iss a list", with(json!({"iss": [ISSUER]})), kind),
        ("aud empty", with(json!({"aud": []})), kind),
        ("aud an object", with(json!({"aud": {AUDIENCE: true}})), kind),
        ("aud with a number in it", with(json!({"aud": [AUDIENCE, 1]})), kind),
        ("aud lists in a list", with(json!({"aud": [[AUDIENCE]]})), kind),
        ("aud null", with(json!({"aud": null})), kind),
        ("sub a number", with(json!({"sub": 1})), kind),
        ("sub a list", with(json!({"sub": ["alice"]})), kind),
        ("sub of two lines", with(json!({"sub": "alice\r\nX-Auth-Scopes: admin"})), TokenError::Subject),
        ("sub with a space before", with(json!({"sub": " alice"})), TokenError::Subject),
        ("scope an object", with(json!({"scope": {"admin": true}})), kind),
        ("scope with a space inside", with(json!({"scope": ["read admin"]})), kind),
        ("scope and scp that differ", with(json!({"scp": "admin"})), kind),
        ("client_id and azp that differ", with(json!({"azp": "other"})), kind),
        ("jti a number", with(json!({"jti": 1})), kind),
        ("a lone surrogate", and(r#""x":"\ud800""#), TokenError::Malformed),
        ("a lone surrogate in a name", and(r#""\udfff":1"#), TokenError::Malformed),
        ("surrogates the wrong way round", and(r#""x":"\udc00\ud800""#), TokenError::Malformed),
        (
            "nesting of 16",
            and(&format!(r#""x":{}{}"#, "[".repeat(16), "]".repeat(16))),
            TokenError::Malformed,
        ),
        (
            "nesting of 2000",
            and(&format!(r#""x":{}{}"#, "[".repeat(2000), "]".repeat(2000))),
            TokenError::Malformed,
        ),
        ("no exp", signer.token(&claims_without("exp")), TokenError::ClaimMissing),
        ("no aud", signer.token(&claims_without("aud")), TokenError::ClaimMissing),
        ("no iss", signer.token(&claims_without("iss")), TokenError::ClaimMissing),
        ("no sub", signer.token(&claims_without("sub")), TokenError::ClaimMissing),
    ];
    for name in ["exp", "nbf", "iat"] {
        rows.extend([
            ("a string", written(name, &format!("\"{soon}\"")), kind),
            ("a fraction", written(name, &format!("{soon}.5")), kind),
            ("a whole fraction", written(name, &format!("{soon}.0")), kind),
            ("an exponent", written(name, "1.8e9"), kind),
            ("negative", written(name, "-1"), kind),
            ("minus zero", written(name, "-0"), kind),
            ("null", written(name, "null"), kind),
            ("a list", written(name, &format!("[{soon}]")), kind),
            ("an object", written(name, "{}"), kind),
            ("true", written(name, "true"), kind),
            ("beyond 64 bits", written(name, "18446744073709551616"), kind),
            ("infinite", written(name, "1e999"), TokenError::Malformed),
            ("not a number", written(name, "NaN"), TokenError::Malformed),
        ]);
    }
    assert_refused("type", &verifier, &written("exp", &soon.to_string()), &rows, 63);
}

#[test]
fn the_wrong_time() {
    let (signer, verifier) = pair();
    let now = NOW.0;
    let at = |members: Value| signer.token(&claims_with(members));
    let mut endless = claims_without("iat");
    endless["exp"] = json!(now + 30 * 24 * 3600);
    let rows: Vec<Row> = vec![
        ("expired in the leeway's last second", at(json!({"exp": now - LEEWAY})), TokenError::Expired),
        ("expired long ago", at(json!({"exp": 1, "iat": 0})), TokenError::Expired),
        ("exp zero", at(json!({"exp": 0, "iat": 0})), TokenError::Expired),
        (
            "not valid for a second more than the leeway",
            at(json!({"nbf": now + LEEWAY + 1})),
            TokenError::NotYetValid,
        ),
        ("never valid", at(json!({"nbf": u64::MAX})), TokenError::NotYetValid),
        ("issued a second too far ahead", at(json!({"iat": now + LEEWAY + 1})), TokenError::IssuedInFuture),
        ("issued at the end of time", at(json!({"iat": u64::MAX})), TokenError::IssuedInFuture),
        ("a second too long", at(json!({"iat": now, "exp": now + MAX_LIFETIME + 1})), TokenError::Lifetime),
        ("for a month, without iat", signer.token(&endless), TokenError::ClaimMissing),
        ("for ever", at(json!({"exp": u64::MAX})), TokenError::Lifetime),
        ("issued after it expires", at(json!({"iat": now + 3, "exp": now + 2})), TokenError::Lifetime),
    ];
    let good = at(json!({"exp": now - LEEWAY + 1, "nbf": now - 1}));
    assert_refused("time", &verifier, &good, &rows, 11);
}
