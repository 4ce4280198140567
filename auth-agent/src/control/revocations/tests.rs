use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::thread;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::clock::Now;
use crate::connections::{Entry, Protocol};
use crate::control::testing::{Desk, used_by};
use crate::identity::tests::someone;
use crate::identity::{Facts, Identity, Method};
use crate::revocation::Revocations;
use crate::store::Store;

fn enter(desk: &Desk, peer: &str, protocol: Protocol) -> Entry {
    let entry =
        desk.connections.enter("10.0.0.1:443".parse().unwrap(), peer.parse().unwrap(), UnixTime::now());
    entry.connection().speaks(protocol);
    entry
}

fn revoke(desk: &Desk, request: Value) -> (u16, Value) {
    desk.ask("POST", "/v1/revocations", &request.to_string())
}

fn is_revoked(desk: &Desk, identity: &Identity) -> bool {
    desk.revocations.is_revoked(identity, UnixTime::now())
}

fn token(claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"ES256"}"#), part(&claims.to_string()), part("signature"))
}

#[test]
fn a_revocation_is_in_force_listed_and_taken_back() {
    let desk = Desk::open(&[]);
    let alice = someone(Method::Jwt, "alice", &[]);
    let (status, answer) =
        revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }], "reason": "left" }));
    assert_eq!((status, &answer["ended"]), (201, &json!({ "connections": 0, "requests": 0 })));
    assert!(is_revoked(&desk, &alice));
    assert!(!is_revoked(&desk, &someone(Method::Jwt, "bob", &[])));

    let (_, list) = desk.ask("GET", "/v1/revocations", "");
    let entry = &list["revocations"][0];
    assert_eq!(list["total"], 1);
    assert_eq!(
        (&entry["target"], &entry["reason"], &entry["before"], &entry["until"]),
        (&json!({ "kind": "subject", "subject": "alice" }), &json!("left"), &Value::Null, &Value::Null)
    );
    let id = format!("/v1/revocations/{}", entry["id"].as_str().unwrap());
    assert_eq!(desk.ask("DELETE", &id, "").0, 200);
    assert!(!is_revoked(&desk, &alice));
    let (status, problem) = desk.ask("DELETE", &id, "");
    assert_eq!((status, &problem["reason"]), (404, &json!("revocation-missing")));
    assert_eq!(desk.ask("GET", "/v1/revocations", "").1["total"], 0);
}

#[test]
fn a_list_goes_on_where_it_ended() {
    let desk = Desk::open(&[]);
    let targets: Vec<_> = (0..25).map(|n| json!({ "kind": "client", "client": n.to_string() })).collect();
    assert_eq!(revoke(&desk, json!({ "targets": targets })).0, 201);
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let (_, list) = desk.ask("GET", &format!("/v1/revocations?limit=10{after}"), "");
        seen.extend(list["revocations"].as_array().unwrap().iter().map(|entry| entry["target"].clone()));
        match list["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(targets.iter().all(|target| seen.contains(target)));
    for query in ["limit=0", "limit=100001", "limit=x", "after=1", "colour=red"] {
        assert_eq!(desk.ask("GET", &format!("/v1/revocations?{query}"), "").0, 400, "{query}");
    }
}

#[test]
fn what_can_t_be_revoked_is_refused_with_its_cure_and_nothing_else_is_done() {
    let desk = Desk::open(&[]);
    let good = json!({ "kind": "subject", "subject": "alice" });
    let key = json!({ "kind": "key", "key": "000000000001" });
    let (long, hash) = ("x".repeat(256), TokenHash::of("a.b.c").to_string());
    for (request, reason, part) in [
        (json!({}), "field-invalid", "1 to 10000"),
        (
            json!({ "targets": [good, { "kind": "issuer", "issuer": "other" }] }),
            "issuer-missing",
            "there are main",
        ),
        (json!({ "targets": [good, key] }), "key-missing", "key list"),
        (json!({ "targets": [good, { "kind": "subject", "subject": "" }] }), "field-invalid", "255"),
        (json!({ "targets": [good, { "kind": "subject", "subject": long }] }), "field-invalid", "255"),
        (json!({ "targets": [good, { "kind": "colour" }] }), "body-invalid", ""),
        (json!({ "targets": [good], "tokens": "secret" }), "body-invalid", ""),
        (json!({ "targets": [good], "tokens": [hash, "rubbish"] }), "token-invalid", "token 2 is none"),
        (json!({ "targets": [good], "before": UnixTime::now().0 + 3600 }), "field-invalid", "lies ahead"),
        (json!({ "targets": [good], "before": UnixTime::now().0 * 1000 }), "field-invalid", "lies ahead"),
        (
            json!({ "targets": [good], "tokens": [token(&json!({ "iss": "https://other.example", "exp": 1 }))] }),
            "token-invalid",
            "issuer",
        ),
        (json!({ "targets": [good], "reason": "a\nb" }), "field-invalid", "one line"),
    ] {
        let (status, problem) = revoke(&desk, request.clone());
        assert!((400..410).contains(&status), "{request}: {status}");
        assert_eq!(problem["reason"], reason, "{request}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part) && !detail.contains("secret"), "{problem}");
        assert!(desk.revocations.is_empty(), "{request}");
    }
}

#[test]
fn a_revocation_is_over_when_everything_that_it_revokes_is() {
    let desk = Desk::open(&[]);
    let key = desk.ask("POST", "/v1/keys", r#"{"name":"ci"}"#).1;
    let now = UnixTime::now().0;
    let longest = LONGEST_TOKEN.as_secs() + 2 * LONGEST_LEEWAY.as_secs();
    let signed = token(&json!({ "iss": "https://issuer.example", "exp": now + 100, "iat": now }));
    let endless = token(&json!({ "iss": "https://issuer.example", "exp": now + 1_000_000_000, "iat": now }));
    let hash = TokenHash::of(&signed).to_string();
    let subject = |name: &str| json!({ "kind": "subject", "subject": name });
    for (what, expected) in [
        (json!({ "tokens": [signed] }), Some(now + 100 + LONGEST_LEEWAY.as_secs())),
        (json!({ "tokens": [endless] }), Some(now + 1_000_000_000 + LONGEST_LEEWAY.as_secs())),
        (json!({ "tokens": [hash.replace('0', "1")] }), Some(now + longest)),
        (
            json!({ "targets": [{ "kind": "token-id", "issuer": "main", "token_id": "1" }] }),
            Some(now + longest),
        ),
        (json!({ "targets": [{ "kind": "key", "key": key["id"] }] }), Some(now + longest)),
        (json!({ "targets": [{ "kind": "issuer", "issuer": "main" }], "before": now }), Some(now + longest)),
        (json!({ "targets": [subject("bob")], "before": now + 20 }), Some(now + 20 + longest)),
        (json!({ "targets": [subject("bob")] }), None),
        (json!({ "targets": [subject("carol")] }), None),
    ] {
        let (status, answer) = revoke(&desk, what.clone());
        assert_eq!(status, 201, "{answer}");
        let until = answer["revocations"][0]["until"].as_u64();
        // The clock may have gone on meanwhile.
        let near = |until: u64| expected.is_some_and(|expected| (expected..expected + 20).contains(&until));
        assert!(until.map_or(expected.is_none(), near), "{what}: {until:?}, {expected:?}");
    }
}

#[test]
fn what_was_issued_before_for_the_name_of_a_living_api_key_is_never_over() {
    let desk = Desk::open(&[]);
    desk.ask("POST", "/v1/keys", r#"{"name":"ci"}"#);
    let request =
        json!({ "targets": [{ "kind": "subject", "subject": "ci" }], "before": UnixTime::now().0 + 1 });
    assert_eq!(revoke(&desk, request).1["revocations"][0]["until"], Value::Null);
}

#[test]
fn revocations_survive_a_restart() {
    let desk = Desk::open(&[]);
    let now = UnixTime::now().0;
    revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }], "before": now }));
    revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }], "before": now - 100 }));
    revoke(&desk, json!({ "tokens": [TokenHash::of("a.b.c").to_string()] }));
    let directory = desk.directory.path().join("store");
    let moved = desk.directory.path().join("moved");
    DirBuilder::new().mode(0o700).create(&moved).unwrap();
    // The lock belongs to the running one: what it wrote is read from a copy.
    for name in ["auth-agent.db", "auth-agent.db-wal"] {
        fs::copy(directory.join(name), moved.join(name)).unwrap();
    }
    let store = Store::open(&moved, UnixTime(now)).unwrap();
    let revocations = Revocations::default();
    store.load_revocations(&revocations).unwrap();
    let issued =
        |at| Identity::verified(Facts { issued_at: Some(UnixTime(at)), ..Facts::new(Method::Jwt, "alice") });
    let of_token =
        Identity::verified(Facts { token: Some(TokenHash::of("a.b.c")), ..Facts::new(Method::Jwt, "bob") });
    assert_eq!(revocations.len(), 2);
    assert!(revocations.is_revoked(&issued(now - 1), UnixTime(now)));
    assert!(!revocations.is_revoked(&issued(now), UnixTime(now)));
    assert!(revocations.is_revoked(&of_token, UnixTime(now)));
}

#[test]
fn what_is_over_revokes_nothing_is_not_listed_and_goes() {
    let desk = Desk::open(&[]);
    let now = UnixTime::now();
    let over = Revocation { before: None, until: Some(now) };
    let target = Target::Client { client: "app".into(), issuer: None };
    desk.control.store.revoke(&[(target, over)], None, now).unwrap();
    assert_eq!(desk.control.store.revocations(None, 10, now).unwrap(), []);
    assert_eq!(desk.control.store.revocations(None, 10, UnixTime(now.0 - 1)).unwrap().len(), 1);
    let revocations = Revocations::default();
    desk.control.store.load_revocations(&revocations).unwrap();
    assert_eq!(revocations.len(), 1, "the clock may be wrong");
    let of_client = Facts { client: Some("app".into()), ..Facts::new(Method::Jwt, "alice") };
    assert!(!revocations.is_revoked(&Identity::verified(of_client), now));
    for (steady, left) in [(0, 1), (3_599, 1), (3_600, 0)] {
        desk.control.tidy_revocations(Duration::from_secs(steady), now).unwrap();
        let kept = desk.control.store.revocations(None, 10, UnixTime(now.0 - 1)).unwrap().len();
        assert_eq!(kept, left, "with a clock that was set {steady} s ago");
    }
}

#[test]
fn a_revoked_key_is_refused_with_its_tokens_and_its_connections_end() {
    let desk = Desk::open(&[]);
    let key = desk.ask("POST", "/v1/keys", r#"{"name":"ci"}"#).1;
    let id: KeyId = key["id"].as_str().unwrap().parse().unwrap();
    let exchanged = Identity::verified(Facts { key: Some(id), ..Facts::new(Method::Jwt, "ci") });
    let entry = enter(&desk, "192.0.2.7:5000", Protocol::Http1);
    let request = entry.connection().begin();
    request.identified(&exchanged);
    request.accepted(&exchanged);
    let (status, answer) = desk.ask("POST", &format!("/v1/keys/{id}/revoke"), "");
    assert_eq!((status, &answer["ended"]["connections"]), (200, &json!(1)));
    assert!(is_revoked(&desk, &exchanged) && entry.connection().is_ended());
    let refused = desk.keys.verify(key["key"].as_str().unwrap(), [192, 0, 2, 7].into(), Now::read());
    assert!(refused.is_err());
    assert_eq!(desk.ask("POST", &format!("/v1/keys/{id}/revoke"), "").1["revoked"], answer["revoked"]);
}

#[test]
fn only_what_the_revoked_alone_uses_is_ended_and_dropped_in_the_kernel() {
    let desk = Desk::open(&[]);
    let alone = enter(&desk, "192.0.2.1:1", Protocol::Http2);
    let idle = enter(&desk, "192.0.2.2:2", Protocol::Http1);
    let shared = enter(&desk, "192.0.2.3:3", Protocol::Http2);
    let strangers = enter(&desk, "192.0.2.4:4", Protocol::Http1);
    let anonymous = enter(&desk, "192.0.2.5:5", Protocol::Http1);
    let _one = used_by(&alone, Method::Jwt, "alice");
    drop(used_by(&idle, Method::Jwt, "alice"));
    let cut = used_by(&shared, Method::Jwt, "alice");
    let kept = used_by(&shared, Method::Jwt, "bob");
    let _other = used_by(&strangers, Method::Jwt, "bob");
    // As its task would, once it is told.
    let gone = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let why = runtime.block_on(cut.cut_off());
        drop(cut);
        why
    });
    let (_, answer) = revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }] }));
    assert_eq!(answer["ended"], json!({ "connections": 2, "requests": 1 }));
    assert_eq!(gone.join().unwrap(), End::Revoked);
    let ended = [&alone, &idle, &shared, &strangers, &anonymous].map(|entry| entry.connection().is_ended());
    assert_eq!(ended, [true, true, false, false, false]);
    let flows = desk.edge.flows.lock().unwrap().clone();
    let peers: Vec<_> = flows.iter().map(|(flow, _)| flow.peer.to_string()).collect();
    assert_eq!(peers, ["192.0.2.1:1", "192.0.2.2:2"]);
    drop(kept);
}

/// Promptly, but by another thread.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_request_that_does_not_go_when_it_is_cut_off_takes_its_connection_with_it() {
    let desk = Desk::open(&[]);
    let shared = enter(&desk, "192.0.2.3:3", Protocol::Http2);
    let _stalled = used_by(&shared, Method::Jwt, "alice");
    let _kept = used_by(&shared, Method::Jwt, "bob");
    let (_, answer) = revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }] }));
    assert_eq!(answer["ended"], json!({ "connections": 0, "requests": 1 }));
    eventually("the connection goes on", || shared.connection().is_ended());
}

#[test]
fn who_has_not_said_yet_who_they_are_may_be_somebody_else() {
    let desk = Desk::open(&[]);
    let shared = enter(&desk, "192.0.2.3:3", Protocol::Http2);
    let alice = used_by(&shared, Method::Jwt, "alice");
    let _unknown = shared.connection().begin();
    let (_, answer) = revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }] }));
    assert_eq!(answer["ended"], json!({ "connections": 0, "requests": 1 }));
    drop(alice);
    assert!(!shared.connection().is_ended());
}

#[test]
fn an_http1_connection_ends_with_who_used_it_last() {
    let desk = Desk::open(&[]);
    let [last, before] = ["192.0.2.3:3", "192.0.2.4:4"].map(|peer| enter(&desk, peer, Protocol::Http1));
    for (entry, users) in [(&last, ["bob", "alice"]), (&before, ["alice", "bob"])] {
        users.iter().for_each(|user| drop(used_by(entry, Method::Jwt, user)));
    }
    let (_, answer) = revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }] }));
    assert_eq!(answer["ended"], json!({ "connections": 1, "requests": 0 }));
    assert!(last.connection().is_ended() && !before.connection().is_ended());
}

#[test]
fn who_was_refused_for_a_revocation_is_no_user_of_the_connection() {
    let desk = Desk::open(&[]);
    revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }] }));
    let entry = enter(&desk, "192.0.2.3:3", Protocol::Http1);
    let request = entry.connection().begin();
    request.identified(&someone(Method::Jwt, "alice", &[]));
    drop(request);
    let (_, answer) = revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "bob" }] }));
    assert_eq!(answer["ended"], json!({ "connections": 0, "requests": 0 }));
    assert!(!entry.connection().is_ended());
}

#[test]
fn a_kernel_that_fails_keeps_no_connection_alive() {
    let desk = Desk::open(&[]);
    let alone = enter(&desk, "192.0.2.1:1", Protocol::Http2);
    let _one = used_by(&alone, Method::Jwt, "alice");
    *desk.edge.broken.lock().unwrap() = true;
    let (status, _) = revoke(&desk, json!({ "targets": [{ "kind": "subject", "subject": "alice" }] }));
    assert_eq!(status, 201);
    assert!(alone.connection().is_ended());
}
