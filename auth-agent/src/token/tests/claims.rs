//! What a well signed token may claim.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::mint::*;
use crate::clock::UnixTime;
use crate::config;
use crate::identity::{Claim, Kept, KeptClaims, MAX_LIST};
use crate::thumbprint::Thumbprint;
use crate::token::TokenError;

#[test]
fn a_good_token_gives_what_it_claims() {
    let (signer, verifier) = pair();
    let verified = verify(&verifier, &signer.token(&claims())).unwrap();
    assert_eq!(&**verified.subject(), "alice");
    assert_eq!(verified.scopes()[..], ["read".into(), "write".into()]);
    assert_eq!(&**verified.issuer_name(), "main");
    assert_eq!(*verified.valid(), UnixTime(NOW.0 - 10 - LEEWAY)..UnixTime(NOW.0 + 600 + LEEWAY));
    assert_eq!(verified.issued_at(), UnixTime(NOW.0 - 10));
    assert_eq!(verified.token_id().map(|id| &**id), Some("token-1"));
    assert_eq!(verified.client().map(|client| &**client), Some("app"));
}

#[test]
fn a_binding_is_to_a_client_certificate_or_can_not_be_checked() {
    let (signer, verifier) = pair();
    let thumbprint = Thumbprint::of(b"certificate");
    let bound = claims_with(json!({"cnf": {"x5t#S256": thumbprint.to_string()}}));
    assert_eq!(verify(&verifier, &signer.token(&bound)).unwrap().certificate(), Some(thumbprint));
    assert_eq!(verify(&verifier, &signer.token(&claims())).unwrap().certificate(), None);
    let text = thumbprint.to_string();
    assert_claims(&[
        (json!({"cnf": {"x5t#S256": text}}), None),
        (json!({"cnf": {"jkt": text}}), Some(TokenError::Confirmation)),
        (json!({"cnf": {"jwk": {}}}), Some(TokenError::Confirmation)),
        (json!({"cnf": {"kid": "a"}}), Some(TokenError::Confirmation)),
        (json!({"cnf": {"x5t#S256": text, "jkt": text}}), Some(TokenError::Confirmation)),
        (json!({"cnf": {"x5t#s256": text}}), Some(TokenError::Confirmation)),
        (json!({"cnf": {}}), Some(TokenError::Confirmation)),
        (json!({"cnf": {"x5t#S256": ""}}), Some(TokenError::ClaimType)),
        (json!({"cnf": {"x5t#S256": format!("{text}=")}}), Some(TokenError::ClaimType)),
        (json!({"cnf": {"x5t#S256": "00".repeat(32)}}), Some(TokenError::ClaimType)),
        (json!({"cnf": {"x5t#S256": [text]}}), Some(TokenError::ClaimType)),
        (json!({"cnf": {"x5t#S256": null}}), Some(TokenError::ClaimType)),
        (json!({"cnf": text}), Some(TokenError::ClaimType)),
        (json!({"cnf": null}), Some(TokenError::ClaimType)),
        (json!({"cnf": []}), Some(TokenError::ClaimType)),
    ]);
}

#[test]
fn times_that_are_not_whole_seconds_are_refused() {
    let (signer, verifier) = pair();
    for name in ["exp", "nbf", "iat"] {
        let soon = NOW.0.to_string();
        let without = claims_without(name).to_string();
        let start = &without[..without.len() - 1];
        for value in [
            &format!("\"{soon}\""),
            &format!("{soon}.0"),
            &format!("{soon}.5"),
            &format!("{soon}e0"),
            "1.8E9",
            "-1",
            "-0",
            "1e400",
            "18446744073709551616",
            "null",
            "true",
            "[]",
            &format!("[{soon}]"),
            "{}",
            "\"\"",
        ] {
            let token = signer.sign(&header(Algorithm::ES256), &format!("{start},\"{name}\":{value}}}"));
            let expected = if value == "1e400" { TokenError::Malformed } else { TokenError::ClaimType };
            assert_eq!(refusal(&verifier, &token), Some(expected), "{name}: {value}");
        }
    }
}

#[test]
fn an_audience_is_a_string_or_a_list_of_strings_with_ours_in_it() {
    let many = |count: usize| -> Vec<String> {
        (0..count - 1).map(|n| n.to_string()).chain([AUDIENCE.into()]).collect()
    };
    assert_claims(&[
        (json!({"aud": AUDIENCE}), None),
        (json!({"aud": [AUDIENCE]}), None),
        (json!({"aud": ["x", AUDIENCE]}), None),
        (json!({"aud": many(64)}), None),
        (json!({"aud": many(65)}), Some(TokenError::ClaimType)),
        (json!({"aud": []}), Some(TokenError::ClaimType)),
        (json!({"aud": {}}), Some(TokenError::ClaimType)),
        (json!({"aud": {AUDIENCE: 1}}), Some(TokenError::ClaimType)),
        (json!({"aud": null}), Some(TokenError::ClaimType)),
        (json!({"aud": true}), Some(TokenError::ClaimType)),
        (json!({"aud": [AUDIENCE, 1]}), Some(TokenError::ClaimType)),
        (json!({"aud": [[AUDIENCE]]}), Some(TokenError::ClaimType)),
        (json!({"aud": ""}), Some(TokenError::Audience)),
        (json!({"aud": "*"}), Some(TokenError::Audience)),
        (json!({"aud": "https://api.example/"}), Some(TokenError::Audience)),
        (json!({"aud": "https://API.example"}), Some(TokenError::Audience)),
        (json!({"aud": "https://api.example https://x"}), Some(TokenError::Audience)),
        (json!({"aud": "https://api.example.evil"}), Some(TokenError::Audience)),
        (json!({"aud": ["x", "y"]}), Some(TokenError::Audience)),
    ]);
}

#[test]
fn an_issuer_is_one_string_and_matched_exactly() {
    assert_claims(&[
        (json!({"iss": [ISSUER]}), Some(TokenError::ClaimType)),
        (json!({"iss": null}), Some(TokenError::ClaimType)),
        (json!({"iss": 1}), Some(TokenError::ClaimType)),
        (json!({"iss": {}}), Some(TokenError::ClaimType)),
        (json!({"iss": ""}), Some(TokenError::Issuer)),
        (json!({"iss": "https://issuer.example/"}), Some(TokenError::Issuer)),
        (json!({"iss": "HTTPS://issuer.example"}), Some(TokenError::Issuer)),
        (json!({"iss": " https://issuer.example"}), Some(TokenError::Issuer)),
        (json!({"iss": "https://issuer.example\u{0}"}), Some(TokenError::Issuer)),
        (json!({"iss": "main"}), Some(TokenError::Issuer)),
    ]);
}

#[test]
fn a_required_claim_may_not_be_missing() {
    let (signer, verifier) = pair();
    for name in ["aud", "exp", "iat", "iss", "sub"] {
        let token = signer.token(&claims_without(name));
        assert_eq!(refusal(&verifier, &token), Some(TokenError::ClaimMissing), "{name}");
    }
    for name in ["jti", "client_id", "scope"] {
        assert_eq!(refusal(&verifier, &signer.token(&claims_without(name))), None, "{name}");
    }
}

#[test]
fn a_subject_fits_into_a_header_and_a_log_line_as_it_stands() {
    let subject = Some(TokenError::Subject);
    assert_claims(&[
        (json!({"sub": "a".repeat(255)}), None),
        (json!({"sub": "user name"}), None),
        (json!({"sub": "Zoë"}), None),
        (json!({"sub": "a".repeat(256)}), subject),
        (json!({"sub": ""}), subject),
        (json!({"sub": " alice"}), subject),
        (json!({"sub": "alice "}), subject),
        (json!({"sub": "\u{a0}alice"}), subject),
        (json!({"sub": "alice\r\nX-Auth-Scopes: admin"}), subject),
        (json!({"sub": "alice\u{0}"}), subject),
        (json!({"sub": "a\u{7f}b"}), subject),
        (json!({"sub": "a\u{9b}b"}), subject),
        (json!({"sub": 1}), Some(TokenError::ClaimType)),
        (json!({"sub": ["alice"]}), Some(TokenError::ClaimType)),
        (json!({"sub": null}), Some(TokenError::ClaimType)),
    ]);
}

#[test]
fn scopes_are_read_from_either_claim_in_either_form() {
    let (signer, verifier) = pair();
    for (members, expected) in [
        (json!({"scope": "b a"}), &["a", "b"][..]),
        (json!({"scope": ["b", "a", "b"]}), &["a", "b"]),
        (json!({"scp": "a"}), &["a"]),
        (json!({"scp": ["a", "b:c/d.*"]}), &["a", "b:c/d.*"]),
        (json!({"scope": "a b", "scp": ["b", "a"]}), &["a", "b"]),
        (json!({"scope": ""}), &[]),
        (json!({"scope": "a  b "}), &["a", "b"]),
        (json!({"scp": []}), &[]),
        (json!({}), &[]),
    ] {
        let mut claims = claims_without("scope");
        claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let verified = verify(&verifier, &signer.token(&claims)).unwrap();
        let scopes: Vec<&str> = verified.scopes().iter().map(|scope| &**scope).collect();
        assert_eq!(scopes, expected, "{members}");
    }
    let refused = Some(TokenError::ClaimType);
    let many: Vec<String> = (0..257).map(|n| n.to_string()).collect();
    assert_claims(&[
        (json!({"scope": ["read admin"]}), refused),
        (json!({"scope": [""]}), refused),
        (json!({"scope": ["a", 1]}), refused),
        (json!({"scope": "a\tb"}), refused),
        (json!({"scope": "a\"b"}), refused),
        (json!({"scope": "a\r\nb"}), refused),
        (json!({"scope": "é"}), refused),
        (json!({"scope": null}), refused),
        (json!({"scope": {"a": 1}}), refused),
        (json!({"scope": many}), refused),
        (json!({"scope": "read", "scp": "admin"}), refused),
        (json!({"scope": "read", "scp": 1}), refused),
    ]);
}

#[test]
fn identifiers_are_strings_and_two_names_for_the_client_agree() {
    let (signer, verifier) = pair();
    let mut azp = claims_without("client_id");
    azp["azp"] = json!("other");
    assert_eq!(&**verify(&verifier, &signer.token(&azp)).unwrap().client().unwrap(), "other");
    let refused = Some(TokenError::ClaimType);
    assert_claims(&[
        (json!({"azp": "app"}), None),
        (json!({"azp": "other"}), refused),
        (json!({"client_id": 1}), refused),
        (json!({"client_id": ""}), refused),
        (json!({"jti": 1}), refused),
        (json!({"jti": null}), refused),
        (json!({"jti": "a\nb"}), refused),
        (json!({"jti": "j".repeat(256)}), refused),
    ]);
}

#[test]
fn each_time_holds_to_the_very_second_of_the_leeway() {
    let now = NOW.0;
    assert_claims(&[
        (json!({"exp": now + 1}), None),
        (json!({"exp": now - LEEWAY + 1}), None),
        (json!({"exp": now - LEEWAY}), Some(TokenError::Expired)),
        (json!({"exp": now - LEEWAY - 1}), Some(TokenError::Expired)),
        (json!({"exp": 0, "iat": 0}), Some(TokenError::Expired)),
        (json!({"nbf": now + LEEWAY}), None),
        (json!({"nbf": now + LEEWAY + 1}), Some(TokenError::NotYetValid)),
        (json!({"nbf": u64::MAX}), Some(TokenError::NotYetValid)),
        (json!({"nbf": 0}), None),
        (json!({"iat": now + LEEWAY}), None),
        (json!({"iat": now + LEEWAY + 1}), Some(TokenError::IssuedInFuture)),
        (json!({"iat": u64::MAX}), Some(TokenError::IssuedInFuture)),
        (json!({"iat": now, "exp": now + MAX_LIFETIME}), None),
        (json!({"iat": now, "exp": now + MAX_LIFETIME + 1}), Some(TokenError::Lifetime)),
        (json!({"iat": now - 100, "exp": now + MAX_LIFETIME - 100}), None),
        (json!({"iat": now - 100, "exp": now + MAX_LIFETIME - 99}), Some(TokenError::Lifetime)),
        (json!({"exp": u64::MAX}), Some(TokenError::Lifetime)),
        (json!({"iat": now + 3, "exp": now + 2}), Some(TokenError::Lifetime)),
    ]);
    let (signer, verifier) = pair();
    for clock in [UnixTime(0), UnixTime(u64::MAX)] {
        assert!(verifier.verify(&signer.token(&claims()), clock).is_err(), "{clock:?}");
    }
}

#[test]
fn other_kinds_of_token_are_refused_whatever_their_typ() {
    let refused = Some(TokenError::Type);
    assert_claims(&[
        (json!({"at_hash": "x"}), refused),
        (json!({"c_hash": "x", "nonce": "n"}), refused),
        (json!({"s_hash": null}), refused),
        (json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}), refused),
        (json!({"events": {}}), refused),
        (json!({"typ": "Refresh"}), refused),
        (json!({"typ": "ID"}), refused),
        (json!({"typ": "Offline"}), refused),
        (json!({"typ": "Logout"}), refused),
        (json!({"token_use": "id"}), refused),
        (json!({"token_type": "refresh"}), refused),
        (json!({"type": "refresh"}), refused),
        (json!({"typ": "Bearer"}), None),
        (json!({"token_use": "access"}), None),
        (json!({"type": 1}), None),
    ]);
}

#[test]
fn a_token_says_when_it_is_valid_to_the_very_second() {
    let (signer, verifier) = pair();
    let now = NOW.0;
    for (members, valid) in [
        (json!({"iat": now - 10, "exp": now + 600}), now - 10 - LEEWAY..now + 600 + LEEWAY),
        (json!({"iat": now - 10, "nbf": now - 20, "exp": now + 1}), now - 10 - LEEWAY..now + 1 + LEEWAY),
        (json!({"iat": now - 20, "nbf": now + LEEWAY, "exp": now + 9}), now..now + 9 + LEEWAY),
        (json!({"iat": now, "nbf": 0, "exp": now + 9}), now - LEEWAY..now + 9 + LEEWAY),
    ] {
        let mut claims = claims_without("iat");
        claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let token = signer.token(&claims);
        let found = verify(&verifier, &token).unwrap().valid().clone();
        assert_eq!(found.start.0..found.end.0, valid, "{members}");
        for (clock, accepted) in
            [(valid.start - 1, false), (valid.start, true), (valid.end - 1, true), (valid.end, false)]
        {
            assert_eq!(verifier.verify(&token, UnixTime(clock)).is_ok(), accepted, "{members} at {clock}");
        }
    }
}

#[test]
fn an_issuer_s_claims_are_read_where_its_configuration_says() {
    let signer = Signer::of(Algorithm::ES256);
    let path = |text: &str| config::ClaimPath::parse(text).unwrap();
    let verifier = adjusted(&[Algorithm::ES256], &signer.pem, |issuer| {
        issuer.claims = config::ClaimMap {
            client: vec![path("appid")],
            kept: [].into(),
            scopes: vec![path("/realm_access/roles"), path("https://a.example/roles")],
            subject: path("/user/id"),
            tenant: vec![path("tid"), path("/org~1unit")],
        };
    });
    let mapped = |members: serde_json::Value| {
        let mut claims = json!({"user": {"id": "u-1", "name": "Alice"}, "sub": ["not looked at"], "azp": 1});
        claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        verify(&verifier, &signer.token(&claims_with(claims)))
    };
    let verified =
        mapped(json!({"appid": "app", "realm_access": {"roles": ["b", "a"]}, "tid": "t"})).unwrap();
    assert_eq!(&**verified.subject(), "u-1");
    assert_eq!(verified.scopes()[..], ["a".into(), "b".into()]);
    assert_eq!(verified.client().map(|client| &**client), Some("app"));
    assert_eq!(verified.tenant().map(|tenant| &**tenant), Some("t"));
    let bare = mapped(json!({})).unwrap();
    assert_eq!((bare.scopes().len(), bare.client(), bare.tenant()), (0, None, None));

    for (members, expected) in [
        (json!({"realm_access": {"roles": "a b"}, "https://a.example/roles": ["b", "a"]}), None),
        (json!({"realm_access": {}}), None),
        (json!({"org/unit": "t", "tid": "t"}), None),
        (
            json!({"realm_access": {"roles": ["a"]}, "https://a.example/roles": ["b"]}),
            Some(TokenError::ClaimType),
        ),
        (json!({"realm_access": ["roles"]}), Some(TokenError::ClaimType)),
        (json!({"realm_access": null}), Some(TokenError::ClaimType)),
        (json!({"realm_access": {"roles": {"a": 1}}}), Some(TokenError::ClaimType)),
        (json!({"org/unit": "t", "tid": "u"}), Some(TokenError::ClaimType)),
        (json!({"tid": ""}), Some(TokenError::ClaimType)),
        (json!({"tid": 7}), Some(TokenError::ClaimType)),
        (json!({"tid": "a\r\nb"}), Some(TokenError::ClaimType)),
        (json!({"appid": ["app"]}), Some(TokenError::ClaimType)),
        (json!({"user": {}}), Some(TokenError::ClaimMissing)),
        (json!({"user": "u-1"}), Some(TokenError::ClaimType)),
        (json!({"user": {"id": ""}}), Some(TokenError::Subject)),
        (json!({"user": {"id": 1}}), Some(TokenError::ClaimType)),
    ] {
        assert_eq!(mapped(members.clone()).err(), expected, "{members}");
    }
}

#[test]
fn personal_data_in_a_token_is_ignored_noted_or_a_reason_to_refuse() {
    use config::SensitiveClaims::{Ignore, Reject, Warn};
    let signer = Signer::of(Algorithm::ES256);
    for (members, found) in [
        (json!({}), false),
        (json!({"card": "4111 1111 1111 1111"}), true),
        (json!({"email": "bob@mail.example"}), true),
        (json!({"profile": {"phone": "+49 30 123456"}}), true),
        (json!({"ids": ["219-09-9999"]}), true),
        (json!({"note": "nino QQ123456C"}), false),
        (json!({"note": "nino AB123456C"}), true),
        (json!({"passport_number": "C01X00T47"}), true),
        (json!({"db_password": 1}), true),
        (json!({"sid": "666-12-3456", "ref": "900-12-3456", "x": "123-00-4567", "y": "AB123456E"}), false),
        (json!({"order": "2024-11-0000", "z": "000-12-3456", "w": "123-45-0000"}), false),
    ] {
        for (policy, count, refused) in
            [(Ignore, 0, None), (Warn, 1, None), (Reject, 1, Some(TokenError::Sensitive))]
        {
            let verifier =
                adjusted(&[Algorithm::ES256], &signer.pem, |issuer| issuer.sensitive_claims = policy);
            let token = signer.token(&claims_with(members.clone()));
            assert_eq!(refusal(&verifier, &token), refused.filter(|_| found), "{members} {policy:?}");
            assert_eq!(verifier.sensitive(), if found { count } else { 0 }, "{members} {policy:?}");
            let forged = Signer::stranger().token(&claims_with(members.clone()));
            assert_eq!(refusal(&verifier, &forged), Some(TokenError::Signature), "{members} {policy:?}");
            assert_eq!(
                verifier.sensitive(),
                if found { count } else { 0 },
                "a stranger's counts for nothing"
            );
        }
    }
}

#[test]
fn the_log_names_a_claim_once_and_never_its_value() {
    let signer = Signer::of(Algorithm::ES256);
    let verifier = verifier(&[Algorithm::ES256], &signer.pem);
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = file.reopen().unwrap();
    let subscriber = tracing_subscriber::fmt().with_writer(log).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        for number in 0..200 {
            let name = format!("mail\n{}", number % 100);
            let token =
                signer.token(&claims_with(json!({"email": "bob@mail.example", name: "eve@mail.example"})));
            assert_eq!(refusal(&verifier, &token), None);
        }
    });
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(text.matches("claim=\"email\"").count(), 1, "{text}");
    assert_eq!(text.lines().count(), 64, "{text}");
    assert!(!text.contains("bob@") && !text.contains("eve@"), "{text}");
    assert_eq!(verifier.sensitive(), 200);
}

#[test]
fn the_claims_that_the_configuration_names_are_kept_in_their_canonical_form_and_no_others() {
    let signer = Signer::of(Algorithm::ES256);
    let path = |text: &str| config::ClaimPath::parse(text).unwrap();
    let verifier = adjusted(&[Algorithm::ES256], &signer.pem, |issuer| {
        issuer.claims.kept = [path("/a/b"), path("x")].into();
    });
    let list = |values: &[&str]| Kept::List(values.iter().map(|&value| value.into()).collect());
    let many: Vec<_> = (0..MAX_LIST).collect();
    let more: Vec<_> = (0..=MAX_LIST).collect();
    for (members, name, expected) in [
        (json!({}), "x", None),
        (json!({"x": null}), "x", None),
        (json!({"x": "alice"}), "x", Some(Kept::Text("alice".into()))),
        (json!({"x": "é/%2F;+"}), "x", Some(Kept::Text("é/%2F;+".into()))),
        (json!({"x": 1}), "x", Some(Kept::Number(1))),
        (json!({"x": -1}), "x", Some(Kept::Number(-1))),
        (json!({"x": i64::MAX}), "x", Some(Kept::Number(i64::MAX))),
        (json!({"x": true}), "x", Some(Kept::Boolean(true))),
        (json!({"x": ["a", 1, false]}), "x", Some(list(&["a", "1", "false"]))),
        (json!({"x": []}), "x", Some(list(&[]))),
        (
            json!({"x": many.clone()}),
            "x",
            Some(Kept::List(many.iter().map(|n| n.to_string().into()).collect())),
        ),
        (json!({"a": {"b": "c"}}), "/a/b", Some(Kept::Text("c".into()))),
        (json!({"a": {}}), "/a/b", None),
        (json!({"a.b": "c", "/a/b": "d"}), "/a/b", None),
        // What has no canonical form, or more than one.
        (json!({"x": more}), "x", Some(Kept::Unreadable)),
        (json!({"x": 1.0}), "x", Some(Kept::Unreadable)),
        (json!({"x": 1.5}), "x", Some(Kept::Unreadable)),
        (json!({"x": u64::MAX}), "x", Some(Kept::Unreadable)),
        (json!({"x": ""}), "x", Some(Kept::Unreadable)),
        (json!({"x": "alice "}), "x", Some(Kept::Unreadable)),
        (json!({"x": "a\u{0}b"}), "x", Some(Kept::Unreadable)),
        (json!({"x": "a".repeat(256)}), "x", Some(Kept::Unreadable)),
        (json!({"x": {"y": 1}}), "x", Some(Kept::Unreadable)),
        (json!({"x": ["a", ["b"]]}), "x", Some(Kept::Unreadable)),
        (json!({"x": ["a", null]}), "x", Some(Kept::Unreadable)),
        (json!({"x": ["a", 1.0]}), "x", Some(Kept::Unreadable)),
        (json!({"a": "b"}), "/a/b", Some(Kept::Unreadable)),
        (json!({"a": null}), "/a/b", Some(Kept::Unreadable)),
    ] {
        let verified = verify(&verifier, &signer.token(&claims_with(members.clone()))).unwrap();
        let names: Arc<[_]> = [path("/a/b"), path("x")].into();
        let all = KeptClaims::read(&names, |claim| expected.clone().filter(|_| *claim == path(name)));
        // What is in the token beside the claim that is looked at is not part of it.
        let claim = verified.kept().unwrap().claim(&path(name));
        assert_eq!(claim, all.unwrap().claim(&path(name)), "{members}");
        assert_eq!(verified.kept().unwrap().claim(&path("sub")), Claim::Unreadable, "{members}");
    }
    let (signer, verifier) = pair();
    assert!(verify(&verifier, &signer.token(&claims_with(json!({"x": "alice"})))).unwrap().kept().is_none());
}
