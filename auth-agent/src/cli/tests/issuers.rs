use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::super::issuer;
use super::{Desk, at, run};
use crate::clock::UnixTime;
use crate::config::tests::MINIMAL;
use crate::control::messages::IssuerList;
use crate::issuers::{IssuerKey, IssuerStatus};
use crate::token::tests::mint::{Signer, claims_with};

#[test]
fn issuers_are_listed_with_their_keys_and_refreshed() {
    let desk = Desk::open(&[]);
    let (code, list, err) = at(&desk, &["issuer", "list"]);
    assert_eq!((code, &*err), (0, ""));
    let file = desk.directory.path().join("issuer.pem").display().to_string();
    let lines: Vec<Vec<_>> = list.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
    let words = |line: usize| lines[line].iter().copied().filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    assert_eq!(words(1)[..3], ["main", "fresh", "1"], "{list}");
    assert_eq!(words(1)[4..], ["-", "https://id.example.com", &*file], "{list}");
    assert_eq!(words(2)[..4], ["partner", "no keys", "0", "-"], "{list}");
    assert_eq!(words(2)[6], "discovery at https://id.partner.example/", "{list}");
    assert!(list.ends_with("main: a key without kid, ES256\n"), "{list}");

    let refreshed = (0, "refreshed main: 1 keys\nmain: a key without kid, ES256\n".to_owned(), String::new());
    assert_eq!(at(&desk, &["issuer", "refresh", "main"]), refreshed);
    fs::write(desk.directory.path().join("issuer.pem"), "nonsense").unwrap();
    let (code, out, err) = at(&desk, &["issuer", "refresh", "main"]);
    assert_eq!((code, &*out), (1, ""));
    let words = "auth-agent: the keys of issuer `main` could not be refreshed; those in use stay: ";
    assert!(err.starts_with(words) && err.contains("not a PEM public key"), "{err}");
    let (_, status, _) = at(&desk, &["status"]);
    let line = "issuers    2, 1 without keys, 1 failing: `auth-agent issuer list` says why\n";
    assert!(status.contains(line), "{status}");
    let (_, list, _) = at(&desk, &["issuer", "list"]);
    assert!(list.contains("main     stale    1"), "{list}");
    assert!(list.contains("\nmain: error: ") && list.contains("not a PEM public key"), "{list}");
}

#[test]
fn what_a_server_says_cannot_drive_the_terminal() {
    let hostile = "\u{1b}[2J\nmain: kid \"forged\"\u{202e}".to_owned();
    let status = IssuerStatus {
        error: Some(hostile.clone()),
        failures: 1,
        fetched: None,
        fetches: 0,
        issuer: "https://id.example".into(),
        keys: vec![IssuerKey { algorithm: "ES256".into(), id: Some(hostile.clone()) }],
        name: "main".into(),
        next_refresh: None,
        save_error: None,
        skipped: vec![hostile],
        source: "https://id.example/jwks".into(),
    };
    let text = issuer::list(&IssuerList { issuers: vec![status] }, UnixTime(0));
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

#[test]
fn a_name_that_is_no_issuers_is_refused_with_where_to_look() {
    let desk = Desk::open(&[]);
    for name in ["other", "../keys", "", "a/b"] {
        let (code, out, err) = at(&desk, &["issuer", "refresh", name]);
        assert_eq!((code, &*out), (1, ""), "{name}");
        assert!(err.contains("`auth-agent issuer list` shows them"), "{name}: {err}");
    }
}

#[test]
fn the_control_api_answers_the_same_in_json() {
    let desk = Desk::open(&[]);
    let (_, out, _) = at(&desk, &["issuer", "list", "--json"]);
    let list: Value = serde_json::from_str(&out).unwrap();
    let [main, partner] = &list["issuers"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!(main["keys"], json!([{ "algorithm": "ES256", "id": null }]));
    assert_eq!(
        (&main["fetches"], &main["error"], &main["next_refresh"]),
        (&json!(1), &json!(null), &json!(null))
    );
    assert_eq!((&partner["keys"], &partner["fetched"]), (&json!([]), &json!(null)));
    assert!(partner["next_refresh"].is_u64());
    assert_eq!(desk.ask("POST", "/v1/issuers/main/refresh", ""), (200, main.clone()));
    let (status, problem) = desk.ask("POST", "/v1/issuers/other/refresh", "");
    assert_eq!((status, &problem["reason"]), (404, &json!("issuer-missing")));
    fs::remove_file(desk.directory.path().join("issuer.pem")).unwrap();
    let (status, problem) = desk.ask("POST", "/v1/issuers/main/refresh", "");
    assert_eq!((status, &problem["reason"]), (502, &json!("refresh-failed")));
    assert!(problem["detail"].as_str().unwrap().contains("can't be read"), "{problem}");
}

/// A configuration with an issuer that publishes, and another with a file.
fn configuration(more: &str) -> (TempDir, String) {
    let directory = tempdir().unwrap();
    let key = Signer::of(Algorithm::ES256);
    fs::write(directory.path().join("issuer.pem"), &key.pem).unwrap();
    let issuer = |name: &str, fields: &str| {
        format!(
            "[[issuer]]\nname = \"{name}\"\nissuer = \"https://{name}.example\"\naudiences = [\"https://api.example\"]\n\
             algorithms = [\"ES256\"]\n{fields}\n"
        )
    };
    let remote = issuer("remote", &format!("jwks_url = \"https://remote.example/jwks\"\n{more}"));
    let text =
        format!("{MINIMAL}{remote}{}[store]\ndirectory = \".\"\n", issuer("file", "keys = \"issuer.pem\""));
    let path = directory.path().join("edge.toml");
    fs::write(&path, text).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

fn token(issuer: &str) -> String {
    let now = UnixTime::now().0;
    let iss = format!("https://{issuer}.example");
    let signer = Signer::of(Algorithm::ES256);
    let claims = claims_with(json!({"iss": iss, "exp": now + 600, "iat": now - 10}));
    signer.sign(&json!({"alg": "ES256", "typ": "at+jwt", "kid": "k1"}).to_string(), &claims.to_string())
}

fn save(directory: &Path, source: &str, age: u64) {
    let set = json!({"keys": [Signer::of(Algorithm::ES256).jwk_with(json!({"kid": "k1"}))]});
    let saved = json!({
        "fetched": UnixTime::now().0 - age, "source": source, "text": set.to_string(),
        "url": "https://remote.example/jwks",
    });
    let file = directory.join("issuer-remote.keys");
    fs::write(&file, saved.to_string()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_token_is_inspected_offline_with_the_last_good_keys_and_says_how_old_they_are() {
    let (directory, config) = configuration("");
    let source = "https://remote.example/jwks for https://remote.example";
    let inspect = |issuer: &str| run(&["--config", &config, "token", "inspect", &token(issuer)]);
    let (code, out, err) = inspect("remote");
    assert!(code == 0 && out.contains("refused, token-keys-unavailable"), "{out}");
    assert!(
        err.contains("note: issuer `remote` has no keys here") && err.contains("no keys were saved yet"),
        "{err}"
    );
    save(directory.path(), source, 7_300);
    let (_, out, err) = inspect("remote");
    assert!(out.contains("verdict: accepted") && out.contains("kid \"k1\""), "{out}");
    let note =
        "note: the keys of issuer `remote` are those fetched 2h 1m ago from https://remote.example/jwks\n";
    assert_eq!(err, note);
    let (_, out, err) = inspect("file");
    assert!(out.contains("verdict: accepted") && err.is_empty(), "{out}{err}");
    for (source, age, why) in
        [(source, 90_000, "older than keys_max_age"), ("elsewhere", 5, "are from \"elsewhere\"")]
    {
        save(directory.path(), source, age);
        let (_, out, err) = inspect("remote");
        assert!(out.contains("refused, token-keys-unavailable") && err.contains(why), "{out}{err}");
    }
}

#[test]
fn a_check_fetches_nothing_and_says_so_but_reads_the_authorities() {
    let check = |more: &str| {
        let (directory, config) = configuration(more);
        let edge = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("/keys/edge.key", "edge.key")).unwrap();
        fs::write(directory.path().join("edge.crt"), edge.cert.pem()).unwrap();
        fs::write(directory.path().join("edge.key"), edge.signing_key.serialize_pem()).unwrap();
        fs::write(directory.path().join("ca.pem"), edge.cert.pem()).unwrap();
        fs::write(directory.path().join("empty.pem"), "").unwrap();
        fs::write(
            directory.path().join("bad.pem"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        run(&["--config", &config, "config", "check"])
    };
    for fields in ["", "ca = \"ca.pem\""] {
        let (code, out, err) = check(fields);
        assert!(code == 0 && out.ends_with("no problems found\n"), "{out}{err}");
        let note =
            "note: issuer `remote`: its keys (https://remote.example/jwks) were not fetched; `run` does\n";
        assert_eq!(err, note);
    }
    for (fields, words) in [
        ("ca = \"absent.pem\"", "absent.pem: No such file"),
        ("ca = \"empty.pem\"", "holds no certificate"),
        ("ca = \"bad.pem\"", "can't be used as an authority's"),
    ] {
        let (code, _, err) = check(fields);
        assert!(code == 1 && err.contains("issuer `remote`: ca: ") && err.contains(words), "{fields}: {err}");
    }
}
