use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use auth_common::event::bit;
use auth_common::verdict::Reason;
use serde_json::Value;

use crate::control::testing::Desk;
use crate::events::testing::sample;
use crate::events::{MAX_SUBSCRIPTIONS, Wanted};

/// A stream whose head has been read: it is subscribed.
fn listen(desk: &Desk, target: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(&desk.socket).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let head: Vec<String> =
        reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    assert!(head[0].contains("200"), "{head:?}");
    assert!(head.contains(&"content-type: application/x-ndjson".to_owned()), "{head:?}");
    reader
}

/// The next line of JSON, between the sizes of its chunk.
fn next(reader: &mut BufReader<UnixStream>) -> Value {
    let line = reader.lines().map(Result::unwrap).find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_stream_tells_each_sample_that_was_asked_for() {
    let desk = Desk::open(&[]);
    let mut stream = listen(&desk, "/v1/events?reason=banned&reason=allowed&source=203.0.113.0%2F24&rate=7");
    let (reasons, limit) = desk.edge.switch.set.lock().unwrap().unwrap();
    assert_eq!(reasons, bit(Reason::Banned) | bit(Reason::Allowed));
    assert_eq!(limit, Wanted::new(1, Vec::new(), 7).limit);
    for reason in [Reason::PlaintextPort, Reason::Allowed, Reason::Banned] {
        desk.edge.hub.publish(sample(reason), reason, 1_000_000_000);
    }
    assert_eq!(next(&mut stream), serde_json::to_value(sample(Reason::Allowed)).unwrap());
    assert_eq!(next(&mut stream)["reason"], "banned");
}

#[test]
fn sampling_ends_when_the_last_listener_goes_though_no_packet_comes() {
    let desk = Desk::open(&[]);
    let (first, second) =
        (listen(&desk, "/v1/events?reason=banned"), listen(&desk, "/v1/events?reason=drop"));
    drop(second);
    wait(|| desk.edge.switch.reasons() == bit(Reason::Banned));
    drop(first);
    wait(|| desk.edge.switch.reasons() == 0);
}

fn wait(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "it never comes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_can_not_be_asked_for_is_refused_with_a_cure() {
    let desk = Desk::open(&[]);
    let table = [
        (
            "reason=plaintext",
            "field-invalid",
            "reason: \"plaintext\" is no reason: write drop, pass, reset or a name like",
        ),
        ("reason=", "field-invalid", "is no reason"),
        ("source=10.0.0.1/8", "network-invalid", "write 10.0.0.0/8"),
        ("rate=0", "field-invalid", "up to 1000"),
        ("rate=1001", "field-invalid", "up to 1000"),
        ("rate=fast", "field-invalid", "a number of samples"),
        ("count=3", "field-invalid", "reason=NAME, source=CIDR or rate=N"),
    ];
    for (query, reason, cure) in table {
        let (status, problem) = desk.ask("GET", &format!("/v1/events?{query}"), "");
        assert_eq!((status, &problem["reason"]), (400, &Value::from(reason)), "{query}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(cure), "{query}: {problem}");
    }
    let many = ["source=10.0.0.1"; 65].join("&");
    let (_, problem) = desk.ask("GET", &format!("/v1/events?{many}"), "");
    assert_eq!(problem["detail"], "source: name at most 64 networks");
    assert_eq!(desk.edge.switch.reasons(), 0);
}

#[test]
fn too_many_listeners_and_a_kernel_that_fails_are_told() {
    let desk = Desk::open(&[]);
    let listeners: Vec<_> = (0..MAX_SUBSCRIPTIONS).map(|_| listen(&desk, "/v1/events")).collect();
    let (status, problem) = desk.ask("GET", "/v1/events", "");
    assert_eq!((status, &problem["reason"]), (409, &Value::from("events-full")));
    drop(listeners);
    wait(|| desk.edge.switch.reasons() == 0);
    *desk.edge.switch.broken.lock().unwrap() = true;
    let (status, problem) = desk.ask("GET", "/v1/events", "");
    assert_eq!((status, &problem["reason"]), (500, &Value::from("kernel-failed")));
}
