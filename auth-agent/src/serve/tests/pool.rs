//! Connections to upstreams over HTTP/1.1: which are used again, and which never.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::timeout;

use super::edge::{Edge, GOOD, PATIENCE, get, request};
use super::raw::{OK, Raw};
use crate::config::{Address, Config, Ejection};
use crate::limits::tests::Fake;

const HTTP1: Version = Version::HTTP_11;

pub async fn edge_before(endpoints: Vec<Address>, change: impl FnOnce(&mut Config)) -> Edge {
    Edge::with(Fake::new(1_000_000, 1_000_000), |config| {
        config.upstreams[0].endpoints = endpoints;
        // Each thread has connections of its own.
        config.sizes.workers = NonZeroUsize::new(1);
        change(config);
    })
    .await
}

pub fn reason(response: &Response<Bytes>) -> String {
    let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    problem["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    let raw = Raw::start(|_, _, _| Some(OK.into())).await;
    let edge = edge_before(vec![raw.address.clone()], |_| ()).await;
    for version in [HTTP1, Version::HTTP_2] {
        for (method, body) in [("GET", ""), ("HEAD", ""), ("POST", ""), ("GET", "")] {
            let headers: &[_] = if method == "POST" { &[GOOD, ("content-length", "0")] } else { &[GOOD] };
            // The answer to a HEAD has no body.
            if method != "HEAD" {
                let response = edge.send(version, request(version, method, "/api", headers, body)).await;
                assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"ok"[..]));
            }
        }
    }
    assert_eq!(raw.used(), [0; 6]);
    assert_eq!(edge.upstreams()[0].endpoints[0].idle, 1);
}

#[tokio::test]
async fn what_the_upstream_says_beyond_its_answer_ends_the_connection() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (method, answer) in [
        ("GET", format!("{OK}{EVIL}")),
        ("GET", format!("HTTP/1.1 204 No Content\r\n\r\n{EVIL}")),
        ("GET", format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 48\r\n\r\n{EVIL}")),
        ("GET", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{EVIL}")),
        ("GET", format!("{OK}\r\n")),
        ("HEAD", OK.to_owned()),
        ("HEAD", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{EVIL}")),
    ] {
        let said = answer.clone();
        let raw = Raw::start(move |_, _, head| {
            Some(if head.contains("/api/x") { said.clone() } else { OK.into() })
        })
        .await;
        let edge = edge_before(vec![raw.address.clone()], |_| ()).await;
        edge.send(HTTP1, request(HTTP1, method, "/api/x", &[GOOD], "")).await;
        let response = edge.send(HTTP1, get(HTTP1, "/api")).await;
        assert_eq!(&response.body()[..], b"ok", "{answer:?}");
        assert_eq!(raw.used(), [0, 1], "{answer:?}");
    }
}

#[tokio::test]
async fn what_the_upstream_says_unasked_ends_an_idle_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (speak, spoken) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, done) = (Arc::clone(&speak), Arc::clone(&spoken));
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        let (mut first, _) = listener.accept().await.unwrap();
        assert_ne!(first.read(&mut buffer).await.unwrap(), 0);
        first.write_all(OK.as_bytes()).await.unwrap();
        told.notified().await;
        first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await.unwrap();
        done.notify_one();
        let (mut second, _) = listener.accept().await.unwrap();
        assert_ne!(second.read(&mut buffer).await.unwrap(), 0);
        second.write_all(OK.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let edge = edge_before(vec![address], |_| ()).await;
    assert_eq!(&edge.send(HTTP1, get(HTTP1, "/api")).await.body()[..], b"ok");
    speak.notify_one();
    spoken.notified().await;
    assert_eq!(&edge.send(HTTP1, get(HTTP1, "/api")).await.body()[..], b"ok");
}

#[tokio::test]
async fn a_request_that_was_lost_is_sent_again_only_if_that_does_no_harm() {
    for (method, length, status, used) in [
        ("GET", None, 200, &[0, 0, 1][..]),
        ("DELETE", None, 200, &[0, 0, 1]),
        ("POST", Some("0"), 502, &[0, 0]),
    ] {
        // The second request on the first connection is read, and not answered.
        let raw =
            Raw::start(|connection, number, _| (connection > 0 || number == 0).then(|| OK.into())).await;
        let edge = edge_before(vec![raw.address.clone()], |_| ()).await;
        assert_eq!(edge.send(HTTP1, get(HTTP1, "/api")).await.status(), 200);
        let mut headers = vec![GOOD];
        headers.extend(length.map(|length| ("content-length", length)));
        let response = edge.send(HTTP1, request(HTTP1, method, "/api", &headers, "")).await;
        assert_eq!(response.status(), status, "{method}");
        assert_eq!(raw.used(), used, "{method}");
        assert_eq!(edge.upstreams()[0].retries, u64::from(status == 200), "{method}");
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_never_sent_again() {
    let raw = Raw::start(|connection, number, _| (connection > 0 || number == 0).then(|| OK.into())).await;
    let edge = edge_before(vec![raw.address.clone()], |_| ()).await;
    edge.send(HTTP1, get(HTTP1, "/api")).await;
    let put = request(HTTP1, "PUT", "/api", &[GOOD], "body");
    assert_eq!(edge.send(HTTP1, put).await.status(), 502);
    assert_eq!(raw.used(), [0, 0]);
}

#[tokio::test]
async fn retries_are_as_many_as_the_route_allows() {
    for (attempts, seen) in [(0, 1), (1, 2), (3, 4)] {
        let raw = Raw::start(|_, _, _| None).await;
        let edge = edge_before(vec![raw.address.clone()], |config| {
            config.routes[0].retries.attempts = attempts;
            config.upstreams[0].ejection.failures = 0;
        })
        .await;
        let response = edge.send(HTTP1, get(HTTP1, "/api")).await;
        assert_eq!((response.status().as_u16(), &*reason(&response)), (502, "upstream-invalid"));
        assert_eq!(raw.used().len(), seen, "{attempts}");
    }
}

#[tokio::test]
async fn an_answer_that_the_route_names_is_asked_for_again() {
    let raw = Raw::start(|connection, _, _| {
        let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        Some(if connection == 0 { busy.into() } else { OK.into() })
    })
    .await;
    let edge = edge_before(vec![raw.address.clone()], |config| {
        config.routes[0].retries.statuses = vec![503];
    })
    .await;
    let response = edge.send(HTTP1, get(HTTP1, "/api")).await;
    assert_eq!((response.status().as_u16(), raw.used()), (200, vec![0, 1]));
}

#[tokio::test]
async fn an_answer_is_not_given_up_where_no_other_can_be_asked_for() {
    let stuck = Raw::start(|_, _, _| Some("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome".into())).await;
    let busy = Raw::start(|_, _, _| {
        Some("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nRetry-After: 77\r\n\r\nbusy".into())
    })
    .await;
    let edge = edge_before(vec![stuck.address.clone(), busy.address.clone()], |config| {
        config.routes[0].retries.statuses = vec![503];
        let upstream = &mut config.upstreams[0];
        upstream.balance = crate::config::Balance::RoundRobin;
        upstream.connections = NonZeroUsize::MIN;
        upstream.ejection.failures = 1;
    })
    .await;
    let mut client = edge.client::<Full<Bytes>>(HTTP1).await;
    let streaming = client.send(get(HTTP1, "/api")).await.unwrap();
    let response = edge.send(HTTP1, get(HTTP1, "/api")).await;
    assert_eq!((response.status().as_u16(), &response.body()[..]), (503, &b"busy"[..]));
    assert_eq!(response.headers()["retry-after"], "77");
    assert_eq!((busy.used().len(), edge.upstreams()[0].retries), (1, 0));
    drop(streaming);
}

#[tokio::test]
async fn a_connection_on_which_the_answer_came_early_is_not_used_again() {
    let raw = Raw::start(|_, _, _| Some(OK.into())).await;
    let edge = edge_before(vec![raw.address.clone()], |_| ()).await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    let head =
        "POST /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nContent-Length: 80\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let answered = async {
        while !answer.ends_with(b"ok") {
            stream.read_buf(&mut answer).await.unwrap();
        }
    };
    timeout(PATIENCE, answered).await.expect("an early answer comes early");
    // Were the connection used again, this would be read as a request.
    let smuggled = "GET /admin HTTP/1.1\r\nHost: localhost\r\nX-Auth-Subject: root\r\n\r\n";
    stream.write_all(format!("{smuggled:x<80}").as_bytes()).await.unwrap();
    assert_eq!(edge.send(HTTP1, get(HTTP1, "/api")).await.status(), 200);
    assert_eq!(raw.used(), [0, 1]);
    assert!(raw.seen.lock().unwrap().iter().all(|(_, head)| !head.contains("/admin")));
}

#[tokio::test]
async fn a_client_that_leaves_an_answer_unread_takes_the_connection_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (closed, is_closed) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        assert_ne!(stream.read(&mut buffer).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome").await.unwrap();
        let rest = stream.read(&mut buffer).await;
        closed.send(rest.unwrap_or(0)).unwrap();
    });
    let edge = edge_before(vec![address], |_| ()).await;
    let mut client = edge.client::<Full<Bytes>>(HTTP1).await;
    let mut response = client.send(get(HTTP1, "/api")).await.unwrap();
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "some");
    drop((client, response));
    assert_eq!(timeout(PATIENCE, is_closed).await.expect("the connection stays open").unwrap(), 0);
    assert_eq!(edge.upstreams()[0].endpoints[0].idle, 0);
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nzz\r\n",
    ] {
        let raw = Raw::start(move |_, number, _| (number == 0).then(|| answer.into())).await;
        let edge = edge_before(vec![raw.address.clone()], |config| {
            config.timeouts.upstream_idle = Duration::from_millis(100);
        })
        .await;
        for version in [HTTP1, Version::HTTP_2] {
            // What comes in one piece is given up in one piece.
            let Ok(response) = edge.client(version).await.send(get(version, "/api")).await else { continue };
            let body =
                timeout(PATIENCE, response.into_body().collect()).await.expect("the body does not end");
            assert!(body.is_err(), "{answer:?} {version:?}");
        }
        let endpoint = &edge.upstreams()[0].endpoints[0];
        assert_eq!((endpoint.broken, endpoint.idle, endpoint.in_flight), (2, 0, 0), "{answer:?}");
    }
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let raw = Raw::start(|_, _, _| Some(OK.into())).await;
    let edge = edge_before(vec![raw.address.clone()], |config| {
        config.upstreams[0].idle_timeout = Duration::from_secs(1);
    })
    .await;
    edge.send(HTTP1, get(HTTP1, "/api")).await;
    assert_eq!(edge.upstreams()[0].endpoints[0].idle, 1);
    let closed = async {
        while edge.upstreams()[0].endpoints[0].idle > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("an idle connection stays open");
}

#[tokio::test]
async fn requests_beyond_what_an_endpoint_takes_wait_their_turn_or_are_told_to_come_back() {
    let (gate, count) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (opened, seen) = (Arc::clone(&gate), Arc::clone(&count));
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        // One connection is enough.
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
            seen.fetch_add(1, Relaxed);
            opened.acquire().await.unwrap().forget();
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    });
    let edge = edge_before(vec![address], |config| {
        let upstream = &mut config.upstreams[0];
        upstream.connections = NonZeroUsize::MIN;
        upstream.queue = 1;
    })
    .await;
    let until = async |in_flight, waiting| {
        let reached = async {
            loop {
                let upstream = edge.upstreams().swap_remove(0);
                if (upstream.endpoints[0].in_flight, upstream.waiting) == (in_flight, waiting) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.expect("nothing moves");
    };
    let rest = async {
        until(1, 1).await;
        let refused = edge.send(HTTP1, get(HTTP1, "/api")).await;
        assert_eq!((refused.status().as_u16(), &*reason(&refused)), (503, "upstream-full"));
        assert_eq!(refused.headers()["retry-after"], "5");
        assert_eq!(count.load(Relaxed), 1, "the second request is with the upstream");
        gate.add_permits(2);
    };
    let first = edge.send(HTTP1, get(HTTP1, "/api"));
    let second = async {
        until(1, 0).await;
        edge.send(HTTP1, get(HTTP1, "/api")).await
    };
    let (first, second, ()) = tokio::join!(first, second, rest);
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
}

#[tokio::test]
async fn who_waits_too_long_is_told_to_come_back() {
    let raw = Raw::start(|_, _, _| Some("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome".into())).await;
    let edge = edge_before(vec![raw.address.clone()], |config| {
        let upstream = &mut config.upstreams[0];
        upstream.connections = NonZeroUsize::MIN;
        upstream.queue_timeout = Duration::from_millis(50);
    })
    .await;
    let mut client = edge.client::<Full<Bytes>>(HTTP1).await;
    let streaming = client.send(get(HTTP1, "/api")).await.unwrap();
    let refused = edge.send(HTTP1, get(HTTP1, "/api")).await;
    assert_eq!((refused.status().as_u16(), &*reason(&refused)), (503, "upstream-full"));
    drop(streaming);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_connected_to_is_left_alone_for_a_while() {
    let dead: Address = "http://127.0.0.1:1".parse().unwrap();
    let live = Raw::start(|_, _, _| Some(OK.into())).await;
    let eject = |config: &mut Config| {
        config.upstreams[0].ejection =
            Ejection { failures: 2, first: Duration::from_secs(60), longest: Duration::from_secs(60) };
    };
    let edge = edge_before(vec![dead.clone(), live.address.clone()], eject).await;
    for _ in 0..8 {
        assert_eq!(edge.send(HTTP1, get(HTTP1, "/api")).await.status(), 200);
    }
    let upstream = edge.upstreams().swap_remove(0);
    let endpoint = &upstream.endpoints[0];
    assert_eq!((endpoint.connects, endpoint.ejections, endpoint.state.name()), (2, 1, "ejected"));
    assert!(endpoint.last_error.as_ref().unwrap().contains("Connection refused"), "{endpoint:?}");
    assert!(!upstream.is_down());

    let edge = edge_before(vec![dead], eject).await;
    for (status, expected) in
        [(502, "upstream-unreachable"), (502, "upstream-unreachable"), (503, "upstream-down")]
    {
        let response = edge.send(HTTP1, get(HTTP1, "/api")).await;
        assert_eq!((response.status().as_u16(), &*reason(&response)), (status, expected));
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
    }
    assert!(edge.upstreams()[0].is_down());
}

#[tokio::test]
async fn gateway_errors_take_out_all_but_the_last_endpoint() {
    let busy =
        || Raw::start(|_, _, _| Some("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".into()));
    let (first, second) = (busy().await, busy().await);
    let edge = edge_before(vec![first.address.clone(), second.address.clone()], |config| {
        config.upstreams[0].ejection =
            Ejection { failures: 2, first: Duration::from_secs(60), longest: Duration::from_secs(60) };
    })
    .await;
    for _ in 0..9 {
        let response = edge.send(HTTP1, get(HTTP1, "/api")).await;
        assert_eq!(
            (response.status().as_u16(), response.body().len()),
            (503, 0),
            "the upstream's own answer"
        );
    }
    let states: Vec<_> = edge.upstreams()[0].endpoints.iter().map(|endpoint| endpoint.state.name()).collect();
    assert_eq!(states, ["ejected", "in"]);
    assert_eq!((first.used().len(), second.used().len()), (2, 7));
}

#[tokio::test]
async fn a_unix_socket_is_an_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let raw = Raw::unix(&folder.path().join("app.sock"), OK);
    let edge = edge_before(vec![raw.address.clone()], |_| ()).await;
    for _ in 0..2 {
        assert_eq!(&edge.send(HTTP1, get(HTTP1, "/api")).await.body()[..], b"ok");
    }
    assert_eq!((raw.used(), raw.connections.load(Relaxed)), (vec![0, 0], 1));
}

#[tokio::test]
async fn whoever_is_the_same_gets_the_same_endpoint() {
    let mut raws = Vec::new();
    for _ in 0..4 {
        raws.push(Raw::start(|_, _, _| Some(OK.into())).await);
    }
    let edge = edge_before(raws.iter().map(|raw| raw.address.clone()).collect(), |config| {
        config.upstreams[0].balance = crate::config::Balance::PrincipalHash;
    })
    .await;
    for subject in 0..12 {
        for _ in 0..2 {
            let token = format!("Bearer good-{subject}");
            let sent = request(HTTP1, "GET", &format!("/api/{subject}"), &[("authorization", &token)], "");
            assert_eq!(edge.send(HTTP1, sent).await.status(), 200);
        }
    }
    for subject in 0..12 {
        let line = format!("GET /api/{subject} ");
        let served = raws
            .iter()
            .map(|raw| raw.seen.lock().unwrap().iter().filter(|(_, head)| head.starts_with(&line)).count());
        let mut served: Vec<_> = served.collect();
        served.sort_unstable();
        assert_eq!(served, [0, 0, 0, 2], "{subject}");
    }
}

#[tokio::test]
async fn an_unhealthy_endpoint_is_asked_nothing_until_it_is_healthy_again() {
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let says = Arc::clone(&healthy);
    let raw = Raw::start(move |_, _, head| {
        let bad = head.starts_with("GET /health ") && !says.load(Relaxed);
        Some(if bad { "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into() } else { OK.into() })
    })
    .await;
    let edge = edge_before(vec![raw.address.clone()], |config| {
        let count = std::num::NonZeroU32::MIN.saturating_add(1);
        config.upstreams[0].health_check = Some(crate::config::HealthCheck {
            expect: 200..=299,
            healthy_after: count,
            interval: Duration::from_millis(100),
            path: "/health".to_owned(),
            timeout: Duration::from_secs(5),
            unhealthy_after: count,
        });
    })
    .await;
    for is_healthy in [true, false, true] {
        healthy.store(is_healthy, Relaxed);
        let noticed = async {
            while edge.upstreams()[0].is_down() == is_healthy {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, noticed).await.expect("nobody looks after the endpoint");
        let response = edge.send(HTTP1, get(HTTP1, "/api")).await;
        if is_healthy {
            assert_eq!(response.status(), 200);
        } else {
            assert_eq!((response.status().as_u16(), &*reason(&response)), (503, "upstream-down"));
            assert_eq!(response.headers()["retry-after"], "1");
            let endpoint = &edge.upstreams()[0].endpoints[0];
            assert_eq!(endpoint.last_error.as_deref(), Some("health check: answered 500"));
        }
    }
    let seen = raw.seen.lock().unwrap();
    let check = seen.iter().find(|(_, head)| head.starts_with("GET /health ")).unwrap();
    assert!(check.1.contains("auth-agent health check"), "{}", check.1);
}

#[tokio::test]
async fn a_response_that_takes_longer_than_its_route_allows_is_ended() {
    let raw = Raw::start(|_, _, head| {
        // Of the second kind, not even the head comes.
        Some(if head.contains("/api/body") {
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome".into()
        } else {
            String::new()
        })
    })
    .await;
    let edge = edge_before(vec![raw.address.clone()], |config| {
        config.routes[0].timeouts.request = Some(Duration::from_millis(200));
    })
    .await;
    let response = edge.client(HTTP1).await.send(get(HTTP1, "/api/body")).await.unwrap();
    assert!(timeout(PATIENCE, response.into_body().collect()).await.expect("it goes on").is_err());
    let response = edge.send(HTTP1, get(HTTP1, "/api/head")).await;
    assert_eq!((response.status().as_u16(), &*reason(&response)), (504, "upstream-timeout"));
}
