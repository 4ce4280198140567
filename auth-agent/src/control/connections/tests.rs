use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};

use crate::clock::{Monotonic, UnixTime};
use crate::connections::{Connection, End, Entry, Protocol};
use crate::control::testing::{Desk, used_by};
use crate::edge::Flow;
use crate::identity::Method;

fn enter(desk: &Desk, peer: &str) -> Entry {
    let end = |text: &str| -> SocketAddr { text.parse().unwrap() };
    desk.connections.enter(end("[::ffff:10.0.0.1]:443"), end(peer), UnixTime(1_000))
}

fn ids(list: &Value) -> Vec<u64> {
    let connections = list["connections"].as_array().or(list["ended"].as_array()).unwrap();
    connections.iter().map(|connection| connection["id"].as_u64().unwrap()).collect()
}

#[test]
fn connections_are_listed_by_source_and_subject() {
    let desk = Desk::open(&[]);
    assert_eq!(desk.ask("GET", "/v1/connections", ""), (200, json!({ "connections": [] })));
    let alice = enter(&desk, "[::ffff:192.0.2.7]:5000");
    let _other = enter(&desk, "[2001:db8::7]:5001");
    alice.connection().speaks(Protocol::Http2);
    let _request = used_by(&alice, Method::Jwt, "alice & co");

    let (_, list) = desk.ask("GET", "/v1/connections", "");
    let expected = json!({ "connections": [
        {
            "accepted": 1_000, "client": null, "id": 1, "listener": "10.0.0.1:443", "method": "jwt", "open_requests": 1,
            "protocol": "h2", "requests": 1, "source": "192.0.2.7", "source_port": 5000, "subject": "alice & co",
        },
        {
            "accepted": 1_000, "client": null, "id": 2, "listener": "10.0.0.1:443", "method": null, "open_requests": 0,
            "protocol": "handshake", "requests": 0, "source": "2001:db8::7", "source_port": 5001, "subject": null,
        },
    ]});
    assert_eq!(list, expected);
    for (query, expected) in [
        ("source=192.0.2.0%2F24", &[1][..]),
        ("source=192.0.2.7", &[1]),
        ("source=2001:db8::/32", &[2]),
        ("source=203.0.113.0/24", &[]),
        ("subject=alice+%26%20co", &[1]),
        ("subject=alice", &[]),
        ("source=192.0.2.7&subject=alice+%26%20co", &[1]),
        ("source=2001:db8::7&subject=alice+%26%20co", &[]),
    ] {
        let (status, list) = desk.ask("GET", &format!("/v1/connections?{query}"), "");
        assert_eq!((status, ids(&list).as_slice()), (200, expected), "{query}");
    }
}

#[test]
fn a_connection_or_a_source_is_ended_and_its_flows_dropped_only_where_that_is_asked_for() {
    let desk = Desk::open(&[]);
    let peers = ["192.0.2.7:1", "192.0.2.7:2", "192.0.2.8:3", "198.51.100.7:4"];
    let entries = peers.map(|peer| enter(&desk, peer));
    let ended = || entries.each_ref().map(|entry| entry.connection().is_ended());

    let (status, answer) = desk.ask("POST", "/v1/connections/end", r#"{"id":2}"#);
    assert_eq!((status, ids(&answer)), (200, vec![2]));
    assert_eq!((&answer["dropped"], &answer["dropped_until"]), (&Value::Null, &Value::Null));
    assert_eq!(ended(), [false, true, false, false]);
    assert!(desk.edge.flows.lock().unwrap().is_empty());

    let before = Monotonic::now();
    let body = r#"{"source":"192.0.2.0/24","drop_for_seconds":60}"#;
    let (_, answer) = desk.ask("POST", "/v1/connections/end", body);
    assert_eq!((ids(&answer), &answer["dropped"]), (vec![1, 3], &json!(2)));
    assert_eq!(ended(), [true, true, true, false]);
    let flows = desk.edge.flows.lock().unwrap().clone();
    let local = "10.0.0.1:443".parse().unwrap();
    let expected = ["192.0.2.7:1", "192.0.2.8:3"].map(|peer| Flow { local, peer: peer.parse().unwrap() });
    assert_eq!(flows.iter().map(|(flow, _)| *flow).collect::<Vec<_>>(), expected);
    let minute = 60_000_000_000;
    let range = before.0 + minute..=Monotonic::now().0 + minute;
    assert!(flows.iter().all(|(_, until)| range.contains(&until.0)), "{flows:?}");

    let (_, answer) = desk.ask("POST", "/v1/connections/end", body);
    assert_eq!((ids(&answer), &answer["dropped"]), (vec![], &json!(0)));
}

#[test]
fn a_connection_is_its_clients_too_where_the_proxy_says_whose_it_is() {
    let desk = Desk::open(&[]);
    let entries = ["10.0.0.5:1", "10.0.0.5:2", "10.0.0.5:3"].map(|peer| enter(&desk, peer));
    let clients = ["203.0.113.7", "198.51.100.7", "203.0.113.8"];
    entries
        .iter()
        .zip(clients)
        .for_each(|(entry, client)| entry.connection().is_for(client.parse().unwrap()));
    let ended = || entries.each_ref().map(|entry| entry.connection().is_ended());
    let (_, list) = desk.ask("GET", "/v1/connections?source=203.0.113.7", "");
    let one = &list["connections"][0];
    assert_eq!(
        (ids(&list), &one["client"], &one["source"]),
        (vec![1], &json!("203.0.113.7"), &json!("10.0.0.5"))
    );
    // One of them is on the allowlist.
    for client in &clients[..2] {
        desk.ask("POST", "/v1/bans", &json!({ "network": client }).to_string());
    }
    assert_eq!(ended(), [true, false, false]);
    let (_, answer) = desk.ask("POST", "/v1/connections/end", r#"{"source":"203.0.113.0/24"}"#);
    assert_eq!((ids(&answer), ended()), (vec![3], [true, false, true]));
    let (_, answer) = desk.ask("POST", "/v1/connections/end", r#"{"source":"10.0.0.5"}"#);
    assert_eq!(ids(&answer), [2]);
}

/// 198.51.100.0/24 is on the allowlist.
#[test]
fn a_ban_ends_what_proxies_passed_on_for_the_banned() {
    let desk = Desk::open(&[]);
    let entries = ["10.0.0.5:1", "10.0.0.5:2", "10.0.0.5:3", "10.0.0.5:4"].map(|peer| enter(&desk, peer));
    let [shared, own, others, between] = entries.each_ref().map(|entry| entry.connection());
    shared.speaks(Protocol::Http2);
    [own, others, between].iter().for_each(|connection| connection.speaks(Protocol::Http1));
    let from = |connection: &Arc<Connection>, client: &str| {
        let request = connection.begin();
        request.comes_from(client.parse().unwrap());
        request
    };
    let (cut, spared) = (from(shared, "203.0.113.7"), from(shared, "203.0.113.8"));
    let _open = [from(own, "203.0.113.7"), from(others, "198.51.100.7")];
    // What is over is nobody's.
    drop(from(between, "203.0.113.7"));

    let (_, answer) = desk.ask("POST", "/v1/bans", r#"{"network":"203.0.113.7"}"#);
    assert_eq!(answer["ended"], 1, "{answer}");
    let mut nobody = Context::from_waker(Waker::noop());
    assert_eq!(cut.poll_cut_off(&mut nobody), Poll::Ready(End::Banned));
    assert_eq!(spared.poll_cut_off(&mut nobody), Poll::Pending);
    desk.ask("POST", "/v1/bans", r#"{"network":"198.51.100.7"}"#);
    let ended = entries.each_ref().map(|entry| entry.connection().is_ended());
    assert_eq!(ended, [false, true, false, false]);
}

#[test]
fn connections_end_even_where_the_kernel_fails() {
    let desk = Desk::open(&[]);
    let entry = enter(&desk, "192.0.2.7:1");
    *desk.edge.broken.lock().unwrap() = true;
    let body = r#"{"source":"192.0.2.7","drop_for_seconds":60}"#;
    let (status, problem) = desk.ask("POST", "/v1/connections/end", body);
    assert_eq!((status, &problem["reason"]), (500, &json!("flows-not-dropped")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("1 connections were ended, but"), "{problem}");
    assert!(entry.connection().is_ended());

    // The same of a ban: it is stored and tried again.
    let entry = enter(&desk, "192.0.2.8:1");
    let (status, problem) = desk.ask("POST", "/v1/bans", r#"{"network":"192.0.2.8"}"#);
    assert_eq!((status, &problem["reason"]), (500, &json!("rules-pending")), "{problem}");
    assert!(entry.connection().is_ended());
}

/// 198.51.100.0/24 is on the allowlist.
#[test]
fn a_ban_ends_the_connections_of_the_banned_but_not_of_the_allowed() {
    let desk = Desk::open(&[]);
    let peers = ["192.0.2.7:1", "[2001:db8::7]:2", "198.51.100.7:3", "203.0.113.7:4"];
    let entries = peers.map(|peer| enter(&desk, peer));
    let ended = || entries.each_ref().map(|entry| entry.connection().is_ended());
    for (target, body, count, expected) in [
        ("/v1/bans", r#"{"network":"198.51.100.7"}"#, 0, [false; 4]),
        ("/v1/bans", r#"{"network":"192.0.2.0/24"}"#, 1, [true, false, false, false]),
        ("/v1/bans", r#"{"network":"192.0.2.0/24"}"#, 0, [true, false, false, false]),
        (
            "/v1/bans/import",
            r#"{"networks":["2001:db8::/32","198.51.0.0/16","203.0.113.1","203.0.113.7"]}"#,
            2,
            [true, true, false, true],
        ),
    ] {
        let (status, answer) = desk.ask("POST", target, body);
        assert_eq!((status, &answer["ended"]), (201, &json!(count)), "{body}");
        assert_eq!(ended(), expected, "{body}");
    }
}

#[test]
fn what_can_not_be_ended_is_refused_with_its_cure() {
    let desk = Desk::open(&[]);
    let entry = enter(&desk, "192.0.2.7:1");
    for (body, status, reason, cure) in [
        ("{}", 400, "field-invalid", "name either the id"),
        (r#"{"id":1,"source":"192.0.2.7"}"#, 400, "field-invalid", "name either the id"),
        (r#"{"id":2}"#, 404, "connection-missing", "connection list"),
        (r#"{"id":-1}"#, 400, "body-invalid", "u64"),
        (r#"{"source":"192.0.2.7/24"}"#, 400, "network-invalid", "write 192.0.2.0/24"),
        (r#"{"id":1,"drop_for_seconds":0}"#, 400, "field-invalid", "a day"),
        (r#"{"id":1,"drop_for_seconds":86401}"#, 400, "field-invalid", "ban it"),
        (r#"{"id":1,"drop_for":1}"#, 400, "body-invalid", "unknown field"),
    ] {
        let (code, problem) = desk.ask("POST", "/v1/connections/end", body);
        assert_eq!((code, problem["reason"].as_str().unwrap()), (status, reason), "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(cure), "{body}: {problem}");
    }
    let (code, problem) = desk.ask("GET", "/v1/connections?sauce=192.0.2.7", "");
    assert_eq!((code, &problem["reason"]), (400, &json!("field-invalid")));
    assert!(!entry.connection().is_ended());
}
