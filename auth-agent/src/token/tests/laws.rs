//! What holds for every token.

use jsonwebtoken::Algorithm;
use proptest::prelude::*;

use super::mint::*;
use crate::token::{Verifier, inspect};

/// A character that may stand in a token, or may not.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        prop::sample::select(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().collect::<Vec<_>>()
        ),
        prop::sample::select(". =+/\n\t\0é".chars().collect::<Vec<_>>()),
        any::<char>(),
    ]
}

/// One verifier and one good token per kind of signature.
fn subjects() -> Vec<(Verifier, String)> {
    [Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256, Algorithm::RS256]
        .into_iter()
        .map(|algorithm| {
            let signer = Signer::of(algorithm);
            (verifier(&[algorithm], signer.jwk().to_string()), signer.token(&claims()))
        })
        .collect()
}

/// The inspection says what the verifier does, and does not show the signature.
fn assert_inspection_agrees(verifier: &Verifier, token: &str) {
    let inspection = inspect(token, Some(verifier), NOW);
    let refusal = verify(verifier, token.trim()).err();
    assert_eq!(inspection.refusal, refusal, "{token}");
    assert_eq!(inspection.accepted, refusal.is_none(), "{token}");
    let first = inspection.checks.iter().find_map(|check| check.reason);
    assert_eq!(first, refusal, "the first failed check decides: {token}");
}

#[test]
fn every_single_character_counts() {
    for (verifier, good) in subjects() {
        assert_eq!(refusal(&verifier, &good), None);
        for at in 0..good.len() {
            let last_but_one = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
            for other in [last_but_one, "", ".", "="] {
                let mut token = good.clone();
                token.replace_range(at..=at, other);
                if token != good {
                    assert!(refusal(&verifier, &token).is_some(), "{token}");
                }
            }
            assert!(refusal(&verifier, &good[..at]).is_some(), "cut at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_string_makes_the_verifier_panic(token in "\\PC*", json in "\\PC*") {
        let (_, verifier) = pair();
        prop_assert!(refusal(&verifier, &token).is_some());
        assert_inspection_agrees(&verifier, &token);
        let framed = format!("{}.{}.{}", encode(header(Algorithm::ES256)), encode(&json), encode(&token));
        prop_assert!(refusal(&verifier, &framed).is_some());
        assert_inspection_agrees(&verifier, &framed);
    }

    #[test]
    fn a_changed_inserted_or_removed_character_is_refused(
        at in any::<prop::sample::Index>(), other in character(), how in 0..3,
    ) {
        for (verifier, good) in subjects() {
            let at = at.index(good.len());
            let mut token = good.clone();
            match how {
                0 => token.insert(at, other),
                1 => token.replace_range(at..=at, ""),
                _ => token.replace_range(at..=at, other.encode_utf8(&mut [0; 4])),
            }
            if token != good {
                prop_assert!(refusal(&verifier, &token).is_some(), "{}", token);
                assert_inspection_agrees(&verifier, &token);
            }
        }
    }

    #[test]
    fn a_signed_token_of_any_json_is_judged_without_a_panic(
        name in prop::sample::select(vec!["aud", "azp", "exp", "iat", "iss", "jti", "nbf", "scope", "scp", "sub", "typ"]),
        value in prop::sample::select(vec![
            "null", "true", "0", "-1", "1.5", "18446744073709551615", "\"\"", "\"x\"", "[]", "{}", "[[]]", "{\"a\":{}}",
        ]),
        clock in any::<u64>(),
    ) {
        let (signer, verifier) = pair();
        let mut claims = claims();
        claims[name] = serde_json::from_str(value).unwrap();
        let token = signer.token(&claims);
        assert_inspection_agrees(&verifier, &token);
        let _ = verifier.verify(&token, crate::clock::UnixTime(clock));
        let _ = inspect(&token, Some(&verifier), crate::clock::UnixTime(clock)).to_text();
    }
}
