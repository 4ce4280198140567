use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::run;
use crate::clock::UnixTime;
use crate::config::tests::MINIMAL;
use crate::token::tests::mint::{self, Signer};

/// Claims that are good at this moment.
fn claims(members: &Value) -> Value {
    let now = UnixTime::now().0;
    let mut claims = mint::claims_with(json!({"iat": now - 10, "exp": now + 600}));
    claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    claims
}

#[test]
fn verifying_a_token_exits_by_the_verdict_and_prints_nothing_that_is_in_it() {
    let signer = Signer::of(Algorithm::ES256);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("issuer.pem"), &signer.pem).unwrap();
    let config = folder.path().join("config.toml");
    let issuer = format!(
        "[[issuer]]\nname = \"main\"\nissuer = \"{}\"\nkeys = \"issuer.pem\"\naudiences = [\"{}\"]\n\
         algorithms = [\"ES256\"]\n",
        mint::ISSUER,
        mint::AUDIENCE
    );
    std::fs::write(&config, format!("{MINIMAL}{issuer}")).unwrap();
    let verify = |token: &str, more: &[&str]| {
        run(&[&["--config", config.to_str().unwrap(), "token", "verify", token], more].concat())
    };
    let hour_ago = UnixTime::now().0 - 3600;
    let (good, extra) = (json!({}), json!({"scope": "s3cret", "sub": "s3cret"}));
    for (token, refusal) in [
        (signer.token(&claims(&good)), None),
        (signer.token(&claims(&extra)), None),
        (signer.token(&claims(&json!({"exp": hour_ago, "iat": hour_ago - 60}))), Some("token-expired")),
        (signer.token(&claims(&json!({"aud": "s3cret"}))), Some("token-audience")),
        (Signer::stranger().token(&claims(&extra)), Some("token-signature")),
        (signer.sign(r#"{"alg":"none","typ":"s3cret","kid":"s3cret"}"#, "{}"), Some("token-algorithm")),
        ("s3cret".to_owned(), Some("token-malformed")),
        (String::new(), Some("token-malformed")),
    ] {
        let (code, out, err) = verify(&token, &[]);
        assert_eq!(code, u8::from(refusal.is_some()), "{token}: {err}");
        let verdict = if refusal.is_none() { "verdict: accepted\n" } else { "verdict: refused\n" };
        assert!(out.ends_with(verdict), "{out}");
        assert!(out.lines().count() > 10, "{out}");
        assert!(err.contains(refusal.unwrap_or_default()) && err.is_empty() == refusal.is_none(), "{err}");
        let (json_code, json, _) = verify(&token, &["--json"]);
        let found: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json_code, &found["accepted"]), (code, &json!(refusal.is_none())));
        assert_eq!(found["refusal"].as_str(), refusal);
        for shown in [out, err, json] {
            assert!(!shown.contains("s3cret") && !shown.contains("alice"), "{shown}");
        }
    }
}
