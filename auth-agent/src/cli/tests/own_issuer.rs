//! `auth-agent token issue`, `auth-agent signing-key`

use serde_json::Value;

use super::{Desk, at};

#[test]
fn an_operator_is_issued_a_token_that_the_agent_accepts_and_the_log_tells_of() {
    let desk = Desk::open(&[]);
    let issue = [
        "token",
        "issue",
        "--subject",
        "alice",
        "--scope",
        "a",
        "--scope",
        "b",
        "--lifetime",
        "10m",
        "--client",
        "ops",
    ];
    let (code, out, err) = at(&desk, &issue);
    assert_eq!((code, &*err), (0, ""));
    let token = out.trim_end();
    let identity = desk.tokens.verify(token, crate::clock::UnixTime::now()).unwrap();
    assert_eq!((&**identity.subject(), identity.client().map(|client| &**client)), ("alice", Some("ops")));
    assert_eq!(identity.scopes().len(), 2);
    let (_, json, _) = at(&desk, &["--json", "token", "issue", "--subject", "bob"]);
    let issued: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&issued["claims"]["client_id"], &issued["claims"]["sub"]),
        (&"operator".into(), &"bob".into())
    );
    let changes = desk.store.changes(0, 100).unwrap();
    let issued: Vec<_> = changes.iter().filter(|change| change.kind == "token.issue").collect();
    assert_eq!(issued.len(), 2);
    assert_eq!(issued[0].payload["sub"], "alice");
    assert!(issued.iter().all(|change| !change.payload.to_string().contains(token)));
}

#[test]
fn a_token_that_says_too_much_or_lasts_too_long_is_not_issued() {
    let desk = Desk::open(&[]);
    for (args, cure) in [
        (&["--subject", "a", "--lifetime", "61m"][..], "an hour at most"),
        (&["--subject", ""], "write 1 to 255 bytes"),
        (&["--subject", " a"], "spaces only between"),
        (&["--subject", "a\u{202e}"], "without control characters"),
        (&["--subject", "a", "--client", ""], "client: write"),
        (&["--subject", "a", "--scope", "a b"], "scopes: write at most"),
    ] {
        let (code, out, err) = at(&desk, &[&["token", "issue"], args].concat());
        assert_eq!((code, &*out), (1, ""), "{args:?}");
        assert!(err.contains(cure), "{args:?}: {err}");
    }
}

#[test]
fn the_signing_key_is_listed_and_rotated() {
    let desk = Desk::open(&[]);
    let (_, list, _) = at(&desk, &["signing-key", "list"]);
    assert!(list.lines().count() == 2 && list.contains("  ES256      signs  "), "{list}");
    let (_, list, _) = at(&desk, &["signing-key", "rotate"]);
    assert!(list.lines().count() == 3 && list.lines().nth(2).unwrap().contains("  signs in "), "{list}");
    let (code, _, err) = at(&desk, &["signing-key", "rotate"]);
    assert!(code == 1 && err.contains("--now"), "{err}");
    let (_, list, _) = at(&desk, &["signing-key", "rotate", "--now"]);
    assert!(list.lines().nth(1).unwrap().contains("  verifies  "), "{list}");
    assert!(list.lines().nth(2).unwrap().contains("  signs  "), "{list}");
    let (code, _, err) = at(&desk, &["signing-key", "rotate", "--drop-old"]);
    assert!(code != 0 && err.contains("--now"), "{code}: {err}");
    let (status, problem) = desk.ask("POST", "/v1/signing-keys/rotate", r#"{"drop_old":true}"#);
    assert!(
        (400..500).contains(&status) && problem["detail"].as_str().unwrap().contains("\"now\": true"),
        "{problem}"
    );
    let (_, list, _) = at(&desk, &["signing-key", "rotate", "--now", "--drop-old"]);
    assert!(list.lines().count() == 2 && list.contains("  signs  "), "{list}");
}
