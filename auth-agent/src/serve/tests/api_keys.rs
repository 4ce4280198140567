//! API keys as they come over the network (ATTACKS.md 15). The expiry second and other sources are in the ring's
//! own tests, where clock and source are arguments.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::Version;

use super::edge::{Edge, SOURCE, request};
use crate::api_key::{ApiKey, KeyRing, StoredKey};
use crate::clock::UnixTime;
use crate::config::Rate;
use crate::credentials::Credentials;
use crate::issuers::Issuers;
use crate::limits::tests::{Charged, Fake};
use crate::token::Verifier;

type Change = fn(&mut StoredKey);

/// An edge that knows one key with these conditions, and the key.
async fn edge_with(change: Change, allow_browsers: bool) -> (Edge, String) {
    let (ring, _) = KeyRing::generated(3).unwrap();
    let key = ApiKey::generate().unwrap();
    let mut stored = StoredKey::new(key.id(), ring.hash(&key), "ci".into(), UnixTime(1));
    change(&mut stored);
    ring.insert(&stored);
    let tokens = Arc::new(Verifier::load(&[], 1024).unwrap());
    let issuers = Issuers::open(&[], std::path::Path::new(""), Arc::clone(&tokens), UnixTime(1)).unwrap();
    let credentials = Credentials::new(Arc::new(issuers), Arc::new(ring), Arc::default(), tokens);
    let allow = |config: &mut crate::config::Config| config.api_keys.allow_browsers = allow_browsers;
    let edge = Edge::verifying(Arc::new(credentials), Fake::new(1000, 1000), allow, |gateway| gateway).await;
    (edge, key.expose().to_owned())
}

/// The status, the reason, `Retry-After`.
async fn ask(edge: &Edge, target: &str, headers: &[(&str, &str)]) -> (u16, String, Option<String>) {
    let response = edge.send(Version::HTTP_11, request(Version::HTTP_11, "GET", target, headers, "")).await;
    let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let reason = problem["reason"].as_str().unwrap_or_default().to_owned();
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), reason, retry_after)
}

fn network(text: &str) -> Vec<ipnet::IpNet> {
    vec![text.parse().unwrap()]
}

#[tokio::test]
async fn a_key_opens_the_edge_only_as_it_was_made_to() {
    let table: [(&str, Change, u16, &str); 10] = [
        ("no conditions", |_| (), 200, ""),
        ("from inside its network", |key| key.networks = network("127.0.0.0/8"), 200, ""),
        ("from outside its network", |key| key.networks = network("192.0.2.0/24"), 403, "api-key-network"),
        ("an IPv6 network for an IPv4 client", |key| key.networks = network("::/0"), 403, "api-key-network"),
        ("expired long ago", |key| key.expires = Some(UnixTime(2)), 401, "api-key-expired"),
        ("expires in the far future", |key| key.expires = Some(UnixTime(u64::MAX)), 200, ""),
        ("revoked", |key| key.revoked = Some(UnixTime(2)), 401, "api-key-revoked"),
        (
            "rotated, within the overlap",
            |key| (key.expires, key.replaced_by) = (Some(UnixTime(u64::MAX)), Some(key.id)),
            200,
            "",
        ),
        (
            "rotated, after the overlap",
            |key| (key.expires, key.replaced_by) = (Some(UnixTime(2)), Some(key.id)),
            401,
            "api-key-expired",
        ),
        (
            "revoked, expired and elsewhere",
            |key| {
                key.revoked = Some(UnixTime(2));
                key.expires = Some(UnixTime(2));
                key.networks = network("192.0.2.0/24");
            },
            401,
            "api-key-revoked",
        ),
    ];
    for (what, change, status, reason) in table {
        let (edge, key) = edge_with(change, false).await;
        let answer = ask(&edge, "/api", &[("x-api-key", &key)]).await;
        assert_eq!(answer, (status, reason.to_owned(), None), "{what}");
        let failed = u32::from(status != 200);
        assert_eq!(edge.debts.of(SOURCE).auth_failures, failed, "{what}");
    }
}

#[tokio::test]
async fn no_guess_and_no_variant_of_a_key_opens_the_edge() {
    let (edge, key) = edge_with(|_| (), false).await;
    let another = ApiKey::generate().unwrap();
    let parts: Vec<_> = key.split('_').collect();
    let other: Vec<_> = another.expose().split('_').collect();
    let (long, upper) = ("k".repeat(4097), key.to_uppercase());
    let guesses = [
        (another.expose().to_owned(), "api-key-invalid"),
        (format!("aak_{}_{}_{}", parts[1], other[2], other[3]), "api-key-invalid"),
        (format!("aak_{}_{}_{}", parts[1], other[2], parts[3]), "api-key-invalid"),
        (format!("aak_{}_{}_000000", parts[1], parts[2]), "api-key-invalid"),
        (format!("aak_{}_{}", parts[1], parts[2]), "api-key-invalid"),
        (parts[1].to_owned(), "api-key-invalid"),
        (key[..key.len() - 1].to_owned(), "api-key-invalid"),
        (format!("{key}0"), "api-key-invalid"),
        (upper, "api-key-invalid"),
        ("aak_".to_owned(), "api-key-invalid"),
        (format!("{key},{key}"), "credential-malformed"),
        (format!("Bearer {key}"), "credential-malformed"),
        (long, "credential-malformed"),
    ];
    let count = u32::try_from(guesses.len()).unwrap();
    for (guess, reason) in guesses {
        let answer = ask(&edge, "/api", &[("x-api-key", &guess)]).await;
        assert_eq!(answer, (401, reason.to_owned(), None), "{guess}");
    }
    assert_eq!(edge.debts.of(SOURCE), Charged { auth_failures: count, known: false, requests: count });
    for (target, headers) in [
        (format!("/api?api_key={key}"), &[][..]),
        (format!("/api?X-API-Key={key}"), &[]),
        (format!("/api?%61pikey={key}"), &[]),
        (format!("/api?key={key}"), &[]),
        (format!("/api?page=1;token={}", key.replace('_', "%5F")), &[]),
    ] {
        let answer = ask(&edge, &target, headers).await;
        assert_eq!(answer, (401, "credential-malformed".to_owned(), None), "{target}");
    }
    let bearer = format!("Bearer {key}");
    assert_eq!(ask(&edge, "/api", &[("authorization", &bearer)]).await.1, "token-malformed");
    let cookie = format!("x-api-key={key}");
    assert_eq!(ask(&edge, "/api", &[("cookie", &cookie)]).await.1, "credential-missing");
    assert_eq!(ask(&edge, "/api", &[("x-api-key", &key)]).await.0, 200);
}

#[tokio::test]
async fn a_browser_is_refused_before_its_key_is_looked_at_unless_that_is_allowed() {
    let (edge, key) = edge_with(|_| (), false).await;
    let marks = [
        ("origin", "https://app.example"),
        ("Origin", "null"),
        ("ORIGIN", "https://localhost"),
        ("sec-fetch-site", "cross-site"),
        ("Sec-Fetch-Site", "same-origin"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-dest", "empty"),
        ("Sec-Fetch-User", "?1"),
        ("sec-fetch-storage-access", "none"),
    ];
    let guess = ApiKey::generate().unwrap();
    for mark in marks {
        for key in [key.as_str(), guess.expose(), "nonsense"] {
            let answer = ask(&edge, "/api", &[("x-api-key", key), mark]).await;
            assert_eq!(answer, (403, "api-key-browser".to_owned(), None), "{mark:?}");
        }
    }
    assert_eq!(edge.debts.of(SOURCE).auth_failures, 0, "nothing was guessed");
    assert_eq!(
        ask(&edge, "/open", &[("x-api-key", &key), marks[0]]).await.0,
        200,
        "where no key is asked for"
    );
    let (edge, key) = edge_with(|_| (), true).await;
    for mark in marks {
        assert_eq!(ask(&edge, "/api", &[("x-api-key", &key), mark]).await.0, 200, "{mark:?}");
    }
}

#[tokio::test]
async fn a_key_over_its_own_limit_is_answered_429_with_its_own_reason() {
    let two_an_hour: Change = |key| {
        let number = |number| NonZeroU32::new(number).unwrap();
        key.rate = Some(Rate { burst: number(2), events: number(1), period: Duration::from_secs(3600) });
    };
    let (edge, key) = edge_with(two_an_hour, false).await;
    for _ in 0..2 {
        assert_eq!(ask(&edge, "/api", &[("x-api-key", &key)]).await.0, 200);
    }
    let (status, reason, retry_after) = ask(&edge, "/api", &[("x-api-key", &key)]).await;
    assert_eq!((status, &*reason), (429, "api-key-limit"));
    assert!(retry_after.unwrap().parse::<u32>().unwrap() > 3500);
    assert_eq!(edge.debts.of(SOURCE).auth_failures, 0);
}
