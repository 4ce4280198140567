//! Who did what: each verb leaves an entry, with who it was.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::post;
use axum::{Router, middleware};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower_service::Service as _;

use crate::clock::UnixTime;
use crate::control::Peer;
use crate::control::testing::Desk;
use crate::skipped;
use crate::store::AuditWanted;

/// Actions with their outcomes, but for those that came by starting.
fn entries(desk: &Desk) -> Vec<Value> {
    let (status, answer) = desk.ask("GET", "/v1/audit", "");
    assert_eq!(status, 200, "{answer}");
    let entries = answer["entries"].as_array().unwrap().clone();
    entries.into_iter().filter(|entry| entry["actor"] != "agent").collect()
}

#[test]
fn every_verb_leaves_an_entry_with_who_it_was_and_what_came_of_it() {
    let desk = Desk::open(&[]);
    let (_, key) = desk.ask("POST", "/v1/keys", r#"{"name":"ci","scopes":["read"]}"#);
    let (id, secret) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    let rotate = format!("/v1/keys/{id}/rotate");
    let revoke = format!("/v1/keys/{id}/revoke");
    let table: &[(&str, &str, &str, &str, &str)] = &[
        ("POST", &rotate, "{}", "key.rotate", "done"),
        ("POST", &revoke, "", "key.revoke", "done"),
        ("POST", "/v1/bans", r#"{"network":"192.0.2.9"}"#, "ban.add", "done"),
        ("DELETE", "/v1/bans/192.0.2.9", "", "ban.remove", "done"),
        ("DELETE", "/v1/bans/192.0.2.9", "", "ban.remove", "refused"),
        ("POST", "/v1/bans", r#"{"network":"0.0.0.0/0"}"#, "ban.add", "refused"),
        ("POST", "/v1/allows", r#"{"network":"192.0.2.10"}"#, "allow.add", "done"),
        ("DELETE", "/v1/allows/192.0.2.10", "", "allow.remove", "done"),
        (
            "POST",
            "/v1/limits",
            r#"{"network":"192.0.2.0/28","limits":{"requests":{"rate":"9/min"}}}"#,
            "limit.set",
            "done",
        ),
        ("POST", "/v1/connections/end", r#"{"source":"192.0.2.9"}"#, "connection.end", "done"),
        (
            "POST",
            "/v1/revocations",
            r#"{"targets":[{"kind":"subject","subject":"alice"}]}"#,
            "revocation.add",
            "done",
        ),
        ("POST", "/v1/detach", "", "filter.detach", "done"),
        ("POST", "/v1/pending/7/confirm", "", "change.confirm", "refused"),
        ("POST", "/v1/request-limits/none", r#"{"budget":{"rate":"1/s"}}"#, "budget.set", "refused"),
        ("DELETE", "/v1/request-limits/none", "", "budget.remove", "refused"),
        ("POST", "/v1/request-limits/none/reset", r#"{"all":true}"#, "debt.reset", "refused"),
    ];
    let mut answers = Vec::new();
    for (method, target, body, ..) in table {
        answers.push(desk.ask(method, target, body));
    }
    let entries = entries(&desk);
    let own_uid = rustix::process::getuid().as_raw();
    assert_eq!(entries[0]["action"], "key.create");
    for ((entry, (_, target, _, action, outcome)), answer) in entries[1..].iter().zip(table).zip(&answers) {
        assert_eq!(
            (&entry["action"], &entry["outcome"]),
            (&json!(action), &json!(outcome)),
            "{target}: {answer:?}"
        );
        assert_eq!((&entry["actor"], &entry["uid"]), (&json!("operator"), &json!(own_uid)), "{entry}");
        assert_eq!(entry["pid"], std::process::id(), "{entry}");
    }
    assert_eq!(entries.len(), table.len() + 1, "{entries:#?}");
    let text = serde_json::to_string(&entries).unwrap();
    assert!(!text.contains(secret) && !text.contains("hash"), "{text}");
    assert!(text.contains("there is no ban on exactly 192.0.2.9/32"), "it is told why: {text}");
}

#[test]
fn the_list_is_as_long_and_reaches_as_far_back_as_is_asked_for() {
    let desk = Desk::open(&[]);
    for number in 1..=5 {
        desk.ask("POST", "/v1/bans", &format!(r#"{{"network":"192.0.2.{number}"}}"#));
    }
    let networks = |query: &str| {
        let (status, answer) = desk.ask("GET", &format!("/v1/audit{query}"), "");
        assert_eq!(status, 200, "{answer}");
        let entries = answer["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["detail"]["network"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(networks("?limit=2"), ["192.0.2.4/32", "192.0.2.5/32"]);
    assert_eq!(networks("?since_seconds=3600&limit=1"), ["192.0.2.5/32"]);
    for query in ["?limit=0", "?limit=100001", "?since_seconds=x", "?until=1"] {
        assert_eq!(desk.ask("GET", &format!("/v1/audit{query}"), "").0, 400, "{query}");
    }
}

/// Attack 32: whoever hangs up at the right moment.
#[tokio::test]
async fn who_hangs_up_is_written_down_all_the_same() {
    let desk = tokio::task::spawn_blocking(|| Desk::open(&[])).await.unwrap();
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&begun), Arc::clone(&go_on));
    let slow = move || async move {
        signals.0.notify_one();
        signals.1.notified().await;
        http::StatusCode::NO_CONTENT
    };
    let noted = middleware::from_fn_with_state(Arc::clone(&desk.control), super::super::audit::note);
    let mut router = Router::new().route("/v1/detach", post(slow)).layer(noted);
    let mut request = http::Request::post("/v1/detach").body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo(Peer { gid: 1, pid: None, uid: 77 }));
    let answer = router.call(request);
    tokio::select! {
        _ = answer => panic!("it waits"),
        () = begun.notified() => {}
    }
    // The connection's future is gone; the work is not.
    go_on.notify_one();
    let store = Arc::clone(&desk.store);
    let written = tokio::task::spawn_blocking(move || {
        let wanted = AuditWanted { limit: 10, since: UnixTime(0) };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let entries = store.audit_entries(wanted).unwrap();
            let found = entries.into_iter().find(|entry| entry.uid == Some(77));
            if found.is_some() || std::time::Instant::now() > deadline {
                return found;
            }
            std::thread::yield_now();
        }
    });
    let entry = written.await.unwrap().expect("there is an entry");
    assert_eq!((&*entry.action, &*entry.outcome), ("filter.detach", "done"));
    tokio::task::spawn_blocking(move || drop(desk)).await.unwrap();
}

/// Attack 32.
#[test]
fn a_user_who_may_not_is_written_down_and_not_without_end() {
    const STRANGER: u32 = 65_534;
    let desk = Desk::open(&[1]);
    for _ in 0..12 {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "10", "--unix-socket"]).arg(&desk.socket).arg("http://localhost/v1/keys");
        let Ok(done) = curl.uid(STRANGER).gid(STRANGER).current_dir("/").output() else {
            return skipped::say("what is written of strangers", "it takes root and curl to be another user");
        };
        assert!(String::from_utf8_lossy(&done.stdout).contains("may not use this socket"));
    }
    let strangers =
        || entries(&desk).into_iter().filter(|entry| entry["actor"] == "stranger").collect::<Vec<_>>();
    // They are written a moment after they were refused.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while strangers().len() < 10 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    let found = strangers();
    assert_eq!(found.len(), 10, "{found:#?}");
    for entry in found {
        assert_eq!((&entry["uid"], &entry["gid"]), (&json!(STRANGER), &json!(STRANGER)));
        assert_eq!((&entry["action"], &entry["outcome"]), (&json!("control.connect"), &json!("refused")));
    }
}
