use super::{Desk, at, run};
use crate::control::testing::used_by;
use crate::identity::Method;

#[test]
fn a_wrong_revocation_exits_64_with_the_cure() {
    let table: &[(&[&str], u8, &str)] = &[
        (&["revoke"], 64, "Usage"),
        (&["revoke", "token"], 64, "<TOKEN>"),
        (&["revoke", "token", "--id", "1"], 64, "--issuer <NAME>"),
        (&["revoke", "token", "x", "--id", "1", "--issuer", "main"], 64, "cannot be used with"),
        (&["revoke", "key", "short"], 64, "12 letters and digits"),
        (&["revoke", "subject", "alice", "--before", "soon"], 64, "write now, how long ago"),
        (&["revoke", "subject", "--help"], 0, "--before <TIME>"),
        (&["revocation", "remove", "12"], 64, "32 hexadecimal digits"),
        (&["revocations", "list", "--limit", "x"], 64, "invalid digit"),
    ];
    for (args, code, words) in table {
        let (exit, out, err) = run(args);
        assert_eq!(exit, *code, "{args:?}: {out}{err}");
        assert!(format!("{out}{err}").contains(words), "{args:?}: {out}{err}");
    }
}

#[test]
fn what_is_revoked_is_told_listed_and_taken_back() {
    let desk = Desk::open(&[]);
    assert_eq!(at(&desk, &["revocation", "list"]), (0, "nothing is revoked\n".into(), String::new()));
    let entry = desk.connections.enter(
        "10.0.0.1:443".parse().unwrap(),
        "192.0.2.7:5000".parse().unwrap(),
        crate::clock::UnixTime::now(),
    );
    let _request = used_by(&entry, Method::Jwt, "alice");
    let (code, out, err) = at(&desk, &["revoke", "subject", "alice", "--reason", "left"]);
    assert_eq!((code, &*out, &*err), (0, "revoked subject alice; ended 1 connection\n", ""));
    let (_, out, _) = at(&desk, &["revoke", "issuer", "main", "--before", "now"]);
    assert!(out.starts_with("revoked issuer main, as far as issued before "), "{out}");
    assert!(out.contains("; that is over in 1d"), "{out}");
    assert!(out.ends_with("; nothing was going on with it\n"), "{out}");
    let (_, out, _) = at(&desk, &["revoke", "client", "app", "--issuer", "main"]);
    assert_eq!(out, "revoked client app of main; nothing was going on with it\n");
    let (_, out, _) = at(&desk, &["revoke", "token", "--id", "t1", "--issuer", "main"]);
    assert!(out.starts_with("revoked token t1 of main; that is over in "), "{out}");

    let (_, list, _) = at(&desk, &["revocations", "list"]);
    assert!(list.starts_with("ID "), "{list}");
    assert_eq!(list.lines().count(), 5, "{list}");
    let (_, page, _) = at(&desk, &["revocation", "list", "--limit", "3"]);
    assert!(page.contains("4 in all; more with --after "), "{page}");
    let line = list.lines().find(|line| line.contains("subject alice")).unwrap();
    assert!(line.ends_with("left") && line.contains(" all ") && line.contains(" never "), "{line}");
    let (id, _) = line.split_once(' ').unwrap();
    let restored = "subject alice is no longer revoked\n".to_owned();
    assert_eq!(at(&desk, &["revocation", "remove", id]), (0, restored, String::new()));
    let (code, _, err) = at(&desk, &["revocation", "remove", id]);
    assert!(code == 1 && err.contains("there is no revocation"), "{err}");
    assert!(at(&desk, &["status"]).1.contains("\nrevoked    3 in "));
}

#[test]
fn a_name_that_reorders_its_line_is_shown_escaped() {
    let desk = Desk::open(&[]);
    let (_, out, _) = at(&desk, &["revoke", "subject", "al\u{202e}ice"]);
    assert!(out.contains("subject al\\u{202e}ice"), "{out}");
}
