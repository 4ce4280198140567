use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::tempdir;

use super::*;
use crate::clock::{Monotonic, Now};
use crate::refusal::Refusal;

const NOW: UnixTime = UnixTime(1_700_000_000);

fn stored(key: &ApiKey, pepper: &Pepper) -> StoredKey {
    let scopes = vec!["read".into()];
    StoredKey { scopes, ..StoredKey::new(key.id(), pepper.hash(key), "billing".into(), UnixTime(7)) }
}

/// So many seconds since 1970, and so many of the other clock.
fn at(unix: UnixTime, monotonic_ms: u64) -> Now {
    Now { monotonic: Monotonic(monotonic_ms * 1_000_000), unix }
}

fn pepper() -> Pepper {
    Pepper::open(tempdir().unwrap().path(), false).unwrap()
}

proptest! {
    #[test]
    fn no_text_that_differs_from_a_key_in_one_character_is_a_key(at in 0..KEY_LENGTH, other: char) {
        let key = ApiKey::generate().unwrap();
        let mut text: Vec<char> = key.expose().chars().collect();
        prop_assume!(text[at] != other);
        text[at] = other;
        prop_assert_eq!(ApiKey::parse(&text.iter().collect::<String>()), Err(MalformedKey));
    }

    #[test]
    fn no_text_crashes_the_parser(text: String, shaped in "aak_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}") {
        prop_assert_eq!(ApiKey::parse(&text), Err(MalformedKey));
        // One in 2^32 of these has the right check.
        prop_assert_eq!(ApiKey::parse(&shaped), Err(MalformedKey));
    }
}

#[test]
fn a_generated_key_is_read_back_and_has_the_documented_form() {
    for _ in 0..1000 {
        let key = ApiKey::generate().unwrap();
        let text = key.expose().to_owned();
        assert_eq!(ApiKey::parse(&text), Ok(key.clone()));
        let lengths: Vec<_> = text.split('_').map(str::len).collect();
        assert_eq!(lengths, [3, 12, 43, 6], "{text}");
        assert_eq!(key.id().to_string().parse(), Ok(key.id()));
    }
}

#[test]
fn the_check_does_not_change_between_versions() {
    let text = "aak_0123456789AB_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
    let crc = crc32fast::hash(text.as_bytes());
    assert_eq!(crc, CHECKED_BY_PYTHON_ZLIB, "CRC-32 (IEEE 802.3)");
    assert!(ApiKey::parse(&format!("{text}_{CHECK_BY_PYTHON}")).is_ok());
}

/// `zlib.crc32(text)`
const CHECKED_BY_PYTHON_ZLIB: u32 = 0xb4f8_02c8;
/// Its base62 digits.
const CHECK_BY_PYTHON: &str = "3JTNxw";

#[test]
fn what_surrounds_or_shortens_a_key_is_refused() {
    let key = ApiKey::generate().unwrap();
    let text = key.expose();
    let variants = [
        String::new(),
        format!(" {text}"),
        format!("{text} "),
        format!("{text}\n"),
        format!("{text}\0"),
        format!("{text}{text}"),
        text[1..].to_owned(),
        text[..KEY_LENGTH - 1].to_owned(),
        text.to_uppercase(),
        text.replace('_', "-"),
        text.replacen("aak_", "aak_aak_", 1),
    ];
    for variant in variants {
        assert_eq!(ApiKey::parse(&variant), Err(MalformedKey), "{variant:?}");
    }
}

#[test]
fn printing_a_key_never_shows_its_secret() {
    let key = ApiKey::generate().unwrap();
    let secret = &key.expose()[SECRET_START..SECRET_START + 8];
    for printed in
        [format!("{key}"), format!("{key:?}"), format!("{key:#?}"), format!("{:?}", pepper().hash(&key))]
    {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn hashes_depend_on_the_pepper_and_survive_a_restart() {
    let directory = tempdir().unwrap();
    let key = ApiKey::generate().unwrap();
    let hash = Pepper::open(directory.path(), false).unwrap().hash(&key);
    assert_eq!(Pepper::open(directory.path(), true).unwrap().hash(&key), hash);
    assert_ne!(pepper().hash(&key), hash);
    let file = directory.path().join("api-key.pepper");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&file).unwrap().len(), 32);
}

#[test]
fn a_pepper_that_is_not_as_it_was_made_is_refused_with_its_path_and_a_cure() {
    type Spoil = fn(&Path);
    let table: [(&str, Spoil, &str); 6] = [
        ("missing", |file| fs::remove_file(file).unwrap(), "missing, and without it none"),
        ("empty", |file| fs::write(file, "").unwrap(), "exactly 32 bytes"),
        ("short", |file| fs::write(file, [7; 31]).unwrap(), "exactly 32 bytes"),
        ("long", |file| fs::write(file, [7; 33]).unwrap(), "exactly 32 bytes"),
        (
            "open to the group",
            |file| fs::set_permissions(file, Permissions::from_mode(0o640)).unwrap(),
            "mode 0640, open to others than its owner: chmod 600 it",
        ),
        (
            "a directory",
            |file| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
                fs::set_permissions(file, Permissions::from_mode(0o700)).unwrap();
            },
            "can't read the API-key secret",
        ),
    ];
    for (what, spoil, cure) in table {
        let directory = tempdir().unwrap();
        let file = directory.path().join("api-key.pepper");
        Pepper::open(directory.path(), false).unwrap();
        spoil(&file);
        let error = Pepper::open(directory.path(), true).err().expect(what).to_string();
        assert!(error.starts_with(&file.display().to_string()) && error.contains(cure), "{what}: {error}");
        assert!(!error.contains('\n'), "{what}: {error}");
    }
}

#[test]
fn a_crash_while_the_pepper_was_made_does_not_stop_the_next_start() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("api-key.pepper.new"), [7; 5]).unwrap();
    assert!(Pepper::open(directory.path(), false).is_ok());
    assert!(!directory.path().join("api-key.pepper.new").exists());
}

#[test]
fn a_key_is_accepted_only_while_valid_and_from_its_networks() {
    type Change = fn(&mut StoredKey);
    let nothing: Change = |_| {};
    let networks: Change = |key| {
        key.networks = ["192.0.2.0/24", "2001:db8::/32"].map(|network| network.parse().unwrap()).to_vec();
    };
    let revoked: Change = |key| key.revoked = Some(UnixTime(1));
    let ends_now: Change = |key| key.expires = Some(NOW);
    let ends_next: Change = |key| key.expires = Some(UnixTime(NOW.0 + 1));
    let all_at_once: Change = |key| {
        key.revoked = Some(UnixTime(1));
        key.expires = Some(UnixTime(2));
        key.networks = vec!["10.0.0.0/8".parse().unwrap()];
    };
    let table: [(&str, Change, &str, Result<(), Refusal>); 11] = [
        ("no conditions", nothing, "203.0.113.9", Ok(())),
        ("inside, v4", networks, "192.0.2.255", Ok(())),
        ("inside, v4-mapped", networks, "::ffff:192.0.2.1", Ok(())),
        ("inside, v6", networks, "2001:db8:ffff::1", Ok(())),
        ("outside, v4", networks, "192.0.3.0", Err(Refusal::ApiKeyNetwork)),
        ("outside, v4-mapped", networks, "::ffff:192.0.3.1", Err(Refusal::ApiKeyNetwork)),
        ("outside, v6", networks, "2001:db9::1", Err(Refusal::ApiKeyNetwork)),
        ("revoked", revoked, "192.0.2.1", Err(Refusal::ApiKeyRevoked)),
        ("in its expiry second", ends_now, "192.0.2.1", Err(Refusal::ApiKeyExpired)),
        ("in its last second", ends_next, "192.0.2.1", Ok(())),
        ("revoked wins", all_at_once, "192.0.2.1", Err(Refusal::ApiKeyRevoked)),
    ];
    for (what, change, source, expected) in table {
        let (key, pepper) = (ApiKey::generate().unwrap(), pepper());
        let mut entry = stored(&key, &pepper);
        change(&mut entry);
        let ring = KeyRing::new(pepper, [&entry]);
        let source: IpAddr = source.parse().unwrap();
        assert_eq!(ring.verify(key.expose(), source, at(NOW, 0)).map(|_| ()), expected, "{what}");
        let used = expected.is_ok().then_some(NOW);
        assert_eq!(ring.last_used(entry.id), used, "{what}: only an accepted key was used");
    }
}

#[test]
fn unknown_and_malformed_keys_are_refused_alike() {
    let pepper = pepper();
    let known = ApiKey::generate().unwrap();
    let ring = KeyRing::new(pepper, []);
    let source = IpAddr::from([192, 0, 2, 1]);
    for text in [known.expose(), "", "aak_", "nonsense", &known.expose()[1..]] {
        assert_eq!(ring.verify(text, source, at(NOW, 0)).err(), Some(Refusal::ApiKeyInvalid), "{text:?}");
    }
}

#[test]
fn a_key_hashed_under_another_pepper_is_unknown() {
    let key = ApiKey::generate().unwrap();
    let elsewhere = stored(&key, &pepper());
    let ring = KeyRing::new(pepper(), [&elsewhere]);
    assert!(ring.verify(key.expose(), IpAddr::from([192, 0, 2, 1]), at(NOW, 0)).is_err());
}

#[test]
fn inserting_and_revoking_take_effect_at_the_next_request() {
    let pepper = pepper();
    let (first, second) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    let entries = [stored(&first, &pepper), stored(&second, &pepper)];
    let ring = KeyRing::new(pepper, [&entries[0]]);
    let source = IpAddr::from([192, 0, 2, 1]);
    let verdict = |key: &ApiKey| {
        ring.verify(key.expose(), source, at(NOW, 0)).map(|identity| identity.facts().key.unwrap())
    };
    assert_eq!(verdict(&second), Err(Refusal::ApiKeyInvalid));
    ring.insert(&entries[1]);
    assert_eq!(verdict(&second), Ok(second.id()));
    ring.revoke(second.id());
    assert_eq!(verdict(&second), Err(Refusal::ApiKeyRevoked));
    assert_eq!(verdict(&first), Ok(first.id()));
}

#[test]
fn a_key_stands_for_what_was_stored_of_it_and_no_request_makes_that_anew() {
    let (key, pepper) = (ApiKey::generate().unwrap(), pepper());
    let entry = StoredKey { expires: Some(UnixTime(NOW.0 + 9)), ..stored(&key, &pepper) };
    let ring = KeyRing::new(pepper, [&entry]);
    let verify = || ring.verify(key.expose(), IpAddr::from([192, 0, 2, 1]), at(NOW, 0)).unwrap();
    let (first, second) = (verify(), verify());
    assert!(Arc::ptr_eq(&first, &second));
    let facts = first.facts();
    assert_eq!((facts.key, &*facts.subject), (Some(key.id()), "billing"));
    assert_eq!((facts.issued_at, facts.expires), (Some(UnixTime(7)), entry.expires));
    assert_eq!(facts.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), ["read"]);
}

#[test]
fn a_key_that_is_stored_anew_keeps_what_it_used_and_owes() {
    let (key, pepper) = (ApiKey::generate().unwrap(), pepper());
    let entry = StoredKey { rate: Some(one_a_second(1)), ..stored(&key, &pepper) };
    let ring = KeyRing::new(pepper, [&entry]);
    let source = IpAddr::from([192, 0, 2, 1]);
    assert!(ring.verify(key.expose(), source, at(NOW, 0)).is_ok());
    let uses = ring.take_uses();
    ring.insert(&StoredKey { expires: Some(UnixTime(NOW.0 + 60)), ..entry });
    assert_eq!(ring.last_used(key.id()), Some(NOW));
    assert!(matches!(ring.verify(key.expose(), source, at(NOW, 0)), Err(Refusal::ApiKeyLimit { .. })));
    assert_eq!(ring.standing(key.id(), UnixTime(NOW.0 + 59)), Some(Ok(())));
    assert_eq!(ring.standing(key.id(), UnixTime(NOW.0 + 60)), Some(Err(Refusal::ApiKeyExpired)));
    ring.revoke(key.id());
    assert_eq!(ring.standing(key.id(), NOW), Some(Err(Refusal::ApiKeyRevoked)));
    assert_eq!(ring.standing(ApiKey::generate().unwrap().id(), NOW), None);
    ring.stored(uses);
}

fn one_a_second(burst: u32) -> Rate {
    let number = |number| std::num::NonZeroU32::new(number).unwrap();
    Rate { burst: number(burst), events: number(1), period: std::time::Duration::from_secs(1) }
}

#[test]
fn a_key_over_its_own_limit_is_told_when_it_may_go_on_and_refused_requests_cost_it_nothing() {
    let (key, pepper) = (ApiKey::generate().unwrap(), pepper());
    let other = ApiKey::generate().unwrap();
    let entries =
        [StoredKey { rate: Some(one_a_second(2)), ..stored(&key, &pepper) }, stored(&other, &pepper)];
    let ring = KeyRing::new(pepper, &entries);
    let verify = |key: &ApiKey, ms: u64| {
        ring.verify(key.expose(), IpAddr::from([192, 0, 2, 1]), at(NOW, 1_000_000 + ms)).map(|_| ())
    };
    let over = |ms| Err(Refusal::ApiKeyLimit { retry_after: std::time::Duration::from_millis(ms) });
    for (ms, expected) in
        [(0, Ok(())), (0, Ok(())), (0, over(1000)), (999, over(1)), (1000, Ok(())), (1001, over(999))]
    {
        assert_eq!(verify(&key, ms), expected, "{ms}");
        assert_eq!(verify(&other, ms), Ok(()), "another key has nothing to do with it");
    }
}

#[test]
fn a_use_is_handed_out_until_the_store_has_it() {
    let pepper = pepper();
    let key = ApiKey::generate().unwrap();
    let ring = KeyRing::new(pepper, []);
    let entry = StoredKey { hash: ring.hash(&key), ..stored(&key, &self::pepper()) };
    ring.insert(&entry);
    let source = IpAddr::from([192, 0, 2, 1]);
    let used_at = |seconds| ring.verify(key.expose(), source, at(UnixTime(seconds), 0)).unwrap();
    let list = |uses: &Uses| uses.iter().collect::<Vec<_>>();
    assert!(ring.take_uses().is_empty());
    used_at(100);
    used_at(90);
    let uses = ring.take_uses();
    assert_eq!(list(&uses), [(key.id(), UnixTime(100))]);
    assert!(ring.take_uses().is_empty(), "it is on its way");
    ring.not_stored(uses);
    let uses = ring.take_uses();
    assert_eq!(list(&uses), [(key.id(), UnixTime(100))], "the store failed");
    used_at(110);
    ring.stored(uses);
    let uses = ring.take_uses();
    assert_eq!(list(&uses), [(key.id(), UnixTime(110))], "it was used meanwhile");
    ring.stored(uses);
    assert!(ring.take_uses().is_empty());
    used_at(120);
    assert_eq!(list(&ring.take_uses()), [(key.id(), UnixTime(120))]);
}

#[test]
fn every_one_of_many_keys_is_found_by_its_text_and_its_id() {
    let (ring, keys) = KeyRing::generated(5_000).unwrap();
    let source = IpAddr::from([192, 0, 2, 1]);
    for key in &keys {
        let identity = ring.verify(key.expose(), source, at(NOW, 0)).unwrap();
        assert_eq!(identity.facts().key, Some(key.id()));
        assert_eq!(ring.last_used(key.id()), Some(NOW));
    }
    let mut used = 0;
    loop {
        let uses = ring.take_uses();
        if uses.is_empty() {
            break;
        }
        used += uses.iter().count();
        ring.stored(uses);
    }
    assert_eq!(used, keys.len());
}
