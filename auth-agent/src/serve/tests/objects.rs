//! Whose object a request is for: nothing foreign reaches the upstream, and what does is what was compared.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body_util::{BodyExt, Full};

use super::edge::{Edge, FakeVerify, SOURCE, request};
use crate::allowlist::Allowlist;
use crate::config::tests::MINIMAL;
use crate::config::{Auth, Config, Policy, Route};
use crate::limits::tests::Fake;
use crate::limits::{Limiter, Secret};

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
const ALICE: (&str, &str) = ("authorization", "Bearer good-alice");
const BOB: (&str, &str) = ("authorization", "Bearer good-bob");

const ROUTES: &str = r#"
[[route]]
path = "/users/{user_id}/mail"
match = "template"
methods = ["GET", "POST"]
auth = "required"
bind = { user_id = "sub" }
upstream = "app"
[[route]]
path = "/hidden/{user_id}"
match = "template"
auth = "required"
bind = { user_id = "sub" }
foreign = 404
rewrite = { path = "/store/{user_id}" }
upstream = "app"
[[route]]
path = "/search"
auth = "required"
bind_query = { user_id = "sub" }
upstream = "app"
[[route]]
path = "/header"
auth = "required"
bind_headers = { x-user = "sub" }
upstream = "app"
[[route]]
path = "/upload"
auth = "required"
bind_query = { user_id = "sub" }
body = "unchecked"
upstream = "app"
"#;

fn routes() -> Vec<Route> {
    let (before, _) = MINIMAL.split_once("[[route]]").unwrap();
    Config::parse(&format!("{before}{ROUTES}"), Path::new("edge.toml")).unwrap().routes
}

async fn edge() -> Edge {
    Edge::with(Fake::new(100_000, 100_000), |config| config.routes = routes()).await
}

/// What tells two answers apart, but for the names of their requests.
fn told(headers: &HeaderMap) -> Vec<(String, String)> {
    let told = headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    told.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

#[tokio::test]
async fn what_was_compared_is_what_the_upstream_gets() {
    let edge = edge().await;
    for version in VERSIONS {
        for (method, target, headers, expected) in [
            ("GET", "/users/alice/mail", &[ALICE][..], "/users/alice/mail"),
            ("HEAD", "/users/%61lice/mail", &[ALICE], "/users/alice/mail"),
            ("POST", "/users/alice/mail?user_id=bob", &[ALICE], "/users/alice/mail?user_id=bob"),
            ("GET", "/users/alice/mail", &[ALICE, ("x-http-method-override", "DELETE")], "/users/alice/mail"),
            ("GET", "/hidden/%61lice", &[ALICE], "/store/alice"),
            ("GET", "/search?a=b&user_id=%61lice", &[ALICE], "/search?a=b&user_id=%61lice"),
            ("GET", "/header", &[ALICE, ("x-user", "alice")], "/header"),
        ] {
            let response = edge.send(version, request(version, method, target, headers, "")).await;
            assert_eq!(response.status(), 200, "{version:?} {method} {target}");
            let seen = edge.upstream.take().pop().unwrap();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, expected));
            assert!(!seen.headers.contains_key("x-http-method-override"));
            assert_eq!(seen.headers.get("x-user").is_some(), target == "/header");
        }
    }
}

#[tokio::test]
async fn nothing_foreign_reaches_the_upstream() {
    let edge = edge().await;
    for version in VERSIONS {
        for (method, target, headers, status) in [
            ("GET", "/users/bob/mail", &[ALICE][..], 403),
            ("POST", "/users/bob/mail?user_id=alice", &[ALICE], 403),
            ("HEAD", "/users/bob/mail", &[ALICE], 403),
            ("OPTIONS", "/users/bob/mail", &[ALICE], 405),
            ("GET", "/users/%62ob/mail", &[ALICE], 403),
            ("GET", "/users/alice%2f..%2fbob/mail", &[ALICE], 400),
            ("GET", "/users/alice/../bob/mail", &[ALICE], 400),
            ("GET", "/users/bob/mail?_method=DELETE", &[BOB], 400),
            ("GET", "/users/bob/mail", &[ALICE, ("x-auth-subject", "bob")], 403),
            ("GET", "/users/bob/mail", &[ALICE, ("x-original-url", "/users/alice/mail")], 403),
            ("GET", "/users/bob/mail", &[("x-api-key", "ak_good")], 403),
            ("GET", "/hidden/bob", &[ALICE], 404),
            ("DELETE", "/hidden/bob", &[ALICE], 404),
            ("GET", "/search?user_id=bob", &[ALICE], 403),
            ("GET", "/search?user_id=alice&user_id=bob", &[ALICE], 400),
            ("GET", "/search?user_id=alice&user%5Fid=bob", &[ALICE], 400),
            ("GET", "/search?user_id=alice;user_id=bob", &[ALICE], 400),
            (
                "POST",
                "/search?user_id=alice",
                &[ALICE, ("content-type", "application/x-www-form-urlencoded")],
                400,
            ),
            ("GET", "/search", &[ALICE], 403),
            ("GET", "/header", &[ALICE], 403),
            ("GET", "/header", &[ALICE, ("x-user", "bob")], 403),
            ("GET", "/header", &[ALICE, ("x-user", "alice"), ("x-user", "bob")], 400),
            ("GET", "/header", &[ALICE, ("x-user", "alice"), ("x_user", "bob")], 400),
        ] {
            let response = edge.send(version, request(version, method, target, headers, "")).await;
            assert_eq!(response.status(), status, "{version:?} {method} {target} {headers:?}");
            assert!(edge.upstream.take().is_empty(), "{version:?} {method} {target} {headers:?}");
        }
    }
    // HTTP/1.1 alone can nominate a field, so that it would not be forwarded.
    let nominated = "GET /header HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer good-alice\r\nx-user: alice\r\n\
                     connection: close, x-user\r\n\r\n";
    assert!(edge.raw(nominated.as_bytes()).await.starts_with("HTTP/1.1 400 "));
    assert!(edge.upstream.take().is_empty());
}

/// A body may name an object, too, and there are servers that believe it before the query.
#[tokio::test]
async fn a_body_comes_with_an_object_of_the_query_only_where_the_route_says_so_and_never_as_a_form() {
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const JSON: (&str, &str) = ("content-type", "application/json");
    const OTHERS: &str = "user_id=bob";
    let edge = edge().await;
    for version in VERSIONS {
        for (method, path, headers, body, status) in [
            ("POST", "/search", &[ALICE][..], "", 200),
            ("POST", "/search", &[ALICE], OTHERS, 400),
            ("POST", "/search", &[ALICE, FORM], OTHERS, 400),
            ("POST", "/search", &[ALICE, JSON], "{}", 400),
            ("DELETE", "/search", &[ALICE], OTHERS, 400),
            ("GET", "/search", &[ALICE], OTHERS, 400),
            ("POST", "/upload", &[ALICE, JSON], "{}", 200),
            ("POST", "/upload", &[ALICE, FORM], OTHERS, 400),
            ("POST", "/upload", &[ALICE, ("content-type", "multipart/form-data; boundary=b")], OTHERS, 400),
            ("POST", "/upload", &[ALICE, JSON, FORM], OTHERS, 400),
        ] {
            let target = format!("{path}?user_id=alice");
            let response = edge.send(version, request(version, method, &target, headers, body)).await;
            assert_eq!(response.status(), status, "{version:?} {method} {path} {headers:?} {body}");
            assert_eq!(edge.upstream.take().len(), usize::from(status == 200), "{version:?} {method} {path}");
        }
    }
    for length in [
        "transfer-encoding: chunked\r\n\r\nb\r\nuser_id=bob\r\n0\r\n\r\n",
        "content-length: 11\r\n\r\nuser_id=bob",
    ] {
        let sent = format!(
            "POST /search?user_id=alice HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer good-alice\r\n\
             connection: close\r\n{length}"
        );
        let answer = edge.raw(sent.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("object-ambiguous"), "{answer}");
    }
    assert!(edge.upstream.take().is_empty());
}

/// Neither the status nor the body nor a field says whether the object exists, nor, with `foreign = 404`, that there is
/// such a route.
#[tokio::test]
async fn a_foreign_object_is_answered_like_one_that_does_not_exist() {
    let edge = edge().await;
    for version in VERSIONS {
        let answer = async |target: &str| {
            let response = edge.send(version, request(version, "GET", target, &[ALICE], "")).await;
            let (status, told) = (response.status(), told(response.headers()));
            let body = String::from_utf8(response.into_body().to_vec()).unwrap();
            let (body, id) = body.split_once("\"request_id\":").unwrap();
            (status, told, body.to_owned(), id.len())
        };
        for (foreign, others) in [
            ("/users/bob/mail", ["/users/nobody/mail", "/users/b/mail"]),
            ("/hidden/bob", ["/hidden/nobody", "/no/such/route"]),
        ] {
            let expected = answer(foreign).await;
            for other in others {
                assert_eq!(answer(other).await, expected, "{version:?} {foreign} {other}");
            }
        }
    }
    let refusals = edge.counts().refusals;
    assert_eq!((refusals["object-foreign"], refusals["route-not-found"]), (10, 2));
}

/// Nor what is left of a limit: where there is no route, there is none.
#[tokio::test]
async fn a_limit_does_not_tell_that_there_is_a_route_which_is_hidden() {
    let limit = "[[limit]]\nname = \"all\"\nby = [\"principal\"]\nrate = \"1000/min\"\n";
    let (before, _) = MINIMAL.split_once("[[route]]").unwrap();
    let limited = Config::parse(&format!("{before}{ROUTES}{limit}"), Path::new("edge.toml")).unwrap();
    let limiter = Limiter::new(&limited, Arc::new(Allowlist::new(Vec::new())), Secret::fixed(1));
    let edge = Edge::verifying(
        Arc::<FakeVerify>::default(),
        Fake::new(1_000, 1_000),
        |config| (config.routes, config.request_limits) = (limited.routes, limited.request_limits),
        |gateway| gateway.with_limits(Arc::new(limiter)),
    )
    .await;
    for version in VERSIONS {
        let answer = async |target: &str| {
            let response = edge.send(version, request(version, "GET", target, &[ALICE], "")).await;
            (response.status().as_u16(), told(response.headers()))
        };
        let is_told = |fields: &[(String, String)]| fields.iter().any(|(name, _)| name == "ratelimit");
        let (status, fields) = answer("/hidden/alice").await;
        assert!(status == 200 && is_told(&fields), "{fields:?}");
        let (status, fields) = answer("/users/bob/mail").await;
        assert!(status == 403 && is_told(&fields), "{fields:?}");
        assert_eq!(answer("/hidden/bob").await, answer("/no/such/route").await, "{version:?}");
    }
}

#[tokio::test]
async fn whoever_asks_for_too_many_objects_of_others_is_slowed_and_nobody_else() {
    let debts = Fake { foreign_budget: 3, ..Fake::new(1_000, 1_000) };
    let edge = Edge::with(debts, |config| config.routes = routes()).await;
    let status = async |credential, target: &str| {
        let response =
            edge.send(Version::HTTP_11, request(Version::HTTP_11, "GET", target, &[credential], "")).await;
        response.status().as_u16()
    };
    for (target, expected) in [
        ("/users/b1/mail", 403),
        ("/users/%62%31/mail", 403),
        ("/users/b2/mail", 403),
        ("/users/alice/mail", 200),
        ("/search?user_id=b1", 403),
        // Three objects are three, whatever it asks for next.
        ("/hidden/b3", 429),
        ("/users/alice/mail", 429),
    ] {
        assert_eq!(status(ALICE, target).await, expected, "{target}");
    }
    assert_eq!(status(BOB, "/users/bob/mail").await, 200);
    assert_eq!(edge.counts().refusals["enumeration-limit"], 2);
    let going_on = (SOURCE, "alice".to_owned(), true);
    assert_eq!(*edge.debts.going_on.lock().unwrap(), [going_on.clone(), going_on]);
}

#[tokio::test]
async fn who_goes_on_behind_a_proxy_does_so_from_its_own_address() {
    let debts = Fake { foreign_budget: 0, ..Fake::new(1_000, 1_000) };
    let edge = Edge::with(debts, |config| {
        config.routes = routes();
        config.proxies.trusted = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let fields = [ALICE, ("x-forwarded-for", "203.0.113.9")];
    let answer =
        edge.send(Version::HTTP_11, request(Version::HTTP_11, "GET", "/hidden/b", &fields, "")).await;
    assert_eq!(answer.status(), 429);
    let going_on = ("203.0.113.9".parse().unwrap(), "alice".to_owned(), true);
    assert_eq!(*edge.debts.going_on.lock().unwrap(), [going_on]);
}

/// A token that was verified when nobody wanted to know of the claim: the configuration changes at this moment.
#[tokio::test]
async fn nobody_is_charged_for_a_claim_that_was_not_looked_for_when_the_token_was_verified() {
    let debts = Fake { foreign_budget: 1, ..Fake::new(1_000, 1_000) };
    let (before, _) = MINIMAL.split_once("[[route]]").unwrap();
    let text = format!("{before}{}", ROUTES.replacen("user_id = \"sub\"", "user_id = \"account\"", 1));
    let routes = Config::parse(&text, Path::new("edge.toml")).unwrap().routes;
    let edge = Edge::with(debts, |config| config.routes = routes).await;
    for (credential, target, status, reason) in [
        (ALICE, "/users/alice/mail", 503, "claims-unread"),
        (ALICE, "/users/bob/mail", 503, "claims-unread"),
        (ALICE, "/users/carol/mail", 503, "claims-unread"),
        // A key claims nothing.
        (("x-api-key", "ak_good"), "/users/alice/mail", 403, "object-foreign"),
        (ALICE, "/hidden/alice", 200, ""),
    ] {
        let response =
            edge.send(Version::HTTP_11, request(Version::HTTP_11, "GET", target, &[credential], "")).await;
        assert_eq!(response.status(), status, "{target}");
        assert_eq!(response.headers().contains_key("retry-after"), status == 503, "{target}");
        assert!(String::from_utf8_lossy(response.body()).contains(reason), "{target}");
    }
    assert_eq!(edge.counts().refusals["claims-unread"], 3);
}

#[tokio::test]
async fn policies_are_read_anew_without_dropping_a_connection_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.cedar");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("permit(principal, action, resource);");
    let mut route = Route::under("/", Auth::Required, &[], 0);
    route.access.policy = Some("all".into());
    let policy = Policy { claims: Vec::new(), files: vec![file.clone()], name: "all".into() };
    let edge = Edge::with(Fake::new(1_000, 1_000), |config| {
        (config.routes, config.policies) = (vec![route], vec![policy]);
    })
    .await;
    let mut client = edge.client::<Full<Bytes>>(Version::HTTP_11).await;
    let mut status = async || {
        let response = client.send(request(Version::HTTP_11, "GET", "/", &[ALICE], "")).await.unwrap();
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    };
    let reload =
        || edge.gateway.prepare(Arc::clone(&edge.config)).map(|current| edge.gateway.change(current));
    assert_eq!(status().await, 200);
    let before = edge.gateway.policy_files();
    assert_eq!(before["all"][0].path, file);
    write("permit(principal, action, resource) when { principal.nobody };");
    assert!(reload().unwrap_err().to_string().contains("all.cedar: line 1:"));
    assert_eq!((status().await, edge.gateway.policy_files()), (200, before.clone()));
    write("permit(principal, action, resource) unless { principal.subject == \"alice\" };");
    reload().unwrap();
    assert_eq!(status().await, 403);
    assert_ne!(edge.gateway.policy_files(), before);
    assert_eq!(edge.counts().refusals["policy-denied"], 1);
}
