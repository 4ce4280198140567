//! Rotation, outage, restart, discovery.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::sync::Semaphore;

use super::lab::{Agent, KEYS, Lab, MAX_AGE, set};
use super::server::{Answer, bare, good, with};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Issuer, RemoteKeys};
use crate::https_url::HttpsUrl;
use crate::issuers::keeper::{Keeper, MAX_WAITERS};
use crate::issuers::{MissingKey, Source};
use crate::token::TokenError;
use crate::token::tests::mint::{MAX_BYTES, Signer};

/// Saves a set by fetching it once, and lets that agent go. Returns when it was fetched.
async fn saved(lab: &Lab, keys: &[(&str, &Signer)]) -> UnixTime {
    lab.server.answer(KEYS, good(&set(keys)));
    let agent = lab.agent(lab.at_keys()).running();
    agent.refresh().await.unwrap();
    agent.status().fetched.unwrap()
}

fn old_and_new() -> (Signer, Signer) {
    (Signer::of(Algorithm::ES256), Signer::stranger())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_costs_one_fetch() {
    let lab = Lab::new().await;
    let (signer, new) = old_and_new();
    saved(&lab, &[("old", &signer)]).await;
    let before = lab.server.requests().len();
    let gate = Arc::new(Semaphore::new(0));
    lab.server.answer(KEYS, Answer::Held(Arc::clone(&gate), set(&[("old", &signer), ("new", &new)])));
    let agent = lab.agent(lab.at_keys()).running();
    while lab.server.requests().len() == before {
        tokio::task::yield_now().await;
    }
    let ask = |id: &str| agent.issuers.missing_key(&agent.token(&signer, id), Monotonic::now());
    let coming = |id| match ask(&format!("flood-{id}")) {
        MissingKey::Coming(keys) => keys,
        _ => panic!("a fetch is under way"),
    };
    let mut waiting: Vec<_> = (0..MAX_WAITERS).map(coming).collect();
    assert!(matches!(ask("one more"), MissingKey::NotNow), "no more wait");
    waiting.pop();
    let rotated = agent.refusal_after_waiting(&new, "new");
    gate.add_permits(1);
    assert_eq!(rotated.await, None, "who waited is served");
    for keys in waiting {
        keys.await;
    }
    for id in 0..1_000 {
        let asked = ask(&format!("flood-{id}"));
        assert!(matches!(asked, MissingKey::NotNow), "{id}: that fetch began before it was asked for");
    }
    assert_eq!(lab.server.requests().len(), before + 1);
    assert_eq!(agent.refusal(&signer, "old"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_refresh_at_once_share_one_fetch() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    let gate = Arc::new(Semaphore::new(0));
    lab.server.answer(KEYS, Answer::Held(Arc::clone(&gate), set(&[("old", &signer)])));
    let agent = lab.agent(lab.at_keys()).running();
    while lab.server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    // In this order: all of them wait before it is let go.
    let release = async { gate.add_permits(1) };
    let (first, second, third, ()) = tokio::join!(agent.refresh(), agent.refresh(), agent.refresh(), release);
    assert_eq!((first, second, third), (Ok(()), Ok(()), Ok(())));
    assert_eq!((lab.server.requests().len(), agent.status().fetches), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_a_fetch_alone_and_one_that_broke_off_is_made_anew() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    let keys = || set(&[("old", &signer)]);
    let gate = Arc::new(Semaphore::new(0));
    lab.server.answer(KEYS, Answer::Held(Arc::clone(&gate), keys()));
    let agent = lab.agent(lab.at_keys()).running();
    while lab.server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let another =
        Issuer { name: "another".into(), issuer: "https://another.example".into(), ..agent.config.clone() };
    for issuers in [vec![agent.config.clone()], vec![agent.config.clone(), another.clone()]] {
        agent.tokens.change(agent.tokens.prepare(&issuers, MAX_BYTES).unwrap());
        agent.issuers.change(&issuers, UnixTime::now()).unwrap();
    }
    // That of the issuer that came along is the second.
    while lab.server.requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    lab.server.answer(KEYS, good(&keys()));
    gate.add_permits(2);
    while agent.status().fetches == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((agent.status().failures, lab.server.requests().len()), (0, 2), "one fetch each");

    lab.server.answer(KEYS, Answer::Held(Arc::new(Semaphore::new(0)), keys()));
    let demanded = tokio::spawn({
        let keeper = keeper_of(&agent, "main");
        async move { keeper.demand().await }
    });
    while lab.server.requests().len() < 3 {
        tokio::task::yield_now().await;
    }
    agent.issuers.end();
    lab.server.answer(KEYS, good(&keys()));
    agent.issuers.keep();
    assert_eq!(demanded.await.unwrap(), Ok(()));
    assert_eq!((agent.status().failures, agent.status().fetches), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_with_overlap_and_a_removed_one_is_refused_at_once() {
    let lab = Lab::new().await;
    let (old, new) = old_and_new();
    let unknown = Some(TokenError::KeyUnknown);
    lab.server.answer(KEYS, good(&set(&[("old", &old)])));
    let agent = lab.agent(lab.at_keys()).running();
    for (keys, of_old, of_new) in [
        (vec![("old", &old)], None, unknown),
        (vec![("old", &old), ("new", &new)], None, None),
        (vec![("new", &new)], unknown, None),
        // The same key by another name is another key.
        (vec![("newer", &new)], unknown, unknown),
    ] {
        lab.server.answer(KEYS, good(&set(&keys)));
        agent.refresh().await.unwrap();
        assert_eq!((agent.refusal(&old, "old"), agent.refusal(&new, "new")), (of_old, of_new));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_changes_nothing_until_the_keys_are_too_old_and_is_over_with_the_next_fetch() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    lab.server.answer(KEYS, good(&set(&[("old", &signer)])));
    let agent = lab.agent(lab.at_keys()).running();
    agent.refresh().await.unwrap();
    lab.server.answer(KEYS, bare("500 Internal Server Error", ""));
    agent.refresh().await.unwrap_err();
    let fetched = agent.status().fetched.unwrap();
    let keeper = keeper(&agent);
    keeper.expire(UnixTime(fetched.0 + MAX_AGE - 1), Monotonic::now());
    assert_eq!(agent.refusal(&signer, "old"), None);
    keeper.expire(UnixTime(fetched.0 + MAX_AGE), Monotonic::now());
    assert_eq!(agent.refusal(&signer, "old"), Some(TokenError::KeysUnavailable));
    let status = agent.status();
    assert!(status.keys.is_empty() && status.fetched.is_none() && status.error.is_some());
    agent.refresh().await.unwrap_err();
    assert_eq!(agent.refusal(&signer, "old"), Some(TokenError::KeysUnavailable));

    lab.server.answer(KEYS, good(&set(&[("old", &signer)])));
    agent.refresh().await.unwrap();
    assert_eq!((agent.refusal(&signer, "old"), agent.status().error), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_clock_step_took_away_are_fetched_at_once() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    lab.server.answer(KEYS, good(&set(&[("old", &signer)])));
    let agent = lab.agent(lab.at_keys()).running();
    agent.refresh().await.unwrap();
    let (before, fetched) = (agent.status().fetches, agent.status().fetched.unwrap());
    keeper(&agent).expire(UnixTime(fetched.0 + MAX_AGE), Monotonic::now());
    while agent.status().fetches == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.refusal(&signer, "old"), None);
}

/// By itself, and on the real clock: the keeper's own timer has to do it.
#[tokio::test(flavor = "multi_thread")]
async fn keys_go_out_of_use_by_themselves_when_they_are_too_old() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    let fetched = saved(&lab, &[("old", &signer)]).await;
    lab.server.answer(KEYS, bare("500 Internal Server Error", ""));
    let second = std::time::Duration::from_secs(1);
    let agent = lab.agent_at(RemoteKeys { max_age: 2 * second, ..lab.at_keys() }, fetched);
    assert_eq!(agent.refusal(&signer, "old"), None);
    let agent = agent.running();
    while agent.refusal(&signer, "old") != Some(TokenError::KeysUnavailable) {
        tokio::time::sleep(second / 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_during_an_outage_has_the_last_good_keys() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    saved(&lab, &[("old", &signer)]).await;
    let file = lab.directory.path().join("issuer-main.keys");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    lab.server.answer(KEYS, bare("500 Internal Server Error", ""));

    let agent = lab.agent(lab.at_keys());
    assert_eq!(agent.refusal(&signer, "old"), None, "before anything is fetched");
    let agent = agent.running();
    agent.refresh().await.unwrap_err();
    assert_eq!(agent.refusal(&signer, "old"), None);

    let now = UnixTime::now();
    let unusable = |keys: RemoteKeys, now: UnixTime, why: &str| {
        let agent = lab.agent_at(keys, now);
        assert_eq!(agent.refusal(&signer, "old"), Some(TokenError::KeysUnavailable), "{why}");
    };
    unusable(lab.at_keys(), UnixTime(now.0 + MAX_AGE + 60), "too old");
    unusable(lab.at_keys(), UnixTime(now.0 - 3600), "from the future");
    let elsewhere = HttpsUrl::parse(&lab.server.url("/other")).unwrap();
    unusable(lab.remote(crate::config::RemoteSource::Jwks(elsewhere)), now, "another source");
    unusable(lab.discovered("/"), now, "another way to find them");
    let text = fs::read_to_string(&file).unwrap();
    for (text, mode, why) in [
        (text.as_str(), 0o640, "others may read it"),
        (text.as_str(), 0o602, "others may write it"),
        (&text[..text.len() / 2], 0o600, "cut off"),
        ("", 0o600, "empty"),
        (&*text.replace("\\\"kid\\\"", "\\\"kid"), 0o600, "no key set"),
    ] {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        unusable(lab.at_keys(), now, why);
    }
    fs::write(&file, &text).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(lab.agent(lab.at_keys()).refusal(&signer, "old"), None, "as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_had_keys_starts_and_keeps_trying() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    let agent = lab.agent(lab.at_keys());
    assert_eq!(agent.refusal(&signer, "old"), Some(TokenError::KeysUnavailable));
    let agent = agent.running();
    while lab.server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    lab.server.answer(KEYS, good(&set(&[("old", &signer)])));
    // Nobody asks for it: the second attempt comes after a second.
    while agent.refusal(&signer, "old").is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(agent.status().failures >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_set_again_is_no_change_and_the_servers_word_sets_the_pace() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    let keys = set(&[("old", &signer)]);
    lab.server.answer(KEYS, with("Cache-Control: max-age=1200\r\n", &keys));
    let minute = std::time::Duration::from_secs(60);
    let agent = lab.agent(RemoteKeys { refresh_min: minute, ..lab.at_keys() }).running();
    agent.refresh().await.unwrap();
    let left = || agent.status().next_refresh.unwrap().0.saturating_sub(UnixTime::now().0);
    assert!((61..=1200).contains(&left()), "{}", left());
    lab.server.answer(KEYS, with("Cache-Control: no-store\r\n", &keys));
    agent.refresh().await.unwrap();
    assert!(left() <= 60, "{}", left());
    assert_eq!(agent.status().fetches, lab.server.requests().len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_saved_is_used_and_told_of() {
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    fs::create_dir_all(lab.directory.path().join("issuer-main.keys/in the way")).unwrap();
    lab.server.answer(KEYS, good(&set(&[("old", &signer)])));
    let agent = lab.agent(lab.at_keys()).running();
    agent.refresh().await.unwrap();
    assert_eq!(agent.refusal(&signer, "old"), None);
    let status = agent.status();
    assert!(status.save_error.unwrap().contains("issuer-main.keys: the saved keys can't be written"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_discovered_from_exactly_their_issuers_metadata() {
    const OPENID: &str = "/realm/.well-known/openid-configuration";
    const OAUTH: &str = "/.well-known/oauth-authorization-server/realm";
    let lab = Lab::new().await;
    let (signer, _) = old_and_new();
    lab.server.answer(KEYS, good(&set(&[("old", &signer)])));
    let (issuer, keys) = (lab.server.url("/realm"), lab.server.url(KEYS));
    let metadata = |issuer: &str, keys: &str| good(&json!({"issuer": issuer, "jwks_uri": keys}).to_string());
    let right = || metadata(&issuer, &keys);
    let none = || bare("404 Not Found", "");
    let wrong = || metadata("https://evil.example", &keys);
    for (openid, oauth, expected, asked) in [
        (right(), none(), Ok(()), vec![OPENID, KEYS]),
        (none(), right(), Ok(()), vec![OPENID, OAUTH, KEYS]),
        (good("<html>"), right(), Ok(()), vec![OPENID, OAUTH, KEYS]),
        (none(), none(), Err("openid-configuration: answered with status 404"), vec![OPENID, OAUTH]),
        (bare("500 Oops", ""), right(), Err("answered with status 500"), vec![OPENID]),
        (wrong(), right(), Err("is that of issuer \"https://evil.example\""), vec![OPENID]),
        (none(), wrong(), Err("is that of issuer \"https://evil.example\""), vec![OPENID, OAUTH]),
        (metadata(&format!("{issuer}/"), &keys), right(), Err("is that of issuer"), vec![OPENID]),
        (
            metadata(&issuer, "http://localhost/keys"),
            right(),
            Err("jwks_uri does not start with https://"),
            vec![OPENID],
        ),
        (
            metadata(&issuer, &lab.server.url("/gone")),
            right(),
            Err("/gone: answered with status 404"),
            vec![OPENID, "/gone"],
        ),
    ] {
        let _ = fs::remove_file(lab.directory.path().join("issuer-main.keys"));
        let before = lab.server.requests().len();
        lab.server.answer(OPENID, openid);
        lab.server.answer(OAUTH, oauth);
        let agent = lab.agent(lab.discovered("/realm")).running();
        match (agent.refresh().await, expected) {
            (Ok(()), Ok(())) => assert_eq!(agent.refusal(&signer, "old"), None),
            (Err(error), Err(words)) => {
                assert!(error.contains(words), "{error}\nlacks: {words}");
                assert_eq!(agent.refusal(&signer, "old"), Some(TokenError::KeysUnavailable));
            }
            (done, expected) => panic!("{done:?} in place of {expected:?}"),
        }
        // The agent's own first fetch may be over before this one begins.
        let requests = lab.server.requests();
        let mut fetches = requests[before..].chunks(asked.len());
        assert!(fetches.len() > 0 && fetches.all(|fetch| fetch == asked), "{requests:?}\nare not {asked:?}");
    }
}

fn keeper(agent: &Agent) -> Arc<Keeper> {
    keeper_of(agent, "main")
}

fn keeper_of(agent: &Agent, name: &str) -> Arc<Keeper> {
    let sources = agent.issuers.sources.load();
    let source = sources.iter().find(|source| source.name() == name).unwrap();
    let Source::Remote(keeper) = &**source else { panic!("one that publishes") };
    Arc::clone(keeper)
}
