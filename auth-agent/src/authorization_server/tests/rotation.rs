//! Signing keys over time: a fake clock, and restarts.

use std::fs;

use super::*;

const DAY: u64 = 86_400;
const TEN_MINUTES: u64 = 600;

/// `signs` for the one that signs, `next` for those whose time has not come, `old` for the others.
fn states(site: &Site, now: Now) -> Vec<&'static str> {
    let report = site.issuer.keys.report(now.unix);
    report
        .iter()
        .map(|key| match key.signs {
            true => "signs",
            false if key.signs_from > now.unix => "next",
            false => "old",
        })
        .collect()
}

fn kids(site: &Site) -> Vec<String> {
    site.issuer.keys.report(NOW).into_iter().map(|key| key.kid).collect()
}

fn grant(now: Now, lifetime: u64) -> Grant {
    let expires = UnixTime(now.unix.0 + lifetime);
    Grant { client: "operator".into(), expires, scopes: vec![], subject: "alice".into() }
}

#[tokio::test]
async fn the_next_key_is_published_before_it_signs_and_the_old_one_until_its_last_token_is_over() {
    for algorithm in ["ES256", "EdDSA"] {
        let site = Site::open(&format!("algorithm = \"{algorithm}\"\nrotate_every = \"30d\""));
        let month = 30 * DAY;
        let at_time = |seconds| {
            site.issuer.keys.upkeep(at(seconds).unix).unwrap();
            states(&site, at(seconds))
        };
        assert_eq!(at_time(0), ["signs"]);
        assert_eq!(at_time(month - TEN_MINUTES - 1), ["signs"]);
        let first = kids(&site);
        assert_eq!(at_time(month - TEN_MINUTES), ["signs", "next"]);
        assert_eq!(at_time(month - 1), ["signs", "next"]);
        let last = at(month - 1);
        let token = site.issuer.issue(&grant(last, 3_600), last.unix).unwrap().token;
        assert_eq!(at_time(month), ["old", "signs"]);
        assert_eq!(kids(&site)[0], first[0]);
        assert!(
            site.use_token(&token, at(month + 3_598)).is_ok(),
            "{algorithm}: the last token of the old key"
        );
        assert_eq!(at_time(month + 3_600 + 59), ["old", "signs"]);
        assert_eq!(at_time(month + 3_600 + 60), ["signs"]);
        assert_ne!(kids(&site)[0], first[0]);
        let key_set: Value = serde_json::from_slice(&site.issuer.keys.key_set()).unwrap();
        assert_eq!(key_set["keys"][0]["kid"], *kids(&site)[0]);
        assert_eq!(key_set["keys"][0]["alg"], algorithm);
        assert!(key_set["keys"][0].get("d").is_none(), "{key_set}");
    }
}

#[tokio::test]
async fn keys_and_their_tokens_survive_a_restart_even_after_a_long_absence() {
    let site = Site::open("");
    let token = site.issuer.issue(&grant(at(0), 3_600), NOW).unwrap().token;
    let before = kids(&site);
    let directory = site.close();
    let site = Site::reopen(directory, "", at(60).unix).unwrap();
    assert_eq!(kids(&site), before);
    assert!(site.use_token(&token, at(61)).is_ok());
    let directory = site.close();
    let late = at(400 * DAY);
    let site = Site::reopen(directory, "", late.unix).unwrap();
    assert_eq!(states(&site, late), ["signs", "next"], "the old key signs until the new one is known");
    let token = site.issuer.issue(&grant(late, 60), late.unix).unwrap().token;
    assert!(site.use_token(&token, late).is_ok());
}

#[tokio::test]
async fn another_algorithm_comes_with_the_next_key_and_tokens_of_the_old_one_stay_valid() {
    let site = Site::open("algorithm = \"ES256\"");
    let token = site.issuer.issue(&grant(at(0), 3_600), NOW).unwrap().token;
    let directory = site.close();
    let site = Site::reopen(directory, "algorithm = \"EdDSA\"", at(1).unix).unwrap();
    assert_eq!(states(&site, at(1)), ["signs", "next"]);
    let later = at(1 + TEN_MINUTES);
    assert_eq!(states(&site, later), ["old", "signs"]);
    assert_eq!(site.issuer.keys.report(later.unix)[1].algorithm, "EdDSA");
    let new = site.issuer.issue(&grant(later, 60), later.unix).unwrap().token;
    assert!(site.use_token(&token, later).is_ok() && site.use_token(&new, later).is_ok());
}

#[test]
fn rotating_by_hand_makes_the_next_key_once_and_at_once_if_told_so() {
    let site = Site::open("");
    let keys = &site.issuer.keys;
    keys.rotate(Rotation::Announced, NOW).unwrap();
    assert_eq!(states(&site, at(0)), ["signs", "next"]);
    let error = keys.rotate(Rotation::Announced, at(1).unix).unwrap_err().to_string();
    assert!(error.contains(&kids(&site)[1]) && error.ends_with("wait, or add --now"), "{error}");
    keys.rotate(Rotation::Now, at(2).unix).unwrap();
    assert_eq!(states(&site, at(2)), ["old", "signs"], "the one that waited");
    for _ in 0..14 {
        keys.rotate(Rotation::Now, at(3).unix).unwrap();
    }
    assert!(matches!(keys.rotate(Rotation::Now, at(3).unix), Err(SigningError::TooMany)));
    let at_end = kids(&site);
    let directory = site.close();
    assert_eq!(kids(&Site::reopen(directory, "", at(4).unix).unwrap()), at_end, "in the same order");
}

#[tokio::test]
async fn a_leaked_key_is_dropped_with_all_that_it_signed() {
    for waiting in [false, true] {
        let site = Site::open("");
        if waiting {
            site.issuer.keys.rotate(Rotation::Announced, NOW).unwrap();
        }
        let (leaked, now) = (kids(&site), at(2));
        let forged = site.issuer.issue(&grant(at(1), 3_600), at(1).unix).unwrap().token;
        assert!(site.use_token(&forged, at(1)).is_ok(), "and it is remembered");
        site.issuer.keys.rotate(Rotation::DropOld, now.unix).unwrap();
        assert_eq!(site.use_token(&forged, now).unwrap_err().name(), "token-key-unknown");
        assert_eq!(states(&site, now), ["signs"]);
        let key_set = String::from_utf8(site.issuer.keys.key_set().to_vec()).unwrap();
        assert!(leaked.iter().all(|kid| !key_set.contains(kid) && !kids(&site).contains(kid)), "{key_set}");
        let token = site.issuer.issue(&grant(now, 60), now.unix).unwrap().token;
        assert!(site.use_token(&token, now).is_ok());
        let after = kids(&site);
        let site = Site::reopen(site.close(), "", at(3).unix).unwrap();
        assert_eq!(kids(&site), after, "across restarts");
    }
}

#[test]
fn a_clock_that_is_set_back_stops_no_rotation() {
    let site = Site::open("");
    let keys = &site.issuer.keys;
    let early = |seconds: u64| Now { unix: UnixTime(NOW.0 - seconds), ..at(0) };
    keys.upkeep(early(DAY).unix).unwrap();
    let first = &keys.report(early(DAY).unix)[0];
    assert_eq!((first.signs, first.signs_from.0), (true, NOW.0 - DAY + TEN_MINUTES), "no longer than that");
    keys.rotate(Rotation::Announced, early(DAY).unix).unwrap();
    assert_eq!(states(&site, early(DAY)), ["signs", "next"], "the one that signs does not wait");
    keys.rotate(Rotation::Now, early(DAY).unix).unwrap();
    assert_eq!(states(&site, early(DAY)), ["old", "signs"]);
    keys.rotate(Rotation::Now, early(DAY + 60).unix).unwrap();
    assert_eq!(states(&site, early(DAY + 60)), ["old", "signs"], "which waited for the clock");
    let at_end = kids(&site);
    assert_eq!(kids(&Site::reopen(site.close(), "", early(DAY).unix).unwrap()), at_end, "in the same order");
}

#[test]
fn a_copied_database_does_not_sign() {
    let site = Site::open("");
    let kid = kids(&site).remove(0);
    let directory = site.close();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        // The start of every PKCS #8 private key for P-256.
        assert!(!bytes.windows(9).any(|window| window == b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"));
    }
    let pepper = directory.path().join("api-key.pepper");
    fs::write(&pepper, [7; 32]).unwrap();
    let error = Site::reopen(directory, "", at(1).unix).err().unwrap().to_string();
    assert!(error.contains(&kid) && error.contains("restore the store's directory as a whole"), "{error}");
}
