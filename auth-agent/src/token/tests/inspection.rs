use jsonwebtoken::Algorithm;
use serde_json::json;

use super::mint::*;
use crate::clock::UnixTime;
use crate::token::{Inspection, Outcome, TokenError, inspect};

fn outcome(inspection: &Inspection, name: &str) -> Outcome {
    inspection.checks.iter().find(|check| check.name == name).unwrap().outcome
}

#[test]
fn a_good_token_passes_every_check() {
    let (signer, verifier) = pair();
    let inspection = inspect(&signer.token(&claims()), Some(&verifier), NOW);
    assert!(inspection.accepted);
    assert!(inspection.checks.iter().all(|check| check.outcome == Outcome::Pass), "{}", inspection.to_text());
    assert_eq!(inspection.key.as_ref().unwrap().algorithm, "ES256");
    assert_eq!(inspection.warnings, [""; 0]);
    let text = inspection.to_text();
    for part in ["\"sub\": \"alice\"", "exp  2027-01-15T08:10:00Z  in 10m 0s", "iat", "verdict: accepted"] {
        assert!(text.contains(part), "{text}\nlacks: {part}");
    }
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(
        json["checks"][0],
        json!({"name": "size", "outcome": "pass", "reason": null, "detail": json["checks"][0]["detail"]})
    );
}

#[test]
fn without_a_verifier_only_form_and_times_are_checked_and_nothing_is_accepted() {
    let (signer, _) = pair();
    let inspection = inspect(&signer.token(&claims()), None, NOW);
    assert!(!inspection.accepted);
    assert_eq!(inspection.refusal, None);
    assert_eq!(outcome(&inspection, "expiry"), Outcome::Pass);
    for name in ["size", "issuer", "type", "key", "algorithm", "signature", "audience", "lifetime"] {
        assert_eq!(outcome(&inspection, name), Outcome::Skipped, "{name}");
    }
    assert!(inspection.warnings[0].contains("the signature was not checked"));
    assert!(inspection.to_text().contains("verdict: unknown"));
}

#[test]
fn a_broken_token_is_explained_as_far_as_it_can_be_read() {
    let (signer, verifier) = pair();
    let expired = signer.token(&claims());
    let good_claims = claims().to_string();
    let rows = [
        (expired.clone(), UnixTime(NOW.0 + 86_400), TokenError::Expired, true),
        (Signer::stranger().token(&claims()), NOW, TokenError::Signature, true),
        (signer.sign(r#"{"alg":"none"}"#, &good_claims), NOW, TokenError::Algorithm, true),
        (
            signer.sign(r#"{"alg":"ES256","alg":"ES256"}"#, &good_claims),
            NOW,
            TokenError::DuplicateMember,
            true,
        ),
        (signer.token(&claims_with(json!({"iss": "https://x"}))), NOW, TokenError::Issuer, true),
        (format!("{expired}="), NOW, TokenError::Encoding, true),
        (signer.sign(&header(Algorithm::ES256), "[1"), NOW, TokenError::Malformed, false),
        ("not a token".into(), NOW, TokenError::Malformed, false),
        (String::new(), NOW, TokenError::Malformed, false),
        ("A".repeat(MAX_BYTES + 1), NOW, TokenError::TooLong, false),
    ];
    for (token, now, expected, readable) in rows {
        let inspection = inspect(&token, Some(&verifier), now);
        assert_eq!(inspection.refusal, Some(expected), "{token}");
        assert!(!inspection.accepted);
        assert_eq!(inspection.claims.is_some(), readable, "{token}");
        assert!(inspection.to_text().contains(&format!("refused, {}", expected.name())), "{token}");
        let alone = inspect(&token, None, now);
        assert!(!alone.accepted, "{token}");
    }
    let inspection = inspect(&expired, Some(&verifier), UnixTime(NOW.0 + 86_400));
    assert!(inspection.to_text().contains("23h 50m ago"));
}

#[test]
fn neither_the_signature_nor_a_secret_inside_is_shown() {
    let signer = Signer::of(Algorithm::HS256);
    let verifier = verifier(&[Algorithm::HS256], SECRET);
    let inner = signer.token(&claims());
    let token = signer.token(&claims_with(json!({
        "password": "hunter2", "nested": {"api_key": "abc123"}, "act": {"token": inner},
        "list": [format!("Bearer {inner}")],
    })));
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    for found in [inspect(&token, Some(&verifier), NOW), inspect(&token, None, NOW)] {
        for shown in [found.to_text(), serde_json::to_string(&found).unwrap(), format!("{found:?}")] {
            for secret in [&signature(&token), &signature(&inner), "hunter2", "abc123"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
}

#[test]
fn personal_data_is_pointed_out_without_being_repeated() {
    let (signer, verifier) = pair();
    for (members, finding) in [
        (json!({"card": "4111 1111 1111 1111"}), "claims.card looks like a card number"),
        (json!({"note": "paid with 5500-0055-5555-5559."}), "claims.note looks like a card number"),
        (json!({"n": 378_282_246_310_005_u64}), "claims.n looks like a card number"),
        (json!({"a": {"b": ["x", "bob@mail.example"]}}), "claims.a.b looks like an e-mail address"),
        (json!({"who": "Bob <bob@mail.example>"}), "claims.who looks like an e-mail address"),
        (json!({"tel": "+49 30 123456-78"}), "claims.tel looks like a phone number"),
        (json!({"phone_number": "030 1234567"}), "claims.phone_number looks like a phone number"),
        (json!({"userPassword": "x"}), "claims.userPassword is named like a secret"),
        (json!({"PIN": 1234}), "claims.PIN is named like a secret"),
        (json!({"assertion": "eyJhbGciOiJub25lIn0.e30.x"}), "claims.assertion looks like a token"),
    ] {
        let inspection = inspect(&signer.token(&claims_with(members.clone())), Some(&verifier), NOW);
        assert!(inspection.accepted, "{members}");
        assert_eq!(inspection.warnings, [finding], "{members}");
    }
    for harmless in [
        json!({"card": "4111 1111 1111 1112"}),
        json!({"at": 1_763_934_780_123_u64, "auth_time": 1_763_934_780}),
        json!({"sid": "8d0a4c1e-4111-4111-8111-111111111111"}),
        json!({"google": "112233445566778899001"}),
        json!({"name": "@handle", "host": "a.b.c", "version": "1.2.3"}),
        json!({"email_verified": true, "pinned": 1, "amr": ["pwd"]}),
    ] {
        let inspection = inspect(&signer.token(&claims_with(harmless.clone())), Some(&verifier), NOW);
        assert_eq!(inspection.warnings, [""; 0], "{harmless}");
    }
}

#[test]
fn a_token_can_not_drive_the_terminal() {
    let (signer, verifier) = pair();
    let claims = claims_with(json!({"x": "\u{1b}[2J\u{9b}31m\u{202e}evil\u{7f}\u{200b}", "\u{9b}y": 1}));
    let header = json!({"alg": "ES256", "typ": "\u{9b}31m\u{202e}"}).to_string();
    let text = inspect(&signer.sign(&header, &claims.to_string()), Some(&verifier), NOW).to_text();
    assert!(text.contains("evil"));
    assert!(
        !text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}' || c == '\u{200b}')),
        "{text:?}"
    );
}

#[test]
fn white_space_around_a_pasted_token_is_ignored() {
    let (signer, verifier) = pair();
    assert!(inspect(&format!("\n  {}\r\n", signer.token(&claims())), Some(&verifier), NOW).accepted);
}
