//! Which route a request takes, and what that makes of it.

use http::{HeaderName, HeaderValue, Method, Version};

use super::edge::{Edge, GOOD, request};
use crate::config::{Auth, HeaderChanges, HostPattern, PathPattern, Rewrite, Route, Segment, Template};
use crate::limits::tests::Fake;

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

fn template(segments: &[&str]) -> Template {
    let segment = |text: &&str| match text.strip_prefix('{') {
        Some(name) => Segment::Parameter(name.trim_end_matches('}').to_owned()),
        None => Segment::Literal((*text).to_owned()),
    };
    Template(segments.iter().map(segment).collect())
}

fn routes() -> Vec<Route> {
    let open = |path: &str| Route::under(path, Auth::None, &[], 0);
    let changes = |name: &'static str, gone: &'static str| HeaderChanges {
        remove: vec![HeaderName::from_static(gone)],
        set: vec![(HeaderName::from_static(name), HeaderValue::from_static("ours"))],
    };
    vec![
        Route { rewrite: Some(Rewrite::Prefix("/v2".into())), ..open("/api") },
        Route {
            path: PathPattern::Template(template(&["users", "{id}", "orders", "{order}"])),
            rewrite: Some(Rewrite::Path(template(&["o", "{order}", "of", "{id}"]))),
            ..Route::under("/", Auth::Required, &["read"], 0)
        },
        Route { path: PathPattern::Exact("/health".into()), methods: vec![Method::GET], ..open("/") },
        Route { methods: vec![Method::PUT, Method::POST], ..open("/write") },
        Route { hosts: vec![HostPattern::Exact("other.example".into())], ..open("/elsewhere") },
        Route {
            hosts: vec![HostPattern::Exact("localhost".into())],
            ..Route::under("/elsewhere", Auth::Required, &[], 0)
        },
        Route {
            request_headers: changes("x-edge", "x-debug"),
            response_headers: changes("strict-transport-security", "x-auth-info"),
            rewrite: Some(Rewrite::Prefix("/api/headers".into())),
            ..open("/changed")
        },
    ]
}

async fn edge() -> Edge {
    Edge::with(Fake::new(1000, 1000), |config| config.routes = routes()).await
}

#[tokio::test]
async fn the_upstream_sees_the_path_that_the_route_makes_of_the_canonical_one() {
    let edge = edge().await;
    for version in VERSIONS {
        for (method, target, headers, expected) in [
            ("GET", "/api/%61?x=1", &[][..], "/v2/a?x=1"),
            ("GET", "/api", &[], "/v2"),
            ("GET", "/users/7/orders/caf%c3%a9?q", &[GOOD], "/o/caf%C3%A9/of/7?q"),
            ("GET", "/health", &[], "/health"),
            ("HEAD", "/health", &[], "/health"),
            ("PUT", "/write/x", &[], "/write/x"),
            ("GET", "/elsewhere", &[GOOD], "/elsewhere"),
        ] {
            let response = edge.send(version, request(version, method, target, headers, "")).await;
            assert_eq!(response.status(), 200, "{method} {target}");
            assert_eq!(response.headers()["via"], "1.1 auth-agent");
            assert_eq!(edge.upstream.take()[0].target, expected, "{method} {target}");
        }
    }
}

#[tokio::test]
async fn what_a_route_does_not_take_goes_to_no_other() {
    let edge = edge().await;
    for version in VERSIONS {
        for (method, target, status, allow) in [
            ("GET", "/users/7/orders/1", 401, None),
            ("GET", "/users/7/orders", 404, None),
            ("GET", "/elsewhere", 401, None),
            ("POST", "/health", 405, Some("GET, HEAD")),
            ("GET", "/write", 405, Some("POST, PUT")),
            ("HEAD", "/write/x", 405, Some("POST, PUT")),
        ] {
            let response = edge.send(version, request(version, method, target, &[], "")).await;
            assert_eq!(response.status(), status, "{method} {target}");
            assert_eq!(response.headers().get("allow").map(|value| value.to_str().unwrap()), allow);
            assert!(edge.upstream.take().is_empty());
        }
    }
    assert_eq!(edge.counts().refusals["method-not-allowed"], 6);
}

#[tokio::test]
async fn a_route_changes_what_the_upstream_and_the_client_read() {
    let edge = edge().await;
    for version in VERSIONS {
        let fields = [("x-debug", "1"), ("x_debug", "1"), ("x-edge", "theirs"), ("x-kept", "1")];
        let response = edge.send(version, request(version, "GET", "/changed", &fields, "")).await;
        assert_eq!(response.headers()["strict-transport-security"], "ours");
        assert!(
            response.headers().contains_key("set-cookie") && !response.headers().contains_key("x-auth-info")
        );
    }
    // The upstream answers such a request from what it has, and keeps another for us to see.
    edge.send(Version::HTTP_11, request(Version::HTTP_11, "GET", "/changed/x", &[("x_debug", "1")], ""))
        .await;
    let seen = edge.upstream.take().pop().unwrap();
    assert_eq!(
        (&*seen.target, &seen.headers["x-edge"]),
        ("/api/headers/x", &HeaderValue::from_static("ours"))
    );
    assert!(!seen.headers.contains_key("x_debug"));
}
