//! API keys over the control API.

use serde_json::Value;

use super::*;
use crate::api_key::ApiKey;
use crate::clock::Now;
use crate::refusal::Refusal;

/// The id and the text of a new key.
fn create(desk: &Desk, request: Value) -> (String, String) {
    let (status, created) = desk.ask("POST", "/v1/keys", &request.to_string());
    assert_eq!(status, 201, "{created}");
    let text = |field: &str| created[field].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

#[test]
fn a_key_works_from_its_creation_to_its_revocation_and_is_shown_once() {
    let desk = Desk::open(&[]);
    let request = json!({
        "name": "billing service", "scopes": ["read", "orders:write"], "networks": ["192.0.2.1", "2001:db8::/32"],
        "expires_in_seconds": 60, "note": "für alle Fälle",
    });
    let (status, created) = desk.ask("POST", "/v1/keys", &request.to_string());
    assert_eq!(status, 201, "{created}");
    let key = created["key"].as_str().unwrap();
    let record = desk.keys.verify(key, SOURCE, Now::read()).unwrap();
    assert_eq!((record.subject(), record.scopes().len()), ("billing service", 2));

    let (_, list) = desk.ask("GET", "/v1/keys", "");
    let entry = &list["keys"][0];
    assert_eq!(entry["networks"], json!(["192.0.2.1/32", "2001:db8::/32"]));
    assert_eq!(entry["note"], "für alle Fälle");
    assert!(entry["last_used"].is_u64(), "{entry}");
    assert!(entry.get("key").is_none() && entry.get("hash").is_none(), "{entry}");

    let target = format!("/v1/keys/{}/revoke", created["id"].as_str().unwrap());
    let (status, revoked) = desk.ask("POST", &target, "");
    assert_eq!(status, 200, "{revoked}");
    assert_eq!(desk.ask("POST", &target, "").1, revoked, "again changes nothing");
    assert_eq!(desk.keys.verify(key, SOURCE, Now::read()).err(), Some(Refusal::ApiKeyRevoked));

    let secret = key.split('_').nth(2).unwrap();
    for entry in fs::read_dir(desk.directory.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains(secret), "{} holds the secret", path.display());
    }
}

#[test]
fn a_new_ring_from_the_store_knows_what_the_old_one_knew() {
    let desk = Desk::open(&[]);
    let create = |name| {
        let (_, created) = desk.ask("POST", "/v1/keys", &json!({ "name": name }).to_string());
        (created["id"].as_str().unwrap().to_owned(), created["key"].as_str().unwrap().to_owned())
    };
    let ((_, kept), (id, revoked)) = (create("kept"), create("revoked"));
    let used = Now { unix: UnixTime(77), ..Now::read() };
    desk.keys.verify(&kept, SOURCE, used).unwrap();
    desk.ask("POST", &format!("/v1/keys/{id}/revoke"), "");
    desk.control.store_uses().unwrap();
    let keys = desk.control.store.keys_after(None, 100).unwrap();
    let pepper = crate::api_key::Pepper::open(&desk.directory.path().join("store"), true).unwrap();
    let ring = KeyRing::new(pepper, &keys);
    assert!(ring.verify(&kept, SOURCE, Now::read()).is_ok());
    assert_eq!(ring.verify(&revoked, SOURCE, Now::read()).err(), Some(Refusal::ApiKeyRevoked));
    let kept = keys.iter().find(|key| key.name == "kept").unwrap();
    assert_eq!(kept.last_used, Some(UnixTime(77)));
}

#[test]
fn a_rotated_key_and_its_successor_are_both_valid_for_the_overlap_and_know_each_other() {
    let desk = Desk::open(&[]);
    let (old, old_text) = create(
        &desk,
        json!({
            "name": "billing", "owner": "finance", "scopes": ["read"], "networks": ["192.0.2.0/24"], "note": "n",
            "rate": "100/min", "burst": 7, "expires_in_seconds": 7200,
        }),
    );
    let (status, rotated) =
        desk.ask("POST", &format!("/v1/keys/{old}/rotate"), r#"{"overlap_seconds":3600}"#);
    assert_eq!(status, 201, "{rotated}");
    let before = desk.ask("GET", &format!("/v1/keys/{old}"), "").1;
    let after = desk.ask("GET", &format!("/v1/keys/{}", rotated["id"].as_str().unwrap()), "").1;
    for field in ["name", "owner", "scopes", "networks", "note", "rate", "burst"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!((&after["rate"], &after["burst"]), (&json!("100/min"), &json!(7)));
    assert_eq!((&before["replaced_by"], &after["replaces"]), (&after["id"], &before["id"]));
    assert_eq!(rotated["replaced"], before);
    let seconds = |entry: &Value, field: &str| entry[field].as_u64().unwrap();
    assert_eq!(seconds(&before, "expires"), seconds(&after, "created") + 3600);
    assert_eq!(
        seconds(&after, "expires"),
        seconds(&after, "created") + 7200,
        "as long as the old one was made for"
    );

    let overlap_ends = seconds(&before, "expires");
    let verdict = |text: &str, unix| desk.keys.verify(text, SOURCE, Now { unix, ..Now::read() }).map(|_| ());
    let new_text = rotated["key"].as_str().unwrap();
    for (text, at, expected) in [
        (&*old_text, overlap_ends - 1, Ok(())),
        (new_text, overlap_ends - 1, Ok(())),
        (&*old_text, overlap_ends, Err(Refusal::ApiKeyExpired)),
        (new_text, overlap_ends, Ok(())),
    ] {
        assert_eq!(verdict(text, UnixTime(at)), expected, "{at}");
    }
    let (status, problem) = desk.ask("POST", &format!("/v1/keys/{old}/rotate"), "{}");
    assert_eq!((status, &problem["reason"]), (409, &json!("key-rotated")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(after["id"].as_str().unwrap()), "{problem}");
}

#[test]
fn a_rotation_never_prolongs_the_old_key_and_what_has_ended_is_not_rotated() {
    let desk = Desk::open(&[]);
    let (short, _) = create(&desk, json!({ "name": "short", "expires_in_seconds": 60 }));
    let ends = desk.ask("GET", &format!("/v1/keys/{short}"), "").1["expires"].clone();
    let (_, rotated) = desk.ask("POST", &format!("/v1/keys/{short}/rotate"), "{}");
    assert_eq!(rotated["replaced"]["expires"], ends);
    let (revoked, _) = create(&desk, json!({ "name": "revoked" }));
    desk.ask("POST", &format!("/v1/keys/{revoked}/revoke"), "");
    let (status, problem) = desk.ask("POST", &format!("/v1/keys/{revoked}/rotate"), "{}");
    assert_eq!((status, &problem["reason"]), (409, &json!("key-ended")), "{problem}");
    let (endless, _) = create(&desk, json!({ "name": "endless" }));
    let (_, rotated) =
        desk.ask("POST", &format!("/v1/keys/{endless}/rotate"), r#"{"expires_in_seconds":60}"#);
    assert!(rotated["expires"].is_u64() && rotated["replaced"]["expires"].is_u64(), "{rotated}");
    for (field, cure) in [("overlap_seconds", "no end"), ("expires_in_seconds", "no end")] {
        let (id, _) = create(&desk, json!({ "name": "a" }));
        let (status, problem) =
            desk.ask("POST", &format!("/v1/keys/{id}/rotate"), &json!({ field: 0 }).to_string());
        assert_eq!(status, 400, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(field) && detail.contains(cure), "{detail}");
    }
}

#[test]
fn imported_keys_work_here_as_they_did_where_they_were_made() {
    let desk = Desk::open(&[]);
    let keys: Vec<_> = (0..3).map(|_| ApiKey::generate().unwrap()).collect();
    let now = UnixTime::now().0;
    let import = json!({ "keys": [
        { "key": keys[0].expose(), "name": "a", "owner": "o", "scopes": ["s"], "networks": ["192.0.2.0/24"],
          "note": "n", "created": 1000, "expires": now + 600, "rate": "5/s", "burst": 9 },
        { "key": keys[1].expose(), "name": "b" },
    ] });
    assert_eq!(desk.ask("POST", "/v1/keys/import", &import.to_string()), (201, json!({ "imported": 2 })));
    let (_, first) = desk.ask("GET", &format!("/v1/keys/{}", keys[0].id()), "");
    let expected = json!({
        "burst": 9, "created": 1000, "expires": now + 600, "id": keys[0].id(), "last_used": null, "name": "a",
        "networks": ["192.0.2.0/24"], "note": "n", "owner": "o", "rate": "5/s", "replaced_by": null,
        "replaces": null, "revoked": null, "scopes": ["s"],
    });
    assert_eq!(first, expected);
    let works = |key: &ApiKey| desk.keys.verify(key.expose(), SOURCE, Now::read()).is_ok();
    assert_eq!([0, 1, 2].map(|at| works(&keys[at])), [true, true, false]);
    let mut changes = desk.control.store.changes(0, 10).unwrap();
    changes.retain(|change| change.kind.starts_with("key."));
    assert_eq!(changes.iter().map(|change| &*change.kind).collect::<Vec<_>>(), ["key.import"; 2]);
    assert!(changes.iter().all(|change| !change.payload.to_string().contains(keys[0].expose())));
}

#[test]
fn an_import_with_one_wrong_key_changes_nothing_and_quotes_nothing() {
    let desk = Desk::open(&[]);
    let (good, known) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    let (good, known) = (good.expose(), known.expose());
    desk.ask("POST", "/v1/keys/import", &json!({ "keys": [{ "key": known, "name": "a" }] }).to_string());
    let mistyped = good.replace("aak_", "aak-");
    let entry = |second: Value| json!({ "keys": [{ "key": good, "name": "a" }, second] }).to_string();
    let table = [
        (entry(json!({ "key": mistyped, "name": "a" })), "key 2: key: not an API key"),
        (entry(json!({ "key": good, "name": "a" })), "key 2: key: take it out: another"),
        (entry(json!({ "key": known, "name": "a" })), "is already stored"),
        (entry(json!({ "key": known, "name": "" })), "key 2: name: write 1 to 64"),
        (entry(json!({ "key": known, "name": "a", "expires": 1 })), "key 2: expires: take the key out"),
        (entry(json!({ "key": known, "name": "a", "expires": u64::MAX })), "key 2: expires: write between"),
        (entry(json!({ "key": known, "name": "a", "created": u64::MAX })), "key 2: created: write a time"),
        (entry(json!({ "key": known, "name": "a", "rate": "x" })), "key 2: the key's own limit: rate"),
        (
            entry(json!({ "key": known, "name": "a", "networks": ["10.0.0.1/8"] })),
            "key 2: 10.0.0.1/8 has bits",
        ),
        (entry(json!({ "key": known, "name": "a", good: 1 })), "not the fields that are expected"),
        (entry(json!(good)), "not the fields that are expected"),
        (json!({ "keys": good }).to_string(), "not the fields that are expected"),
        (format!("{{\"keys\":[{good}]}}"), "not JSON, at line 1"),
    ];
    for (body, expected) in table {
        let (status, problem) = desk.ask("POST", "/v1/keys/import", &body);
        assert!(matches!(status, 400 | 409), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(expected), "{expected}: {problem}");
        let secret = good.split('_').nth(2).unwrap();
        assert!(!problem.to_string().contains(secret), "{problem}");
        assert_eq!(desk.ask("GET", "/v1/keys", "").1["keys"].as_array().unwrap().len(), 1, "{expected}");
        assert!(desk.keys.verify(good, SOURCE, Now::read()).is_err(), "{expected}");
    }
}

#[test]
fn a_long_list_comes_in_pages_that_hold_every_key_once() {
    let desk = Desk::open(&[]);
    let ids: std::collections::BTreeSet<_> =
        (0..7).map(|number| create(&desk, json!({ "name": format!("k{number}") })).0).collect();
    let mut seen = Vec::new();
    let mut target = "/v1/keys?limit=3".to_owned();
    let mut pages = 0;
    loop {
        let (_, page) = desk.ask("GET", &target, "");
        seen.extend(
            page["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match page["next"].as_str() {
            Some(next) => target = format!("/v1/keys?limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 7));
    assert_eq!(seen.into_iter().collect::<std::collections::BTreeSet<_>>(), ids);
}
