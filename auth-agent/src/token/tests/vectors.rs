//! The published examples: RFC 7515 (appendix A), RFC 7519 (3.1, 6.1), RFC 7520 (4.1 to 4.4) and RFC 8037 (A.4, A.5).
//!
//! Their signatures hold, and nothing else of them would be accepted: most are no access tokens at all.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::mint::*;
use crate::config;
use crate::token::keys::{KeyFault, KeySet};
use crate::token::{TokenError, wire};

/// The payload of RFC 7515 A.1 to A.3 and of RFC 7519 3.1.
const JOE: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// The payload of RFC 7520, figure 8.
const FRODO: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9h\
    ZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";

/// The modulus of RFC 7515 A.2.
const JOE_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ\
    S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2Ca\
    pHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h\
    4FRWyuXpoQ";

/// The modulus of RFC 7520, figure 4.
const BILBO_MODULUS: &str = "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2w\
    qVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJls\
    de3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc\
    5gHdrNP5zw";

/// An example: where it is from, its key, header, payload and signature, and what the verifier says of it.
struct Vector {
    from: &'static str,
    algorithm: Algorithm,
    key: Value,
    header: &'static str,
    payload: &'static str,
    signature: &'static str,
    refusal: TokenError,
}

fn vectors() -> [Vector; 7] {
    [
        Vector {
            from: "RFC 7515 A.1, RFC 7519 3.1",
            algorithm: Algorithm::HS256,
            key: json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
            header: "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            payload: JOE,
            signature: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            refusal: TokenError::ClaimMissing,
        },
        Vector {
            from: "RFC 7515 A.2",
            algorithm: Algorithm::RS256,
            key: json!({"kty": "RSA", "n": JOE_MODULUS, "e": "AQAB"}),
            header: "eyJhbGciOiJSUzI1NiJ9",
            payload: JOE,
            signature: "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t\
                1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12j\
                zDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQ\
                Ge77Rw",
            refusal: TokenError::Type,
        },
        Vector {
            from: "RFC 7515 A.3",
            algorithm: Algorithm::ES256,
            key: json!({
                "kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            header: "eyJhbGciOiJFUzI1NiJ9",
            payload: JOE,
            signature: "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            refusal: TokenError::Type,
        },
        Vector {
            from: "RFC 7520 4.1",
            algorithm: Algorithm::RS256,
            key: json!({"kty": "RSA", "kid": "bilbo.baggins@hobbiton.example", "use": "sig", "n": BILBO_MODULUS, "e": "AQAB"}),
            header: "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            payload: FRODO,
            signature: "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA\
                78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQ\
                dLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18\
                kDquDg",
            refusal: TokenError::Malformed,
        },
        Vector {
            from: "RFC 7520 4.2",
            algorithm: Algorithm::PS384,
            key: json!({"kty": "RSA", "kid": "bilbo.baggins@hobbiton.example", "use": "sig", "n": BILBO_MODULUS, "e": "AQAB"}),
            header: "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9",
            payload: FRODO,
            signature: "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcb\
                UrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8I\
                mUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-\
                X72Eaw",
            refusal: TokenError::Malformed,
        },
        Vector {
            from: "RFC 7520 4.4",
            algorithm: Algorithm::HS256,
            key: json!({
                "kty": "oct", "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037", "use": "sig", "alg": "HS256",
                "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
            }),
            header: "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
            payload: FRODO,
            signature: "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
            refusal: TokenError::Malformed,
        },
        Vector {
            from: "RFC 8037 A.4, A.5",
            algorithm: Algorithm::EdDSA,
            key: json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
            header: "eyJhbGciOiJFZERTQSJ9",
            payload: "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            signature: "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            refusal: TokenError::Malformed,
        },
    ]
}

#[test]
fn the_signatures_of_the_published_examples_hold_and_no_other_text_has_them() {
    for Vector { from, algorithm, key, header, payload, signature, refusal: expected } in vectors() {
        let issuer = issuer(&[algorithm], std::path::Path::new("unused"));
        let keys = KeySet::parse(key.to_string().as_bytes(), &issuer).unwrap();
        let key_id = key["kid"].as_str();
        let key_found = keys.find(key_id).unwrap();
        let signature_bytes = wire::decode(signature).unwrap();
        let signed = format!("{header}.{payload}");
        assert!(key_found.verify(signed.as_bytes(), &signature_bytes).is_ok(), "{from}");
        assert_eq!(
            key_found.verify(&signed.as_bytes()[1..], &signature_bytes).err(),
            Some(TokenError::Signature)
        );
        for at in 0..signature_bytes.len() {
            let mut other = signature_bytes.clone();
            other[at] ^= 1;
            let found = key_found.verify(signed.as_bytes(), &other);
            assert_eq!(found.err(), Some(TokenError::Signature), "{from}, byte {at}");
        }
        let verifier = adjusted(&[algorithm], key.to_string(), |issuer| issuer.issuer = "joe".into());
        assert_eq!(refusal(&verifier, &format!("{signed}.{signature}")), Some(expected), "{from}");
    }
}

/// RFC 7519 3.1, as the issuer would have to be configured: with what it lacks, all that is against it is that it has expired.
#[test]
fn the_example_of_rfc_7519_lacks_an_audience_and_its_time_of_issue_and_has_expired() {
    let [Vector { key, header, payload, signature, .. }, ..] = vectors();
    let token = format!("{header}.{payload}.{signature}");
    let verifier = adjusted(&[Algorithm::HS256], key.to_string(), |issuer| issuer.issuer = "joe".into());
    assert_eq!(refusal(&verifier, &token), Some(TokenError::ClaimMissing));
    let claims = wire::decode(payload).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((claims["iss"].as_str(), claims["exp"].as_u64()), (Some("joe"), Some(1_300_819_380)));
    let secret = wire::decode(key["k"].as_str().unwrap()).unwrap();
    let mut meant = claims;
    meant["aud"] = json!(AUDIENCE);
    meant["iat"] = json!(1_300_819_380 - 3600);
    let token = Signer::hmac(Algorithm::HS256, &secret).token(&meant);
    assert_eq!(refusal(&verifier, &token), Some(TokenError::Expired));
}

#[test]
fn published_examples_of_what_is_not_supported_are_refused_by_name() {
    let (_, verifier) = pair();
    let unsecured = format!("eyJhbGciOiJub25lIn0.{JOE}.");
    assert_eq!(refusal(&verifier, &unsecured), Some(TokenError::Malformed), "RFC 7515 A.5, RFC 7519 6.1");
    let es512 = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7Xd\
        tAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXUukOXolLzeO_Jn";
    assert_eq!(refusal(&verifier, es512), Some(TokenError::Algorithm), "RFC 7515 A.4");
    let frodo = format!(
        "eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{FRODO}.AE_R_YZCChjn4791jSQCrdPZCNYqHXCT\
         ZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEK\
         BpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2"
    );
    assert_eq!(refusal(&verifier, &frodo), Some(TokenError::Algorithm), "RFC 7520 4.3");
    let p521 = json!({
        "kty": "EC", "crv": "P-521", "kid": "bilbo.baggins@hobbiton.example",
        "x": "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
        "y": "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1",
    });
    let issuer: config::Issuer = issuer(&[Algorithm::ES256], std::path::Path::new("unused"));
    let fault = KeySet::parse(p521.to_string().as_bytes(), &issuer).unwrap_err();
    assert!(matches!(fault, KeyFault::Unsupported { .. }), "RFC 7520, figure 1: {fault}");
}
