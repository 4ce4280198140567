//! HTTP/1 messages that two servers could cut differently: the upstream sees what was authorised, or nothing.

use std::time::Duration;

use super::edge::Edge;
use crate::limits::tests::Fake;

const HEAD: &str = "POST /api/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\n";
const SMUGGLED: &str = "GET /admin/smuggled HTTP/1.1\r\nHost: localhost\r\nX-Auth-Subject: root\r\n\r\n";

fn statuses(response: &str) -> Vec<u16> {
    response
        .match_indices("HTTP/1.1 ")
        .filter(|(at, _)| *at == 0 || matches!(response.as_bytes()[at - 1], b'\n' | b'}' | b'm'))
        .map(|(at, _)| response[at + 9..at + 12].parse().unwrap())
        .collect()
}

struct Case {
    message: String,
    statuses: &'static [u16],
    bodies: &'static [&'static str],
}

fn case(message: impl Into<String>, statuses: &'static [u16], bodies: &'static [&'static str]) -> Case {
    Case { message: message.into(), statuses, bodies }
}

/// `HEAD` with more header lines, then a body.
fn with(lines: &str, body: &str) -> String {
    format!("{HEAD}{lines}\r\n{body}")
}

fn cases() -> Vec<Case> {
    let smuggled_chunked = format!("0\r\n\r\n{SMUGGLED}");
    let mut cases = vec![
        // Length stated once.
        case(with("Content-Length: 2\r\n", "ab"), &[200], &["ab"]),
        case(with("Content-Length: 2\r\n", &format!("ab{SMUGGLED}")), &[200, 401], &["ab"]),
        case(with("Transfer-Encoding: Chunked\r\n", "2\r\nab\r\n0\r\n\r\n"), &[200], &["ab"]),
        case(with("Transfer-Encoding: chunked\r\n", "2;x=y\r\nab\r\n0\r\n\r\n"), &[200], &["ab"]),
        // Stated twice: the chunks count, and the connection ends after them (RFC 9112, 6.3).
        case(with("Content-Length: 60\r\nTransfer-Encoding: chunked\r\n", &smuggled_chunked), &[200], &[""]),
        case(with("Transfer-Encoding: chunked\r\nContent-Length: 60\r\n", &smuggled_chunked), &[200], &[""]),
        case(with("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"), &[200], &["ab"]),
        case(with("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"), &[400], &[]),
        // Codings other than `chunked` alone.
        case(
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &smuggled_chunked),
            &[400],
            &[],
        ),
        case(
            with("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", &smuggled_chunked),
            &[400],
            &[],
        ),
        case(
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &smuggled_chunked),
            &[400],
            &[],
        ),
        // HTTP/1.0 has no transfer codings.
        case(
            format!("{}Transfer-Encoding: chunked\r\n\r\n{smuggled_chunked}", HEAD.replace("1.1", "1.0")),
            &[400],
            &[],
        ),
        // An upgrade that is not made does not hide what follows it.
        case(
            format!(
                "{}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n{SMUGGLED}",
                HEAD.replace("POST", "GET")
            ),
            &[200, 401],
            &[""],
        ),
        // Lines that end in LF alone are lines, here and in what the upstream gets.
        case(with("Content-Length: 2\r\n", "ab").replace("\r\n", "\n"), &[200], &["ab"]),
        // Targets.
        case(HEAD.replace("/api/x", "https://localhost/api/x") + "\r\n", &[200], &[""]),
        case(HEAD.replace("/api/x", "https://other/api/x") + "\r\n", &[400], &[]),
        case(HEAD.replace("/api/x", "http://localhost/api/x") + "\r\n", &[400], &[]),
        case(HEAD.replace("/api/x", "https://a@localhost/api/x") + "\r\n", &[400], &[]),
        case(HEAD.replace("/api/x", "*") + "\r\n", &[400], &[]),
        case(HEAD.replace("/api/x", "localhost") + "\r\n", &[400], &[]),
        case(HEAD.replace("/api/x", "/api/x y") + "\r\n", &[400], &[]),
        case(HEAD.replace("/api/x", "/api/\u{e9}") + "\r\n", &[400], &[]),
        case(HEAD.replace("POST /api/x", "CONNECT localhost:443") + "\r\n", &[405], &[]),
        case("GET /api/x\r\n\r\n", &[400], &[]),
        case("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[], &[]),
        case(HEAD.replace("Host: localhost\r\n", "") + "\r\n", &[400], &[]),
        case(HEAD.replace("Host: localhost", "Host: localhost\r\nHost: localhost") + "\r\n", &[400], &[]),
    ];
    for coding in
        ["xchunked", "chunkedx", "chunked, identity", "gzip, chunked", "\"chunked\"", "chunked\u{b}", "", ","]
    {
        cases.push(case(with(&format!("Transfer-Encoding: {coding}\r\n"), &smuggled_chunked), &[400], &[]));
    }
    for length in ["+2", "-2", "0x2", "2, 2", "2 2", "2.0", "", "99999999999999999999", "2\u{0}"] {
        cases.push(case(with(&format!("Content-Length: {length}\r\n"), "ab"), &[400], &[]));
    }
    for line in [
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X-A: 1\r\n folded\r\n",
        "X-A: 1\r\n\tfolded\r\n",
        "X-\u{0}A: 1\r\n",
        "X-A: \u{0}\r\n",
        "X-A: a\rTransfer-Encoding: chunked\r\n",
        "no colon\r\n",
        ": no name\r\n",
        "X(A): 1\r\n",
    ] {
        cases.push(case(with(line, &smuggled_chunked), &[400], &[]));
    }
    for size in ["zz", "-1", "+2", "0x2", "", "fffffffffffffffff", "2\u{0}", "2 2", ";x"] {
        let body = format!("{size}\r\nab\r\n0\r\n\r\n{SMUGGLED}");
        cases.push(case(with("Transfer-Encoding: chunked\r\n", &body), &[400], &[]));
    }
    for body in
        ["2\r\nabc\r\n0\r\n\r\n", "2\r\nab0\r\n\r\n", "2\nab\n0\n\n", "2;a\n0\r\n\r\n\r\nab\r\n0\r\n\r\n"]
    {
        cases.push(case(with("Transfer-Encoding: chunked\r\n", &format!("{body}{SMUGGLED}")), &[400], &[]));
    }
    cases
}

#[tokio::test]
async fn the_upstream_sees_exactly_what_was_authorised() {
    let short = Duration::from_millis(300);
    let edge = Edge::with(Fake::new(10_000, 10_000), |config| {
        config.timeouts.headers = short;
        config.timeouts.idle = short;
    })
    .await;
    let mut failures = Vec::new();
    for case in cases() {
        let response = edge.raw(case.message.as_bytes()).await;
        let seen = edge.upstream.take();
        let statuses = statuses(&response);
        let bodies: Vec<_> = seen.iter().map(|seen| String::from_utf8_lossy(&seen.body)).collect();
        if statuses != case.statuses || bodies != case.bodies {
            failures.push(format!("{:?}: {statuses:?} {bodies:?}", case.message));
        }
        for seen in &seen {
            assert_eq!(
                (seen.target.as_str(), &seen.headers["x-auth-subject"]),
                ("/api/x", &"alice".parse().unwrap())
            );
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[tokio::test]
async fn trailers_add_nothing_to_a_request() {
    let short = Duration::from_millis(300);
    let edge = Edge::with(Fake::new(100, 100), |config| {
        config.timeouts.headers = short;
        config.timeouts.idle = short;
    })
    .await;
    let body = "2\r\nab\r\n0\r\nX-Auth-Subject: root\r\nHost: other\r\nAuthorization: Bearer admin\r\n\r\n";
    let response =
        edge.raw(with("Trailer: X-Auth-Subject\r\nTransfer-Encoding: chunked\r\n", body).as_bytes()).await;
    assert_eq!(statuses(&response), [200]);
    let seen = edge.upstream.take().pop().unwrap();
    assert_eq!((&seen.body[..], seen.trailers), (&b"ab"[..], None));
    assert_eq!(seen.headers["x-auth-subject"], "alice");
    assert!(!seen.headers.contains_key("trailer"));
}
