use std::net::Ipv4Addr;

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::*;
use crate::api_key::{Pepper, StoredKey};
use crate::authenticate;
use crate::config::ClaimPath;
use crate::explain::Trail;
use crate::identity::Claim;
use crate::thumbprint::Thumbprint;
use crate::token::tests::mint::{self, NOW, Signer};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Setup {
    counters: Arc<TokenCounters>,
    credentials: Credentials,
    signer: Signer,
    tokens: Arc<Verifier>,
    _directory: tempfile::TempDir,
}

fn setup(config: config::Tokens) -> Setup {
    let (signer, tokens) = mint::pair();
    let directory = tempfile::tempdir().unwrap();
    let pepper = Pepper::open(directory.path(), false).unwrap();
    let (tokens, counters) = (Arc::new(tokens), Arc::<TokenCounters>::default());
    let issuers = Arc::new(Issuers::open(&[], directory.path(), Arc::clone(&tokens), NOW).unwrap());
    let ring = Arc::new(KeyRing::new(pepper, []));
    let credentials = Credentials::new(issuers, ring, Arc::default(), Arc::clone(&tokens))
        .remembering(&config, Arc::clone(&counters));
    Setup { counters, credentials, signer, tokens, _directory: directory }
}

fn outcome(setup: &Setup, token: &str, now: u64) -> Result<Arc<Identity>, Refusal> {
    setup.credentials.token(token, UnixTime(now), &Trail::default()).map_err(|denied| denied.refusal)
}

/// Hits, misses, known forgeries.
fn counted(setup: &Setup) -> [u64; 3] {
    let counters = &setup.counters;
    [&counters.hits, &counters.misses, &counters.negative_hits].map(|counter| counter.load(Relaxed))
}

#[test]
fn a_token_is_verified_once_and_the_same_identity_answers_for_it() {
    let setup = setup(config::Tokens::default());
    let token = setup.signer.token(&mint::claims());
    let first = outcome(&setup, &token, NOW.0).unwrap();
    let second = outcome(&setup, &token, NOW.0 + 1).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(counted(&setup), [1, 1, 0]);
    assert_eq!(first.facts().token, Some(TokenHash::of(&token)));
    assert_eq!(first.facts().expires, Some(UnixTime(NOW.0 + 600 + mint::LEEWAY)));
}

#[test]
fn a_bound_token_is_held_against_the_connection_s_certificate_remembered_or_not() {
    let setup = setup(config::Tokens::default());
    let thumbprint = Thumbprint::of(b"certificate");
    let claims = mint::claims_with(json!({"cnf": {"x5t#S256": thumbprint.to_string()}}));
    let token = setup.signer.token(&claims);
    for hits in 0..3 {
        let identity = outcome(&setup, &token, NOW.0).unwrap();
        assert_eq!(counted(&setup)[0], hits);
        assert_eq!(identity.facts().certificate, Some(thumbprint));
        let refused = authenticate::bound(identity, None).unwrap_err().refusal;
        assert_eq!(refused, Refusal::TokenUnbound);
    }
    let unbound = outcome(&setup, &setup.signer.token(&mint::claims()), NOW.0).unwrap();
    assert!(authenticate::bound(unbound, None).is_ok());
}

#[test]
fn what_is_remembered_is_valid_no_longer_than_the_token() {
    let setup = setup(config::Tokens::default());
    let (start, end) = (NOW.0 + 60, NOW.0 + 600);
    let token = setup.signer.token(&mint::claims_with(json!({"nbf": start, "exp": end})));
    for (now, expected) in [
        (start - mint::LEEWAY, None),
        (start - mint::LEEWAY - 1, Some(TokenError::NotYetValid)),
        (start, None),
        (end + mint::LEEWAY - 1, None),
        (end + mint::LEEWAY, Some(TokenError::Expired)),
        (end, None),
        (u64::MAX, Some(TokenError::Expired)),
        (0, Some(TokenError::NotYetValid)),
    ] {
        let found = outcome(&setup, &token, now).err();
        assert_eq!(found, expected.map(Refusal::Token), "at {now}");
    }
}

#[test]
fn a_change_of_an_issuer_s_keys_forgets_its_tokens_and_forgeries() {
    let setup = setup(config::Tokens::default());
    let stranger = Signer::stranger();
    let mine = setup.signer.token(&mint::claims());
    let theirs = stranger.token(&mint::claims());
    let signature = Some(Refusal::Token(TokenError::Signature));
    for expected in [[0, 2, 0], [1, 2, 1]] {
        assert_eq!(outcome(&setup, &mine, NOW.0).err(), None);
        assert_eq!(outcome(&setup, &theirs, NOW.0).err(), signature);
        assert_eq!(counted(&setup), expected);
    }
    setup.tokens.replace_keys("main", stranger.pem.as_bytes()).unwrap();
    for expected in [[1, 4, 1], [2, 4, 2]] {
        assert_eq!(outcome(&setup, &theirs, NOW.0).err(), None);
        assert_eq!(outcome(&setup, &mine, NOW.0).err(), signature);
        assert_eq!(counted(&setup), expected);
    }
    setup.tokens.replace_keys("main", setup.signer.pem.as_bytes()).unwrap();
    assert_eq!(outcome(&setup, &mine, NOW.0).err(), None);
    assert_eq!(outcome(&setup, &theirs, NOW.0).err(), signature);
    assert_eq!(counted(&setup), [2, 6, 2]);
}

#[test]
fn a_token_is_verified_again_when_the_configuration_names_other_claims() {
    let setup = setup(config::Tokens::default());
    let path = |text: &str| ClaimPath::parse(text).unwrap();
    let token = setup.signer.token(&mint::claims_with(json!({"role": "clerk", "tenant": 7})));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &setup.signer.pem).unwrap();
    let issuer = |names: &[&str]| {
        let issuer = mint::issuer(&[Algorithm::ES256], file.path());
        let kept = names.iter().map(|name| path(name)).collect();
        config::Issuer { claims: config::ClaimMap { kept, ..issuer.claims }, ..issuer }
    };
    for (names, role, tenant, misses) in [
        (&["role"][..], Claim::Text("clerk"), Claim::Unreadable, 1),
        (&["role", "tenant"], Claim::Text("clerk"), Claim::Number(7), 2),
        (&["role", "tenant"], Claim::Text("clerk"), Claim::Number(7), 2),
        (&["other"], Claim::Unreadable, Claim::Unreadable, 3),
        (&[], Claim::Unreadable, Claim::Unreadable, 4),
    ] {
        setup.tokens.change(setup.tokens.prepare(&[issuer(names)], mint::MAX_BYTES).unwrap());
        for _ in 0..2 {
            let identity = outcome(&setup, &token, NOW.0).unwrap();
            assert_eq!(
                (identity.claim(&path("role")), identity.claim(&path("tenant"))),
                (role, tenant),
                "{names:?}"
            );
        }
        assert_eq!(counted(&setup)[1], misses, "{names:?}");
    }
}

#[test]
fn one_changed_character_is_another_token() {
    let setup = setup(config::Tokens::default());
    let token = setup.signer.token(&mint::claims());
    outcome(&setup, &token, NOW.0).unwrap();
    for at in 0..token.len() {
        let mut other = token.clone();
        other.replace_range(at..=at, if &token[at..=at] == "A" { "B" } else { "A" });
        assert!(outcome(&setup, &other, NOW.0).is_err(), "{other}");
    }
    assert_eq!(counted(&setup)[0], 0);
}

#[test]
fn only_wrong_signatures_are_remembered_of_what_is_refused() {
    let setup = setup(config::Tokens::default());
    let forged = Signer::stranger().token(&mint::claims());
    let expired = setup.signer.token(&mint::claims_with(json!({"exp": NOW.0 - 100})));
    let unknown_key =
        setup.signer.sign(r#"{"alg":"ES256","typ":"jwt","kid":["x"]}"#, &mint::claims().to_string());
    for token in ["garbage", &expired, &unknown_key, &"x".repeat(mint::MAX_BYTES + 1)] {
        for _ in 0..2 {
            outcome(&setup, token, NOW.0).unwrap_err();
        }
    }
    assert_eq!(counted(&setup), [0, 6, 0], "an over-long token is not even hashed");
    for _ in 0..3 {
        outcome(&setup, &forged, NOW.0).unwrap_err();
    }
    assert_eq!(counted(&setup), [0, 7, 2]);
}

#[test]
fn without_memory_nothing_is_remembered() {
    let setup = setup(config::Tokens { cache_bytes: 0, ..config::Tokens::default() });
    let token = setup.signer.token(&mint::claims());
    let forged = Signer::stranger().token(&mint::claims());
    for _ in 0..2 {
        outcome(&setup, &token, NOW.0).unwrap();
        outcome(&setup, &forged, NOW.0).unwrap_err();
    }
    assert_eq!(counted(&setup), [0, 0, 0]);
}

#[test]
fn a_guess_is_known_by_the_issuer_and_the_name_of_the_key_whatever_else_is_in_the_token() {
    let setup = setup(config::Tokens::default());
    let guess = |token: &str| setup.credentials.token(token, NOW, &Trail::default()).unwrap_err().guess;
    let forger = Signer::stranger();
    let with_kid = |kid: &str, members| {
        let header = json!({"alg": "ES256", "typ": "jwt", "kid": kid}).to_string();
        forger.sign(&header, &mint::claims_with(members).to_string())
    };
    let one = guess(&with_kid("a", json!({})));
    assert!(one.is_some());
    let forged = with_kid("a", json!({"sub": "admin"}));
    assert_eq!([guess(&forged), guess(&forged)], [one, one], "remembered or not");
    assert_ne!(guess(&with_kid("b", json!({}))), one);
    for nothing_guessed in [
        setup.signer.token(&mint::claims_with(json!({"exp": NOW.0 - 100}))),
        forger.token(&mint::claims_with(json!({"aud": "x"}))),
        "garbage".to_owned(),
    ] {
        assert_eq!(guess(&nothing_guessed), None, "{nothing_guessed}");
    }
}

#[test]
fn a_guess_at_an_api_key_is_known_by_its_id() {
    let setup = setup(config::Tokens::default());
    let guess = |key: &str| {
        setup.credentials.api_key(key, SOURCE, Now { monotonic: Monotonic(0), unix: NOW }).unwrap_err().guess
    };
    let (one, two) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    assert!(guess(one.expose()).is_some());
    assert_eq!(guess(one.expose()), guess(one.expose()));
    assert_ne!(guess(one.expose()), guess(two.expose()));
    assert_eq!(guess("aak_x"), None);
}

#[test]
fn keys_of_another_algorithm_do_not_answer_for_what_was_remembered() {
    let setup = setup(config::Tokens::default());
    let token = setup.signer.token(&mint::claims());
    outcome(&setup, &token, NOW.0).unwrap();
    let other = Signer::of(Algorithm::EdDSA);
    setup.tokens.replace_keys("main", other.pem.as_bytes()).unwrap_err();
    outcome(&setup, &token, NOW.0).unwrap();
    assert_eq!(counted(&setup), [1, 1, 0], "keys that are refused change nothing");
}

#[test]
fn a_rotated_key_is_over_at_its_new_end_for_what_goes_on_with_it_too() {
    let (ring, keys) = KeyRing::generated(1).unwrap();
    let ring = Arc::new(ring);
    let setup = setup(config::Tokens::default());
    let issuers =
        Arc::new(Issuers::open(&[], setup._directory.path(), Arc::clone(&setup.tokens), NOW).unwrap());
    let credentials = Credentials::new(issuers, Arc::clone(&ring), Arc::default(), Arc::clone(&setup.tokens));
    let now = Now { monotonic: Monotonic(0), unix: NOW };
    let identity =
        credentials.api_key(keys[0].expose(), SOURCE, now).unwrap_or_else(|_| panic!("a key is refused"));
    let end = UnixTime(NOW.0 + 100);
    assert!(!credentials.is_over(&identity, end));
    let stored = StoredKey::new(keys[0].id(), ring.hash(&keys[0]), "service-0".into(), UnixTime(1));
    ring.insert(&StoredKey { expires: Some(end), ..stored });
    assert!(!credentials.is_over(&identity, UnixTime(end.0 - 1)));
    assert!(credentials.is_over(&identity, end));
}
