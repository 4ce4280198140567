//! `auth-agent upstream list`, and what `status` says of upstreams.

use std::path::Path;

use serde_json::{Value, json};

use super::{Desk, at};
use crate::cli::upstream;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::config::tests::MINIMAL;
use crate::control::messages::{UpstreamList, UpstreamsStatus};
use crate::proxy::{EndpointState, EndpointStatus, UpstreamStatus};

const NOW: UnixTime = UnixTime(1_000);

fn endpoint(name: &str, state: EndpointState) -> EndpointStatus {
    EndpointStatus {
        broken: 0,
        connections: 5,
        connects: 3,
        ejected_for_seconds: (state == EndpointState::Ejected).then_some(1.25),
        ejections: 0,
        endpoint: name.to_owned(),
        failures: 2,
        idle: 1,
        in_flight: 4,
        last_error: (state != EndpointState::In).then(|| "broke\u{1b}[2J\noff".to_owned()),
        last_error_at: Some(UnixTime(940)),
        name: name.to_owned(),
        requests: 99,
        state,
    }
}

#[test]
fn each_endpoint_is_a_line_and_what_is_wrong_is_told_below() {
    let endpoints = vec![
        endpoint("http://10.0.0.1:80", EndpointState::In),
        endpoint("http://10.0.0.2:80", EndpointState::Ejected),
        endpoint("unix:/run/app.sock", EndpointState::Unhealthy),
    ];
    let app = UpstreamStatus {
        endpoints,
        former: <_>::default(),
        name: "app".to_owned(),
        retries: 7,
        retries_refused: 1,
        unresolved: Some("db has no address".to_owned()),
        waiting: 5,
    };
    let expected = "\
UPSTREAM  ENDPOINT            STATE              IN FLIGHT  IDLE  REQUESTS  FAILED  CONNECTS
app       http://10.0.0.1:80  in                 4          1     99        2       3
app       http://10.0.0.2:80  ejected for 1.2 s  4          1     99        2       3
app       unix:/run/app.sock  unhealthy          4          1     99        2       3
app: 5 requests wait for room
app: 7 requests sent once more, 1 too many
app: error: db has no address
app: http://10.0.0.2:80: last error, 1m ago: broke\\u{1b}[2J\\u{a}off
app: unix:/run/app.sock: last error, 1m ago: broke\\u{1b}[2J\\u{a}off
";
    assert_eq!(upstream::list(&UpstreamList { upstreams: vec![app] }, NOW), expected);
}

#[test]
fn status_speaks_of_upstreams_only_where_something_is_wrong() {
    let well = UpstreamsStatus { down: 0, endpoints: 3, endpoints_out: 0, total: 2 };
    assert_eq!(upstream::summary(&well), "");
    let ill = UpstreamsStatus { down: 1, endpoints_out: 2, ..well };
    assert_eq!(
        upstream::summary(&ill),
        "upstreams  1 of 2 down, 2 of 3 endpoints out: `auth-agent upstream list` says why\n"
    );
}

#[test]
fn the_control_api_and_the_verb_tell_of_every_endpoint() {
    let desk = Desk::open(&[]);
    assert_eq!(desk.ask("GET", "/v1/upstreams", ""), (200, json!({ "upstreams": [] })));
    desk.set_upstreams(&Config::parse(MINIMAL, Path::new("/edge.toml")).unwrap());
    let (_, list) = desk.ask("GET", "/v1/upstreams", "");
    let endpoint = &list["upstreams"][0]["endpoints"][0];
    assert_eq!(list["upstreams"][0]["name"], "app");
    assert_eq!((&endpoint["endpoint"], &endpoint["state"]), (&json!("http://127.0.0.1:8080"), &json!("in")));
    let (_, status) = desk.ask("GET", "/v1/status", "");
    assert_eq!(status["upstreams"], json!({ "down": 0, "endpoints": 1, "endpoints_out": 0, "total": 1 }));
    let (code, text, err) = at(&desk, &["upstream", "list"]);
    assert_eq!((code, &*err), (0, ""));
    let words: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(words, ["app", "http://127.0.0.1:8080", "in", "0", "0", "0", "0", "0"]);
    let (_, json, _) = at(&desk, &["upstreams", "list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), list);
}
