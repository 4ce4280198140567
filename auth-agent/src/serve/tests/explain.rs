//! What a request is called, what is remembered of it, and what the access log says.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::edge::{Edge, GOOD, PATIENCE, get, request};
use crate::config::LogTarget;
use crate::explain::{Entry, RequestId, is_well_formed};
use crate::limits::tests::Fake;
use crate::refusal::Refusal;
use crate::token::TokenError;

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
const SECRET: &str = "s3cret";

fn id<B>(response: &Response<B>) -> String {
    let mut ids = response.headers().get_all("x-request-id").iter();
    let id = ids.next().expect("a response has an id").to_str().unwrap().to_owned();
    assert!(ids.next().is_none(), "and one only");
    id
}

fn bad(target: &str) -> Request<Full<Bytes>> {
    let credential = format!("Bearer {SECRET}");
    request(Version::HTTP_11, "GET", target, &[("authorization", &credential)], "")
}

#[tokio::test]
async fn every_response_names_its_request_and_a_client_s_own_name_is_not_taken() {
    let edge = Edge::with(Fake::new(10, 100), |_| ()).await;
    let mut seen = HashSet::new();
    for version in VERSIONS {
        for (target, credential, status) in [
            ("/api", GOOD, 200),
            ("/api", ("authorization", "Bearer bad"), 401),
            ("/admin", GOOD, 403),
            ("/none", GOOD, 404),
            ("/down", GOOD, 502),
        ] {
            let own = [credential, ("x-request-id", "mine"), ("x_request.id", "mine")];
            let response = edge.send(version, request(version, "GET", target, &own, "")).await;
            assert_eq!(response.status(), status, "{target}");
            let id = id(&response);
            assert!(id.len() == 32 && is_well_formed(id.as_bytes()), "{id}");
            assert!(seen.insert(id.clone()), "{id} twice");
            if status == 200 {
                let request = edge.upstream.take().pop().unwrap();
                assert_eq!(request.headers["x-request-id"], id.as_str());
                assert!(!request.headers.contains_key("x_request.id"));
            } else {
                let problem: Value = serde_json::from_slice(response.body()).unwrap();
                assert_eq!(problem["request_id"], id.as_str());
            }
        }
    }
    let over = edge.send(Version::HTTP_11, get(Version::HTTP_11, "/api")).await;
    assert_eq!(over.status(), 429);
    assert!(seen.insert(id(&over)));
}

#[tokio::test]
async fn a_trusted_proxy_s_name_for_a_request_is_kept_if_it_is_well_formed() {
    let trusting = |config: &mut crate::config::Config| {
        config.proxies.trusted = vec!["127.0.0.1/32".parse().unwrap()];
    };
    let edge = Edge::with(Fake::new(1000, 1000), trusting).await;
    let version = Version::HTTP_11;
    for (given, kept) in [("4f1c-22:A", true), ("a b", false), ("\"", false), ("", false)] {
        let fields = [GOOD, ("x-request-id", given), ("x-forwarded-for", "198.51.100.7")];
        let response = edge.send(version, request(version, "GET", "/api", &fields, "")).await;
        assert_eq!(response.status(), 200, "{given:?}");
        assert_eq!(id(&response) == given, kept, "{given:?}");
        assert_eq!(edge.upstream.take().pop().unwrap().headers["x-request-id"], id(&response).as_str());
    }
}

#[tokio::test]
async fn the_field_can_have_another_name_or_be_left_out() {
    let version = Version::HTTP_11;
    let edge = Edge::with(Fake::new(1000, 1000), |config| {
        config.explain.header = Some("x-trace".parse().unwrap());
    })
    .await;
    let response = edge.send(version, get(version, "/api")).await;
    assert!(response.headers().contains_key("x-trace") && !response.headers().contains_key("x-request-id"));
    let edge = Edge::with(Fake::new(1000, 1000), |config| config.explain.header = None).await;
    let response = edge.send(version, get(version, "/api")).await;
    assert!(!response.headers().contains_key("x-request-id"));
    assert!(!edge.upstream.take().pop().unwrap().headers.contains_key("x-request-id"));
}

/// What is remembered of a response's request.
fn remembered<T>(edge: &Edge, response: &Response<Bytes>, tell: impl Fn(&Entry) -> T) -> T {
    let id = RequestId::parse(&id(response)).unwrap();
    edge.gateway.journal().find(&id, tell).expect("the request is remembered")
}

#[tokio::test]
async fn what_became_of_a_request_is_remembered_stage_by_stage_without_secrets() {
    let edge = Edge::with(Fake::new(3, 100), |_| ()).await;
    let version = Version::HTTP_11;
    let good = edge.send(version, get(version, "/api/%61?q=s3cret")).await;
    remembered(&edge, &good, |entry| {
        assert_eq!((&*entry.host, &*entry.path, &*entry.method), ("localhost", "/api/a", "GET"));
        assert_eq!((entry.outcome.status, entry.outcome.refusal), (200, None));
        let notes = &entry.notes;
        assert_eq!(notes.identity.as_ref().map(|identity| identity.subject()), Some("alice"));
        assert_eq!((notes.route.as_deref(), notes.upstream.as_deref()), (Some("/api"), Some("live")));
        assert_eq!((notes.revoked, notes.endpoint.is_some()), (Some(false), true));
        assert!(entry.upstream_took().is_some_and(|took| took <= entry.took));
    });
    let expired = edge.send(version, bad("/api/y?q=s3cret")).await;
    remembered(&edge, &expired, |entry| {
        assert_eq!(entry.outcome.refusal, Some(Refusal::Token(TokenError::Expired)));
        assert!(entry.notes.credential.is_some() && entry.notes.identity.is_none());
        assert!(!format!("{entry:?}").contains(SECRET), "{entry:?}");
    });
    let unscoped = edge.send(version, get(version, "/admin")).await;
    remembered(&edge, &unscoped, |entry| {
        assert_eq!(entry.outcome.refusal, Some(Refusal::ScopeMissing));
        assert_eq!(entry.notes.route.as_deref(), Some("/admin"));
        assert!(entry.notes.upstream.is_none());
    });
    let over = edge.send(version, get(version, "/api")).await;
    remembered(&edge, &over, |entry| {
        assert!(matches!(entry.outcome.refusal, Some(Refusal::RequestLimit { .. })));
        assert_eq!(entry.outcome.status, 429);
    });
    let unknown = RequestId::parse("unknown").unwrap();
    assert!(edge.gateway.journal().find(&unknown, |_| ()).is_none());
    assert_eq!(edge.gateway.journal().reach().answered, None, "nothing was forgotten");
}

#[tokio::test]
async fn no_more_requests_are_remembered_than_were_asked_for_and_it_is_known_how_far_back() {
    let remembering = |config: &mut crate::config::Config| {
        config.explain.remembered = 2;
        config.sizes.workers = std::num::NonZeroUsize::new(1);
    };
    let edge = Edge::with(Fake::new(1000, 1000), remembering).await;
    let version = Version::HTTP_11;
    let mut responses = Vec::new();
    for _ in 0..3 {
        responses.push(edge.send(version, get(version, "/api")).await);
    }
    // Refusals do not push out what was answered.
    for _ in 0..3 {
        edge.send(version, bad("/api")).await;
    }
    let is_known = |response: &Response<Bytes>| {
        edge.gateway.journal().find(&RequestId::parse(&id(response)).unwrap(), |_| ()).is_some()
    };
    assert_eq!(responses.iter().map(is_known).collect::<Vec<_>>(), [false, true, true]);
    let reach = edge.gateway.journal().reach();
    assert!(reach.answered.is_some() && reach.refused.is_some());
}

fn logging(path: &Path) -> impl FnOnce(&mut crate::config::Config) {
    let to = LogTarget::File(path.to_owned());
    move |config| config.access_log.to = to
}

/// The lines of the log, once there are so many.
async fn lines(edge: &Edge, path: &Path, count: usize) -> Vec<Value> {
    let read = async {
        loop {
            edge.gateway.journal().settle();
            let text = std::fs::read_to_string(path).unwrap();
            assert!(!text.contains(SECRET), "{text}");
            if text.lines().count() >= count {
                return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            // The end of an answer is noted a moment after its client has it.
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, read).await.expect("the lines come")
}

#[tokio::test]
async fn a_line_says_what_became_of_a_request_and_holds_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let edge = Edge::with(Fake::new(1000, 1000), logging(&path)).await;
    let version = Version::HTTP_11;
    let sent = request(version, "POST", "/api/%61?token=s3cret", &[("x-api-key", "ak_good")], "hello");
    let good = edge.send(version, sent).await;
    // The query holds a credential's name: refused, and neither it nor the path's tricks make a line of their own.
    let refused = edge.send(version, bad("/api/\"}{=\"?q=s3cret")).await;
    assert_eq!((good.status().as_u16(), refused.status().as_u16()), (200, 400));
    let lines = lines(&edge, &path, 2).await;
    let of = |response| {
        let id = id(response);
        lines.iter().find(|line| line["request_id"] == id.as_str()).expect("a line for it")
    };
    let line = of(&good);
    for (field, expected) in [
        ("method", Value::from("POST")),
        ("host", "localhost".into()),
        ("path", "/api/a".into()),
        ("route", "/api".into()),
        ("status", 200.into()),
        ("auth", "api-key".into()),
        ("principal", "ci".into()),
        ("source", "127.0.0.1".into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 8.into()),
        ("upstream", "live".into()),
        ("via", "edge".into()),
        ("reason", Value::Null),
        ("broke_off", Value::Null),
    ] {
        assert_eq!(line[field], expected, "{field}: {line}");
    }
    assert!(line["duration_ms"].as_f64() >= line["upstream_ms"].as_f64(), "{line}");
    let line = of(&refused);
    assert_eq!((&line["status"], &line["reason"]), (&400.into(), &"path-invalid".into()));
    assert_eq!(line["path"], "/api/\"}{=\"");
    assert_eq!(line["bytes_out"], refused.body().len());
}

/// Waits until the upstream is asked for what it never answers.
async fn hangs(edge: &Edge) {
    let asked = async {
        while edge.upstream.hanging.load(Relaxed) != 1 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect("the upstream is asked");
}

#[tokio::test]
async fn a_request_whose_client_goes_away_is_logged_and_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    // A sample is of what was answered.
    let edge = Edge::with(Fake::new(1000, 1000), |config| {
        logging(&path)(config);
        config.access_log.sample = 1000.try_into().unwrap();
    })
    .await;
    for (version, count) in VERSIONS.into_iter().zip(1..) {
        let mut client = edge.client::<Full<Bytes>>(version).await;
        let sent = client.send(request(version, "POST", "/api/hang?q=s3cret", &[GOOD], "hello"));
        // Dropped, it resets its stream, and the connection goes on; one of HTTP/1.1 ends.
        tokio::select! {
            _ = sent => panic!("it is answered"),
            () = hangs(&edge) => {}
        }
        if version == Version::HTTP_2 {
            assert_eq!(client.send(get(version, "/api")).await.unwrap().status(), 200);
        }
        drop(client);
        let line = lines(&edge, &path, count).await.pop().unwrap();
        for (field, expected) in [
            ("status", Value::from(499)),
            ("reason", "client-gone".into()),
            ("path", "/api/hang".into()),
            ("route", "/api".into()),
            ("principal", "alice".into()),
            ("upstream", "live".into()),
            ("bytes_in", 5.into()),
            ("bytes_out", 0.into()),
        ] {
            assert_eq!(line[field], expected, "{version:?} {field}: {line}");
        }
        let id = RequestId::parse(line["request_id"].as_str().unwrap()).unwrap();
        let outcome = edge.gateway.journal().find(&id, |entry| entry.outcome).expect("it is remembered");
        assert!(outcome.is_client_gone && outcome.refusal.is_none());
        timeout(PATIENCE, edge.upstream.given_up.lock().await.recv()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn of_what_is_answered_a_sample_is_logged_and_of_what_is_refused_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let edge = Edge::with(Fake::new(1000, 1000), |config| {
        logging(&path)(config);
        config.access_log.sample = 3.try_into().unwrap();
        config.access_log.principals = false;
        config.sizes.workers = std::num::NonZeroUsize::new(1);
    })
    .await;
    let version = Version::HTTP_11;
    for _ in 0..6 {
        assert_eq!(edge.send(version, get(version, "/api")).await.status(), 200);
        assert_eq!(edge.send(version, bad("/api")).await.status(), 401);
    }
    let lines = lines(&edge, &path, 8).await;
    let of = |status: u16| lines.iter().filter(|line| line["status"] == status).count();
    assert_eq!((of(200), of(401), lines.len()), (2, 6, 8));
    assert!(lines.iter().all(|line| line["principal"] == Value::Null));
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_no_request_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let edge = Edge::with(Fake::new(1000, 1000), logging(&path)).await;
    let version = Version::HTTP_11;
    for _ in 0..20 {
        assert_eq!(edge.send(version, get(version, "/api")).await.status(), 200);
        assert_eq!(edge.send(version, bad("/api")).await.status(), 401);
    }
}
