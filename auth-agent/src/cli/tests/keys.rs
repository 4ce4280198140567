//! `auth-agent key`

use std::fs;

use tempfile::tempdir;

use super::{Desk, at};
use crate::api_key::ApiKey;
use crate::clock::Now;

fn works(desk: &Desk, key: &str) -> bool {
    desk.keys.verify(key, [192, 0, 2, 1].into(), Now::read()).is_ok()
}

#[test]
fn a_created_key_is_alone_on_standard_output_and_works() {
    let desk = Desk::open(&[]);
    let create = [
        "key",
        "create",
        "--name",
        "billing",
        "--owner",
        "finance",
        "--scope",
        "a",
        "--scope",
        "b",
        "--expires",
        "90d",
        "--rate",
        "100/min",
        "--burst",
        "5",
    ];
    let (code, out, err) = at(&desk, &create);
    assert_eq!(code, 0, "{err}");
    let key = out.trim_end_matches('\n');
    let identity = desk.keys.verify(key, [192, 0, 2, 1].into(), Now::read()).unwrap();
    assert_eq!(identity.scopes().len(), 2);
    assert!(err.contains("can't be shown again") && !err.contains(out.trim()), "{err}");

    let (_, list, _) = at(&desk, &["key", "list"]);
    assert!(list.lines().nth(1).unwrap().contains("billing  finance  valid"), "{list}");
    let id = identity.facts().key.unwrap().to_string();
    let (_, shown, _) = at(&desk, &["key", "show", &id]);
    assert!(
        shown.contains("owner        finance\n") && shown.contains("rate         100/min, 5 at once\n"),
        "{shown}"
    );
    assert_eq!(at(&desk, &["key", "revoke", &id]), (0, format!("revoked {id}\n"), String::new()));
    let (_, list, _) = at(&desk, &["key", "list"]);
    assert!(list.lines().nth(1).unwrap().contains("billing  finance  revoked"), "{list}");
    let (_, shown, _) = at(&desk, &["key", "show", &id]);
    assert!(shown.contains("state        revoked\n"), "{shown}");
}

#[test]
fn a_rotated_keys_successor_is_alone_on_standard_output_and_both_are_listed_as_a_pair() {
    let desk = Desk::open(&[]);
    let (_, old, _) = at(&desk, &["key", "create", "--name", "billing"]);
    let old_id = old.split('_').nth(1).unwrap();
    let (code, new, err) = at(&desk, &["key", "rotate", old_id, "--overlap", "1h", "--expires", "30d"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("can't be shown again") && err.contains(&format!("The old key {old_id} ends in ")),
        "{err}"
    );
    assert!(works(&desk, new.trim_end()) && works(&desk, old.trim_end()));
    let new_id = new.split('_').nth(1).unwrap();
    let (_, list, _) = at(&desk, &["key", "list"]);
    let line = |id: &str| list.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(line(old_id).contains(&format!("valid, replaced by {new_id}  in ")), "{list}");
    assert!(line(new_id).contains("  valid  "), "{list}");
    let (_, shown, _) = at(&desk, &["key", "show", new_id]);
    assert!(shown.contains(&format!("replaces     {old_id}\n")), "{shown}");
    let (code, out, err) = at(&desk, &["key", "rotate", old_id]);
    assert!(code == 1 && out.is_empty() && err.contains(new_id), "{err}");
}

#[test]
fn keys_are_imported_from_lines_of_json() {
    let desk = Desk::open(&[]);
    let directory = tempdir().unwrap();
    let file = directory.path().join("keys.jsonl");
    let keys = [ApiKey::generate().unwrap(), ApiKey::generate().unwrap()];
    let lines = keys.each_ref().map(|key| format!("{{\"key\":\"{}\",\"name\":\"a\"}}\n", key.expose()));
    fs::write(&file, lines.concat()).unwrap();
    let file = file.to_str().unwrap();
    let imported = (0, "imported 2 API keys\n".to_owned(), String::new());
    assert_eq!(at(&desk, &["key", "import", file]), imported);
    assert!(keys.iter().all(|key| works(&desk, key.expose())));
    let (code, _, err) = at(&desk, &["key", "import", file]);
    assert!(code == 1 && err.contains("is already stored"), "{err}");
    let (code, _, err) = at(&desk, &["key", "import", "/absent"]);
    assert!(code == 1 && err.contains("/absent"), "{err}");
}

#[test]
fn a_list_of_several_pages_is_printed_whole() {
    let desk = Desk::open(&[]);
    assert!(at(&desk, &["key", "list"]).1.starts_with("no API keys"));
    let keys: Vec<_> = (0..1_001).map(|_| ApiKey::generate().unwrap()).collect();
    let lines: Vec<_> =
        keys.iter().map(|key| serde_json::json!({ "key": key.expose(), "name": "a" })).collect();
    let body = serde_json::json!({ "keys": lines }).to_string();
    assert_eq!(desk.ask("POST", "/v1/keys/import", &body).0, 201);
    let (_, list, _) = at(&desk, &["key", "list"]);
    assert!(keys.iter().all(|key| list.contains(&key.id().to_string())));
    let (_, json, _) = at(&desk, &["--json", "key", "list"]);
    let pages: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        pages.iter().map(|page| page["keys"].as_array().unwrap().len()).collect::<Vec<_>>(),
        [1_000, 1]
    );
}
