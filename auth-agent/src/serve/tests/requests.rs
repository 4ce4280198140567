//! What is forwarded, what is refused, and what either side gets to see.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::Full;

use super::edge::{Edge, GOOD, SOURCE, get, request};
use crate::limits::tests::{Charged, Fake};
use crate::token::TokenError;

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

fn reason(response: &Response<Bytes>) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(response.body()).ok()?;
    Some(problem["reason"].as_str()?.to_owned())
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_request_with_a_valid_credential_reaches_the_upstream_with_an_identity() {
    let edge = Edge::start().await;
    for version in VERSIONS {
        for (credential, method, subject) in
            [(GOOD, "jwt", "alice"), (("x-api-key", "ak_good"), "api-key", "ci")]
        {
            let headers =
                [credential, ("x-auth-subject", "root"), ("x_auth_scopes", "admin"), ("x-custom", "1")];
            let sent = request(version, "POST", "/api/%61?q=%2e", &headers, "hello");
            let response = edge.send(version, sent).await;
            assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"upstream"[..]));

            let seen = edge.upstream.take().pop().unwrap();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/api/a?q=%2e"));
            assert_eq!(&seen.body[..], b"hello");
            let via = if version == Version::HTTP_2 { "2 auth-agent" } else { "1.1 auth-agent" };
            for (name, expected) in [
                ("x-auth-method", &[method][..]),
                ("x-auth-subject", &[subject]),
                ("x-auth-scopes", &["read"]),
                ("x_auth_scopes", &[]),
                ("authorization", &[]),
                ("x-api-key", &[]),
                ("x-custom", &["1"]),
                ("x-forwarded-for", &["127.0.0.1"]),
                ("x-forwarded-proto", &["https"]),
                ("x-forwarded-host", &["localhost"]),
                ("host", &["localhost"]),
                ("content-length", &["5"]),
                ("via", &[via]),
            ] {
                assert_eq!(values(&seen.headers, name), expected, "{name}");
            }
        }
    }
    assert_eq!(edge.debts.of(SOURCE), Charged { auth_failures: 0, known: true, requests: 4 });
    let counts = edge.counts();
    assert_eq!((counts.requests, counts.forwarded, counts.connections), (4, 4, 4));
    assert!(counts.refusals.is_empty() && counts.closed.is_empty(), "{counts:?}");
}

#[tokio::test]
async fn a_token_of_a_key_that_has_just_been_published_waits_for_it_and_is_served() {
    let edge = Edge::start().await;
    for (token, status, failures) in
        [("unknown", 401, 1), ("unavailable", 503, 1), ("pending", 503, 1), ("rotated", 200, 1)]
    {
        let header = ("authorization", &*format!("Bearer {token}"));
        let response =
            edge.send(Version::HTTP_11, request(Version::HTTP_11, "GET", "/api", &[header], "")).await;
        assert_eq!(response.status(), status, "{token}");
        assert_eq!(edge.debts.of(SOURCE).auth_failures, failures, "{token}");
    }
}

#[tokio::test]
async fn every_refusal_is_named_and_keeps_the_request_from_the_upstream() {
    let edge = Edge::with(Fake::new(1000, 1000), |config| config.sizes.body_bytes = 16).await;
    let (admin, bad) = (("authorization", "Bearer admin"), ("authorization", "Bearer bad"));
    let long = format!("/api/{}", "a".repeat(5000));
    for version in VERSIONS {
        for (method, target, headers, body, status, expected) in [
            ("GET", "/api", &[][..], "", 401, "credential-missing"),
            ("GET", "/api", &[bad], "", 401, TokenError::Expired.name()),
            ("GET", "/api", &[("x-api-key", "ak_unknown")], "", 401, "api-key-invalid"),
            ("GET", "/api", &[("x-api-key", "ak_expired")], "", 401, "api-key-expired"),
            ("GET", "/api", &[("x-api-key", "ak_revoked")], "", 401, "api-key-revoked"),
            ("GET", "/api", &[("x-api-key", "ak_network")], "", 403, "api-key-network"),
            ("GET", "/api", &[GOOD, ("x-api-key", "ak_good")], "", 401, "credential-ambiguous"),
            ("GET", "/api", &[GOOD, GOOD], "", 401, "credential-ambiguous"),
            ("GET", "/api?access_token=good", &[], "", 401, "credential-malformed"),
            ("GET", "/api", &[("authorization", "Basic YTpi")], "", 401, "credential-malformed"),
            ("GET", "/api", &[("cookie", "access_token=good")], "", 401, "credential-missing"),
            ("GET", "/admin", &[GOOD], "", 403, "scope-missing"),
            ("GET", "/", &[admin], "", 404, "route-not-found"),
            ("GET", "/apix", &[admin], "", 404, "route-not-found"),
            ("GET", "/API", &[admin], "", 404, "route-not-found"),
            ("GET", "/open/../admin", &[], "", 400, "path-invalid"),
            ("GET", "/open/%2e%2e/admin", &[], "", 400, "path-invalid"),
            ("GET", "/open/..%2fadmin", &[], "", 400, "path-invalid"),
            ("GET", "/open/..;/admin", &[], "", 400, "path-invalid"),
            ("GET", "//admin", &[], "", 400, "path-invalid"),
            ("GET", long.as_str(), &[GOOD], "", 414, "uri-too-long"),
            ("TRACE", "/api", &[GOOD], "", 405, "method-not-allowed"),
            ("POST", "/api", &[GOOD], "12345678901234567", 413, "body-too-large"),
            ("GET", "/down", &[GOOD], "", 502, "upstream-unreachable"),
            ("GET", "/api/switch", &[GOOD], "", 502, "upstream-invalid"),
        ] {
            let response = edge.send(version, request(version, method, target, headers, body)).await;
            assert_eq!(response.status(), status, "{method} {target} {headers:?}");
            assert_eq!(reason(&response).as_deref(), Some(expected), "{method} {target} {headers:?}");
            assert_eq!(
                response.headers().contains_key("www-authenticate"),
                status == 401 || expected == "scope-missing"
            );
            let seen = edge.upstream.take();
            assert!(seen.is_empty() || target == "/api/switch", "{seen:?}");
        }
    }
    let counts = edge.counts();
    assert_eq!(counts.refusals.values().sum::<u64>(), counts.requests);
    assert_eq!(counts.refusals["path-invalid"], 10);
    assert_eq!(counts.forwarded, 0);
    assert_eq!(edge.debts.of(SOURCE).auth_failures, 18, "all failed authentications but the missing ones");
}

#[tokio::test]
async fn guesses_at_one_key_are_refused_by_the_budget_they_share_and_the_valid_key_passes() {
    let debts = Fake { guess_budget: 2, ..Fake::new(100, 100) };
    let edge = Edge::with(debts, |_| ()).await;
    let version = Version::HTTP_11;
    for (key, status, expected) in [
        ("ak_guess", 401, Some("api-key-invalid")),
        ("ak_guess", 401, Some("api-key-invalid")),
        ("ak_guess", 429, Some("auth-failure-limit")),
        ("ak_other", 401, Some("api-key-invalid")),
        ("ak_good", 200, None),
        ("ak_guess", 429, Some("auth-failure-limit")),
    ] {
        let response = edge.send(version, request(version, "GET", "/api/x", &[("x-api-key", key)], "")).await;
        assert_eq!(response.status(), status, "{key}");
        assert_eq!(reason(&response).as_deref(), expected, "{key}");
        assert_eq!(response.headers().contains_key("retry-after"), status == 429, "{key}");
    }
    assert_eq!(edge.debts.of(SOURCE).auth_failures, 5, "the source is charged for each of them as well");
}

#[tokio::test]
async fn an_open_route_needs_no_credential_and_gets_no_identity() {
    let edge = Edge::start().await;
    for version in VERSIONS {
        let headers = [("authorization", "Bearer bad"), ("x-auth-subject", "root"), ("X-Auth.Method", "jwt")];
        let response = edge.send(version, request(version, "GET", "/open/x", &headers, "")).await;
        assert_eq!(response.status(), 200);
        let seen = edge.upstream.take().pop().unwrap();
        let leaked = seen.headers.keys().find(|name| name.as_str().contains("auth") && *name != "via");
        assert_eq!(leaked, None);
    }
    assert_eq!(edge.debts.of(SOURCE), Charged { auth_failures: 0, known: false, requests: 2 });
}

#[tokio::test]
async fn the_scopes_of_a_route_are_asked_for_and_suffice() {
    let edge = Edge::start().await;
    let version = Version::HTTP_11;
    let refused = edge.send(version, get(version, "/admin")).await;
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.ends_with("scope=\"read admin\""), "{challenge}");
    let admin = request(version, "GET", "/admin", &[("authorization", "bearer admin")], "");
    assert_eq!(edge.send(version, admin).await.status(), 200);
}

#[tokio::test]
async fn the_responses_of_the_upstream_pass_without_hop_by_hop_fields() {
    let edge = Edge::start().await;
    for version in VERSIONS {
        let response = edge.send(version, get(version, "/api/headers")).await;
        for name in ["connection", "keep-alive", "proxy-authenticate", "upgrade", "x-nominated", "server"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        assert_eq!(values(response.headers(), "set-cookie"), ["a=1", "b=2"]);
        assert_eq!(values(response.headers(), "x-auth-info"), ["1"]);
        for (method, target, status, length, body) in [
            ("HEAD", "/api", 200, Some("8"), ""),
            ("GET", "/api/nothing", 204, None, ""),
            ("GET", "/api/teapot", 418, Some("8"), "upstream"),
            ("OPTIONS", "/api", 200, Some("8"), "upstream"),
            ("PROPFIND", "/api", 200, Some("8"), "upstream"),
        ] {
            let response = edge.send(version, request(version, method, target, &[GOOD], "")).await;
            assert_eq!(
                (response.status().as_u16(), &response.body()[..]),
                (status, body.as_bytes()),
                "{method}"
            );
            assert_eq!(response.headers().get("content-length").map(|value| value.to_str().unwrap()), length);
        }
    }
}

#[tokio::test]
async fn a_source_over_its_request_budget_is_told_when_to_come_back() {
    let edge = Edge::with(Fake::new(3, 100), |_| ()).await;
    let version = Version::HTTP_11;
    // Errors and refusals count like anything else.
    for (target, status) in
        [("/api", 200), ("/none", 404), ("/api/../x", 400), ("/api", 429), ("/api/../x", 429)]
    {
        let response = edge.send(version, get(version, target)).await;
        assert_eq!(response.status(), status);
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(retry_after, (status == 429).then_some("2"));
    }
    assert_eq!(edge.counts().refusals["request-limit"], 2);
    assert_eq!(edge.upstream.take().len(), 1);
}

#[tokio::test]
async fn a_source_that_guesses_is_refused_before_its_credential_is_looked_at() {
    let edge = Edge::with(Fake::new(100, 2), |_| ()).await;
    let version = Version::HTTP_11;
    let missing = || request(version, "GET", "/api", &[], "");
    let bad = || request(version, "GET", "/api", &[("authorization", "Bearer bad")], "");
    for (request, status) in [
        (missing(), 401),
        (missing(), 401),
        (missing(), 401),
        (bad(), 401),
        (get(version, "/api"), 200),
        (bad(), 401),
        (get(version, "/api"), 429),
        (bad(), 429),
    ] {
        assert_eq!(edge.send(version, request).await.status(), status);
    }
    assert_eq!(edge.counts().refusals["auth-failure-limit"], 2);
    assert_eq!(edge.debts.of(SOURCE).auth_failures, 2);
}

#[tokio::test]
async fn concurrent_streams_are_each_charged() {
    let edge = Edge::with(Fake::new(10, 100), |_| ()).await;
    let super::edge::Client::Http2(sender) = edge.client::<Full<Bytes>>(Version::HTTP_2).await else {
        unreachable!()
    };
    let streams: Vec<_> = (0..30)
        .map(|_| {
            let mut sender = sender.clone();
            tokio::spawn(
                async move { sender.send_request(get(Version::HTTP_2, "/api")).await.unwrap().status() },
            )
        })
        .collect();
    let mut admitted = 0;
    for stream in streams {
        match stream.await.unwrap().as_u16() {
            200 => admitted += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert_eq!(admitted, 10);
    assert_eq!(edge.debts.of(SOURCE).requests, 30);
}

#[tokio::test]
async fn the_host_is_checked_in_both_versions() {
    let edge = Edge::start().await;
    let get = |uri: &str, hosts: &[&str], version: Version| {
        let mut request = Request::get(uri).version(version).header(GOOD.0, GOOD.1);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let (one, two) = (Version::HTTP_11, Version::HTTP_2);
    for (version, uri, hosts, status) in [
        (one, "/api", &["localhost:1234"][..], 200),
        (one, "/api", &["LOCALHOST"], 200),
        (one, "/api", &["other"], 421),
        (one, "/api", &["localhost", "localhost"], 400),
        (one, "/api", &["user@localhost"], 400),
        (two, "https://localhost/api", &[], 200),
        (two, "https://localhost/api", &["localhost"], 200),
        (two, "https://localhost/api", &["other"], 400),
        (two, "https://localhost/api", &["localhost", "localhost"], 400),
        (two, "https://other/api", &[], 421),
        (two, "http://localhost/api", &[], 400),
    ] {
        let response = edge.send(version, get(uri, hosts, version)).await;
        assert_eq!(response.status(), status, "{version:?} {uri} {hosts:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_passed_over() {
    let edge = Edge::start().await;
    for _ in 0..4 {
        let version = Version::HTTP_11;
        let sent = request(version, "POST", "/half/x", &[GOOD], "payload");
        assert_eq!(edge.send(version, sent).await.status(), 200);
        assert_eq!(&edge.upstream.take()[0].body[..], b"payload");
    }
}

#[tokio::test]
async fn an_http2_body_is_as_long_as_it_was_said_to_be() {
    let edge = Edge::start().await;
    let version = Version::HTTP_2;
    for (length, seen) in [("5", 1), ("4", 0), ("6", 0), ("0", 0), ("+5", 0), ("5, 5", 0)] {
        let sent = request(version, "POST", "/api/x", &[GOOD, ("content-length", length)], "hello");
        let response = edge.client(version).await.send(sent).await;
        assert_eq!(response.is_ok_and(|response| response.status() == 200), seen == 1, "{length}");
        assert_eq!(edge.upstream.take().len(), seen, "{length}");
    }
}

#[tokio::test]
async fn connect_makes_no_tunnel() {
    let edge = Edge::start().await;
    for version in VERSIONS {
        let connect = Request::connect("localhost:443").version(version).header("host", "localhost:443");
        let response = edge.send(version, connect.body(Full::<Bytes>::default()).unwrap()).await;
        assert_eq!(response.status(), 405, "{version:?}");
    }
}

/// What is logged while it lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_refusal_is_logged_by_name_without_secrets() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let edge = Edge::start().await;
    let version = Version::HTTP_11;
    for (target, credential, line) in [
        (
            "/api/x?access_token=s3cret",
            ("x-y", "1"),
            "refused reason=\"credential-malformed\" status=401 source=127.0.0.1 method=GET path=\"/api/x\"",
        ),
        (
            "/api/y?q=s3cret",
            ("authorization", "Bearer s3cret"),
            &format!(
                "refused reason=\"{}\" status=401 source=127.0.0.1 method=GET path=\"/api/y\"",
                TokenError::Expired.name()
            ),
        ),
        (
            "/api/\"}{=\"",
            ("x-api-key", "s3cret"),
            r#"refused reason="path-invalid" status=400 source=127.0.0.1 method=GET path="/api/\"}{=\"""#,
        ),
    ] {
        edge.send(version, request(version, "GET", target, &[credential], "")).await;
        edge.gateway.journal().settle();
        let text = String::from_utf8(std::mem::take(&mut log.0.lock().unwrap())).unwrap();
        assert!(text.contains(line), "{line}\n{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
