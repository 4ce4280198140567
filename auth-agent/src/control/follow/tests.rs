use std::net::SocketAddr;

use super::*;
use crate::api_key::{ApiKey, KeyRing};
use crate::clock::Now;
use crate::control::Standing;
use crate::control::testing::{Desk, used_by};
use crate::identity::Method;
use crate::refusal::Refusal;
use crate::store::{KeyPurpose, NewKey, StoredSigningKey};
use tokio::runtime::Builder;

const NOW: UnixTime = UnixTime(1_800_000_000);

/// The store as another process has it.
fn other(desk: &Desk) -> Store {
    let directory = desk.directory.path().join("store");
    Store::open_with(&directory, Some(desk.store.lock().unwrap()), NOW).unwrap()
}

fn follow_now(desk: &Desk, followed: &mut Followed) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    desk.control.follow(followed, NOW).unwrap();
}

fn new_key(ring: &KeyRing, name: &str) -> (ApiKey, NewKey) {
    let key = ApiKey::generate().unwrap();
    let new = NewKey {
        created: None,
        expires: None,
        hash: ring.hash(&key),
        id: key.id(),
        name: name.to_owned(),
        networks: vec![],
        note: None,
        owner: None,
        rate: None,
        scopes: vec![],
    };
    (key, new)
}

#[test]
fn what_another_agent_sets_and_resets_of_limits_holds_here() {
    let desk = Desk::open(&[]);
    let (other, mut followed) = (other(&desk), desk.control.followed().unwrap());
    let passes = |user| crate::control::tests::request_limits::passes(&desk, user);
    assert_eq!([(); 3].map(|()| passes("alice")), [true, true, false]);
    let whom = WhoseDebts { principal: Some("alice".to_owned()), ..WhoseDebts::default() };
    other.note_reset("per-user", &whom, std::process::id() + 1, NOW).unwrap();
    follow_now(&desk, &mut followed);
    assert_eq!([(); 3].map(|()| passes("alice")), [true, true, false]);
    // What it forgot itself, it has forgotten already.
    let (status, _) = desk.ask("POST", "/v1/request-limits/per-user/reset", r#"{"principal":"alice"}"#);
    assert_eq!((status, passes("alice")), (200, true));
    other.note_reset("none", &whom, std::process::id() + 1, NOW).unwrap();
    follow_now(&desk, &mut followed);
    assert_eq!([(); 2].map(|()| passes("alice")), [true, false]);
    let budget = BudgetText { burst: Some("3".into()), rate: Some("60/h".into()), ..BudgetText::default() };
    other.set_budget("per-user", &budget, false, NOW).unwrap();
    follow_now(&desk, &mut followed);
    assert_eq!([(); 2].map(|()| passes("alice")), [true, false]);
    other.remove_budget("per-user", NOW).unwrap();
    follow_now(&desk, &mut followed);
    assert_eq!(desk.limiter.set_for("per-user"), None);
}

#[test]
fn what_another_agent_revokes_bans_and_makes_holds_here() {
    let desk = Desk::open(&[]);
    let (other, mut followed) = (other(&desk), desk.control.followed().unwrap());
    let entries = [1, 2, 3].map(|number| {
        let peer = SocketAddr::from(([192, 0, 2, number], 1));
        desk.connections.enter("10.0.0.1:443".parse().unwrap(), peer, NOW)
    });
    let users = ["alice", "bob", "carol"];
    let _requests: Vec<_> =
        entries.iter().zip(users).map(|(entry, user)| used_by(entry, Method::Jwt, user)).collect();
    let ended = |index: usize| entries[index].connection().is_ended();
    let count = |desk: &Desk| desk.connections.list(|_| true).len();
    follow_now(&desk, &mut followed);
    assert_eq!(count(&desk), 3);

    let subject = Target::Subject { issuer: None, subject: "alice".to_owned() };
    let revocation = Revocation { before: None, until: None };
    other.revoke(&[(subject.clone(), revocation)], None, NOW).unwrap();
    other.add_ban("192.0.2.2/32".parse().unwrap(), None, None, NOW).unwrap();
    let (key, new) = new_key(&desk.keys, "made-there");
    other.create_key(new, NOW).unwrap();
    let use_key =
        || desk.keys.verify(key.expose(), "192.0.2.9".parse().unwrap(), Now { unix: NOW, ..Now::read() });
    assert!(use_key().is_err());
    follow_now(&desk, &mut followed);
    assert_eq!([0, 1, 2].map(ended), [true, true, false]);
    assert!(desk.revocations.covers(&subject, None));
    assert_eq!(desk.edge.told().len(), 2, "with the allowlist");
    assert!(use_key().is_ok());

    other.revoke(&[(Target::Key { key: key.id() }, revocation)], None, NOW).unwrap();
    other.remove_revocation(subject.mark().1, NOW).unwrap();
    assert!(other.remove_ban("192.0.2.2/32".parse().unwrap(), NOW).unwrap());
    follow_now(&desk, &mut followed);
    assert!(matches!(use_key(), Err(Refusal::ApiKeyRevoked)));
    assert!(!desk.revocations.covers(&subject, None));
    assert_eq!(desk.edge.told().len(), 1);
}

#[test]
fn a_signing_key_that_another_agent_made_is_published_here() {
    let desk = Desk::open(&[]);
    let (_, list) = desk.ask("GET", "/v1/signing-keys", "");
    let mut followed = desk.control.followed().unwrap();
    let other = other(&desk);
    let mut stored = other.signing_keys(KeyPurpose::Issuer).unwrap();
    stored[0].signs_from = UnixTime(1);
    other.put_signing_key(&stored[0], NOW).unwrap();
    follow_now(&desk, &mut followed);
    let (_, later) = desk.ask("GET", "/v1/signing-keys", "");
    assert_ne!(list, later);
    assert_eq!(later["signing_keys"][0]["signs_from"], 1, "{later}");
}

#[test]
fn changes_are_refused_while_another_agent_starts_and_when_it_has_taken_over() {
    let desk = Desk::open(&[]);
    let held = desk.control.hold().unwrap();
    let ban = |desk: &Desk| desk.ask("POST", "/v1/bans", r#"{"network":"192.0.2.7"}"#);
    let (status, refusal) = ban(&desk);
    assert_eq!((status, refusal["reason"].as_str().unwrap()), (503, "upgrade-under-way"));
    assert_eq!(desk.ask("GET", "/v1/status", "").0, 200, "looking is free");
    assert_eq!(desk.control.standing(), Standing::Upgrading);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let inside = runtime.enter();
    held.go_on(NOW).unwrap();
    drop(inside);
    assert_eq!(ban(&desk).0, 201, "as before");

    let _ = desk.control.hold().unwrap().give_up();
    let (status, refusal) = ban(&desk);
    assert_eq!((status, refusal["reason"].as_str().unwrap()), (503, "agent-replaced"));
    assert_eq!(desk.control.upkeep(NOW).unwrap(), None);
}

#[test]
fn what_fails_keeps_nothing_else_from_holding_and_is_tried_again() {
    let desk = Desk::open(&[]);
    let (other, mut followed) = (other(&desk), desk.control.followed().unwrap());
    let entries = [1, 2].map(|number| {
        let peer = SocketAddr::from(([192, 0, 2, number], 1));
        desk.connections.enter("10.0.0.1:443".parse().unwrap(), peer, NOW)
    });
    let _requests: Vec<_> =
        entries.iter().zip(["alice", "bob"]).map(|(entry, user)| used_by(entry, Method::Jwt, user)).collect();
    let ended = |index: usize| entries[index].connection().is_ended();
    let good = other.signing_keys(KeyPurpose::Issuer).unwrap().remove(0);
    let bad = StoredSigningKey { sealed: vec![0; 64], ..good.clone() };
    other.replace_signing_keys(&bad, NOW).unwrap();
    other.add_ban("192.0.2.2/32".parse().unwrap(), None, None, NOW).unwrap();
    let subject = Target::Subject { issuer: None, subject: "alice".to_owned() };
    other.revoke(&[(subject, Revocation { before: None, until: None })], None, NOW).unwrap();
    let path = desk.directory.path().join("store/auth-agent.db");
    let rename = |from: &str, to: &str| {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();

    rename("bans", "gone");
    desk.control.follow(&mut followed, NOW).unwrap_err();
    assert_eq!([0, 1].map(ended), [true, false], "the revocation holds, the ban could not be read");
    rename("gone", "bans");
    desk.control.follow(&mut followed, NOW).unwrap_err();
    assert_eq!([0, 1].map(ended), [true, true], "the ban holds, the signing key can't be read");
    other.replace_signing_keys(&StoredSigningKey { signs_from: UnixTime(1), ..good }, NOW).unwrap();
    desk.control.follow(&mut followed, NOW).unwrap();
    let (_, list) = desk.ask("GET", "/v1/signing-keys", "");
    assert_eq!(list["signing_keys"][0]["signs_from"], 1, "{list}");
}

#[test]
fn an_agent_that_stops_takes_no_changes_and_no_failed_upgrade_changes_that() {
    let desk = Desk::open(&[]);
    let held = desk.control.hold().unwrap();
    desk.control.stop();
    drop(held);
    drop(desk.control.hold().unwrap());
    let (status, refusal) = desk.ask("POST", "/v1/bans", r#"{"network":"192.0.2.7"}"#);
    assert_eq!((status, refusal["reason"].as_str().unwrap()), (503, "agent-stopping"));
    assert_eq!(desk.ask("GET", "/v1/status", "").0, 200, "looking is free");
}

#[test]
fn following_goes_on_after_many_changes_without_leaving_one_out() {
    let desk = Desk::open(&[]);
    let (other, mut followed) = (other(&desk), desk.control.followed().unwrap());
    let more = AT_ONCE as usize + 5;
    let target = |number: usize| Target::Subject { issuer: None, subject: format!("s{number}") };
    let revocation = Revocation { before: None, until: None };
    let targets: Vec<_> = (0..more).map(|number| (target(number), revocation)).collect();
    other.revoke(&targets, None, NOW).unwrap();
    follow_now(&desk, &mut followed);
    assert_eq!(desk.revocations.len(), more);
}
