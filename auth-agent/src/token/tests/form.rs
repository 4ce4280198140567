//! What a token must look like before any of it is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use jsonwebtoken::Algorithm;

use super::mint::*;
use crate::token::TokenError;

#[test]
fn a_member_that_occurs_twice_is_refused_however_it_is_escaped() {
    let (signer, verifier) = pair();
    let good_claims = claims().to_string();
    for header in [
        r#"{"alg":"ES256","typ":"jwt","alg":"ES256"}"#,
        r#"{"alg":"none","typ":"jwt","alg":"ES256"}"#,
        r#"{"alg":"ES256","typ":"jwt","\u0061lg":"none"}"#,
        r#"{"alg":"ES256","typ":"jwt","kid":"a","kid":"b"}"#,
        r#"{"alg":"ES256","typ":"jwt","x":{"a":1,"\u0061":2}}"#,
        r#"{"alg":"ES256","typ":"jwt","x":[[{"a":1,"a":1}]]}"#,
    ] {
        let token = signer.sign(header, &good_claims);
        assert_eq!(refusal(&verifier, &token), Some(TokenError::DuplicateMember), "{header}");
    }
    let start = &good_claims[..good_claims.len() - 1];
    for more in [
        r#""sub":"admin""#,
        r#""s\u0075b":"admin""#,
        r#""\u0073\u0075\u0062":"admin""#,
        r#""exp":9999999999"#,
        r#""ISS":1,"iss":"https://evil.example""#,
        r#""x":{"y":{"a":1,"b":2,"a":3}}"#,
        r#""x":[{"":1,"":2}]"#,
        r#""x":{"\ud83d\ude00":1,"😀":2}"#,
        r#""x":{"a\/b":1,"a/b":2}"#,
    ] {
        let token = signer.sign(&header(Algorithm::ES256), &format!("{start},{more}}}"));
        assert_eq!(refusal(&verifier, &token), Some(TokenError::DuplicateMember), "{more}");
    }
}

#[test]
fn what_is_not_one_strict_json_object_is_refused() {
    let (signer, verifier) = pair();
    let good = claims().to_string();
    let start = &good[..good.len() - 1];
    let deep = |open: &str, close: &str| format!(r#"{start},"x":{}1{}}}"#, open.repeat(16), close.repeat(16));
    for claims in [
        "",
        "null",
        "[]",
        "\"text\"",
        "{",
        "{}x",
        &format!("{good}{good}"),
        &format!("{good}\u{0}"),
        &format!("\u{feff}{good}"),
        &format!("{start},}}"),
        &format!("{start},'a':1}}"),
        &format!("{start},a:1}}"),
        &format!("{start}/**/}}"),
        &format!(r#"{start},"x":NaN}}"#),
        &format!(r#"{start},"x":Infinity}}"#),
        &format!(r#"{start},"x":01}}"#),
        &format!(r#"{start},"x":+1}}"#),
        &format!(r#"{start},"x":1e999}}"#),
        &format!(r#"{start},"x":"\ud800"}}"#),
        &format!(r#"{start},"x":"\udc00\ud800"}}"#),
        &format!(r#"{start},"\ud800":1}}"#),
        &format!("{start},\"x\":\"a\nb\"}}"),
        &deep("[", "]"),
        &deep(r#"{"a":"#, "}"),
        &deep(r#"[{"a":"#, "}]"),
    ] {
        let token = signer.sign(&header(Algorithm::ES256), claims);
        assert_eq!(refusal(&verifier, &token), Some(TokenError::Malformed), "{claims}");
    }
    let shallow = format!(r#"{start},"x":{}1{}}}"#, "[".repeat(15), "]".repeat(15));
    assert_eq!(refusal(&verifier, &signer.sign(&header(Algorithm::ES256), &shallow)), None);
    for bytes in [&b"{\"sub\":\"\xff\"}"[..], b"{\"\xc0\xafx\":1}", b"{\"x\":\"\xed\xa0\x80\"}", b"\x80"] {
        let token = format!("{}.{}.AAAA", encode(header(Algorithm::ES256)), encode(bytes));
        assert_eq!(refusal(&verifier, &token), Some(TokenError::Malformed), "{bytes:?}");
        let token = format!("{}.{}.AAAA", encode(bytes), encode(&good));
        assert_eq!(refusal(&verifier, &token), Some(TokenError::Malformed), "{bytes:?}");
    }
}

#[test]
fn an_over_long_token_is_refused_before_it_is_read() {
    let (signer, verifier) = pair();
    // Filled up to the limit and one byte beyond; the signature no longer holds, or is no base64 at all.
    let filled = |bytes| format!("{:A<bytes$}", signer.token(&claims()));
    let at_limit = refusal(&verifier, &filled(MAX_BYTES));
    assert!(matches!(at_limit, Some(TokenError::Encoding | TokenError::Signature)), "{at_limit:?}");
    for (token, expected) in [
        (filled(MAX_BYTES + 1), TokenError::TooLong),
        ("!".repeat(MAX_BYTES + 1), TokenError::TooLong),
        (".".repeat(MAX_BYTES), TokenError::Malformed),
        ("a.".repeat(MAX_BYTES / 2), TokenError::Malformed),
    ] {
        assert_eq!(refusal(&verifier, &token), Some(expected), "{} bytes", token.len());
    }
}

#[test]
fn base64url_has_one_spelling() {
    let (_, verifier) = pair();
    let good: Vec<String> =
        Signer::of(Algorithm::ES256).token(&claims()).split('.').map(str::to_owned).collect();
    for part in 0..3 {
        let text = &good[part];
        let mut standard = URL_SAFE.encode([0xfb, 0xff, 0xfe]);
        standard = standard.replace('-', "+").replace('_', "/");
        for variant in [
            format!("{text}="),
            format!("{text}=="),
            format!(" {text}"),
            format!("{text} "),
            format!("{text}\n"),
            format!("{}\r\n{}", &text[..4], &text[4..]),
            format!("{text}\u{0}"),
            format!("{text}%3D"),
            format!("{text}é"),
            format!("{standard}{text}"),
        ] {
            let mut parts = good.clone();
            parts[part] = variant;
            let token = parts.join(".");
            assert_eq!(refusal(&verifier, &token), Some(TokenError::Encoding), "{token}");
        }
    }
    for stray in ["AB", "AAB", "A", "AAAAA", "-_-_B"] {
        assert_eq!(crate::token::wire::decode(stray), Err(TokenError::Encoding), "{stray}");
    }
}

#[test]
fn only_three_parts_make_a_token() {
    let (signer, verifier) = pair();
    let good = signer.token(&claims());
    let (header, rest) = good.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    for token in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        header.into(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{header}.{claims}.{signature}.{claims}.{signature}"),
        format!("{header}..{claims}.{signature}"),
    ] {
        assert_eq!(refusal(&verifier, &token), Some(TokenError::Malformed), "{token}");
    }
    assert_eq!(refusal(&verifier, &format!("Bearer {good}")), Some(TokenError::Encoding));
}

#[test]
fn every_reason_has_its_own_name_and_a_description_fit_for_a_challenge() {
    for (index, reason) in TokenError::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index, "ALL is in the order of the variants");
        assert!(reason.name().starts_with("token-"), "{reason:?}");
        assert!(TokenError::ALL[..index].iter().all(|other| other.name() != reason.name()), "{reason:?}");
        // RFC 6750 3: error_description.
        assert!(reason.description().bytes().all(|b| matches!(b, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e)));
    }
    assert_eq!(TokenError::ALL.last(), Some(&TokenError::Type), "the last variant");
}
