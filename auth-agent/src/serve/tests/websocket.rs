//! WebSockets over HTTP/2 (RFC 8441): judged as requests, carried as over HTTP/1.1, and ended by themselves.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::edge::{Client, Edge, FakeVerify, GOOD, PATIENCE, get, request};
use super::pool::{edge_before, reason};
use super::revocation::revoke;
use super::upgrade::{echo, ends, websocket};
use crate::allowlist::Allowlist;
use crate::config::tests::{MINIMAL, parse};
use crate::config::{Address, Auth, Route};
use crate::limits::tests::Fake;
use crate::limits::{Limiter, Secret};
use crate::proxy::accept;

const HTTP2: Version = Version::HTTP_2;

type Http2 = Client<Full<Bytes>>;

/// A client that has seen the edge's settings.
async fn client(edge: &Edge) -> Http2 {
    let mut client: Http2 = edge.client(HTTP2).await;
    let answer = client.send(request(HTTP2, "GET", "/open", &[], "")).await.unwrap();
    answer.into_body().collect().await.unwrap();
    client
}

fn connect(protocol: &'static str, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = request(HTTP2, "CONNECT", path, headers, "");
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

pub async fn open(client: &mut Http2, subject: &str) -> TokioIo<Upgraded> {
    let bearer = format!("Bearer good-{subject}");
    let headers = [("authorization", &*bearer), ("sec-websocket-version", "13")];
    let response = client.send(connect("websocket", "/api/websocket", &headers)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept"), "{:?}", response.headers());
    assert!(!response.headers().contains_key("upgrade"), "{:?}", response.headers());
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

#[tokio::test]
async fn an_upstream_sees_the_handshake_of_http1_and_bytes_go_both_ways_to_the_end() {
    let edge = Edge::start().await;
    let mut client = client(&edge).await;
    edge.upstream.take();
    let mut socket = open(&mut client, "alice").await;
    let seen = edge.upstream.take().remove(0);
    assert_eq!((seen.method, &*seen.target), (Method::GET, "/api/websocket"));
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("host", "localhost"),
        ("via", "2 auth-agent"),
        ("x-auth-subject", "alice"),
        ("sec-websocket-version", "13"),
    ] {
        assert_eq!(seen.headers[name], value, "{name}");
    }
    assert_eq!(seen.headers["sec-websocket-key"].len(), 24, "16 bytes in base64");
    assert!(!seen.headers.contains_key("content-length"));
    echo(&mut socket).await;
    assert_eq!(edge.connections.list(|connection| connection.open_requests() == 1).len(), 1);
    // Long enough that windows have to be opened, in either direction.
    let long: Vec<u8> = (0..3_u32 << 20).map(|number| number as u8).collect();
    let (mut read, mut write) = tokio::io::split(socket);
    let sent = long.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut came = Vec::new();
    timeout(PATIENCE, read.read_to_end(&mut came)).await.unwrap().unwrap();
    writer.await.unwrap();
    assert!(came == long, "{} of {}", came.len(), long.len());
    assert_eq!(client.send(get(HTTP2, "/api")).await.unwrap().status(), 200, "the connection goes on");
}

#[tokio::test]
async fn whoever_may_not_have_it_is_refused_as_with_any_request_of_the_route() {
    let edge = Edge::with(Fake::new(1_000, 1_000), |config| {
        let without = |path: &str| Route { upgrades: vec![], ..Route::under(path, Auth::Required, &[], 0) };
        let posts = Route { methods: vec![Method::POST], ..Route::under("/posts", Auth::None, &[], 0) };
        config.routes.extend([without("/plain"), posts]);
    })
    .await;
    let mut client = client(&edge).await;
    edge.upstream.take();
    let (method, upgrade) = ("method-not-allowed", "upgrade-not-allowed");
    for (protocol, path, headers, status, expected) in [
        ("websocket", "/api/websocket", &[][..], 401, "credential-missing"),
        ("websocket", "/api/websocket", &[("authorization", "Bearer bad")], 401, "token-expired"),
        ("websocket", "/admin/websocket", &[GOOD], 403, "scope-missing"),
        ("websocket", "/nowhere", &[GOOD], 404, "route-not-found"),
        ("websocket", "/api/../admin", &[GOOD], 400, "path-invalid"),
        ("websocket", "/posts", &[GOOD], 405, method),
        ("websocket", "/plain", &[], 401, "credential-missing"),
        ("websocket", "/plain", &[GOOD], 501, upgrade),
        ("WebSocket", "/api/websocket", &[GOOD], 405, method),
        ("connect-udp", "/api/websocket", &[GOOD], 405, method),
        ("", "/api/websocket", &[GOOD], 405, method),
    ] {
        let answer = client.send(connect(protocol, path, headers)).await.unwrap();
        let (parts, body) = answer.into_parts();
        let answer = Response::from_parts(parts, body.collect().await.unwrap().to_bytes());
        let found = (answer.status().as_u16(), reason(&answer));
        assert_eq!(found, (status, expected.to_owned()), "{protocol:?} {path} {headers:?}");
    }
    assert!(edge.upstream.take().is_empty());
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_makes_no_tunnel() {
    let edge = Edge::start().await;
    let mut client = client(&edge).await;
    for (path, status, body) in [
        // It answers 200, which would be a yes.
        ("/api", 502, "upstream-no-upgrade"),
        ("/api/nothing", 502, "upstream-no-upgrade"),
        ("/api/switch", 502, "upstream-invalid"),
        ("/down", 502, "upstream-unreachable"),
        ("/api/teapot", 418, "upstream"),
    ] {
        let answer = client.send(connect("websocket", path, &[GOOD])).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let said = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&said).contains(body), "{path}: {said:?}");
    }
}

#[tokio::test]
async fn one_ends_with_its_credential_and_the_others_of_its_connection_go_on() {
    let edge = Edge::start().await;
    let mut client = client(&edge).await;
    let (alice, mut bob) = (open(&mut client, "alice").await, open(&mut client, "bob").await);
    assert_eq!(revoke(&edge, "alice"), (0, 1));
    ends(alice).await;
    echo(&mut bob).await;
    assert_eq!(edge.upstreams()[0].endpoints[0].in_flight, 1, "the upstream's end is closed");
}

#[tokio::test]
async fn one_whose_client_reads_nothing_is_open_until_its_connection_ends() {
    let edge = Edge::start().await;
    let stream = edge.connect(Some("localhost"), &["h2"]).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (mut client, connection) =
        builder.initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let open = async |client: &mut h2::client::SendRequest<Bytes>, subject: &str| {
        let bearer = format!("Bearer good-{subject}");
        let mut request = request(HTTP2, "CONNECT", "/api/websocket", &[("authorization", &bearer)], "");
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, stream) = client.send_request(request.map(|_| ()), false).unwrap();
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        (answer, stream)
    };
    let (_answer, mut alice) = open(&mut client, "alice").await;
    let _bob = open(&mut client, "bob").await;
    alice.send_data(Bytes::from_static(b"echoed"), false).unwrap();
    // It has come back once the edge holds it for the client.
    sleep(Duration::from_millis(100)).await;
    let target = crate::revocation::Target::Subject { issuer: None, subject: "alice".into() };
    let now = crate::clock::UnixTime::now();
    let all = crate::revocation::Revocation { before: None, until: None };
    edge.revocations.revoke(&target, all, now);
    let cut = edge.connections.cut_revoked(|identity| edge.revocations.is_revoked(identity, now));
    assert_eq!((cut.condemned.len(), cut.requests), (0, 1));
    cut.end_stalled().await;
    edge.closed("revoked", 1).await;
}

#[tokio::test]
async fn one_without_a_byte_ends_and_its_connection_goes_on() {
    let edge = Edge::with(Fake::new(1_000, 1_000), |config| {
        config.timeouts.upgraded_idle = Duration::from_millis(50);
    })
    .await;
    let mut client = client(&edge).await;
    ends(open(&mut client, "alice").await).await;
    edge.closed("upgraded-idle", 1).await;
    assert_eq!(client.send(get(HTTP2, "/api")).await.unwrap().status(), 200);
    assert_eq!(edge.upstreams()[0].endpoints[0].in_flight, 0);
}

#[tokio::test]
async fn one_that_goes_on_keeps_its_connection_from_being_idle() {
    let edge = Edge::with(Fake::new(1_000, 1_000), |config| {
        config.timeouts.idle = Duration::from_millis(50);
        config.timeouts.body_idle = Duration::from_millis(50);
    })
    .await;
    let mut client = client(&edge).await;
    let mut socket = open(&mut client, "alice").await;
    sleep(Duration::from_millis(200)).await;
    echo(&mut socket).await;
    drop(socket);
    let gone = async {
        while !edge.connections.list(|_| true).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the connection stays");
}

#[tokio::test]
async fn one_goes_on_while_the_edge_drains_until_the_deadline() {
    let mut edge = Edge::with(Fake::new(1_000, 1_000), |config| {
        config.timeouts.drain = Duration::from_secs(1);
    })
    .await;
    let mut client = client(&edge).await;
    let mut socket = open(&mut client, "alice").await;
    edge.stop();
    echo(&mut socket).await;
    ends(socket).await;
    edge.closed("drain-timeout", 1).await;
}

/// Switches, and says nothing more, whatever comes; also after its client's end.
async fn silent() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            let head = String::from_utf8(head).unwrap();
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
            let accept = accept(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            kept.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_reset_ends_both_sides_and_an_end_only_one() {
    let edge = edge_before(vec![silent().await], |_| ()).await;
    let stream = edge.connect(Some("localhost"), &["h2"]).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let in_flight = || edge.upstreams()[0].endpoints[0].in_flight;
    for resets in [false, true] {
        let mut request = request(HTTP2, "CONNECT", "/api/websocket", &[GOOD], "");
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (answer, mut stream) = client.send_request(request.map(|_| ()), false).unwrap();
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        if resets {
            assert_eq!(in_flight(), 2);
            stream.send_reset(h2::Reason::CANCEL);
            let gone = async {
                while in_flight() > 1 {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, gone).await.expect("the upstream's end stays open");
        } else {
            stream.send_data(Bytes::from_static(b"bye"), true).unwrap();
            sleep(Duration::from_millis(100)).await;
            assert_eq!(in_flight(), 1, "the upstream may go on");
            std::mem::forget((answer, stream));
        }
    }
}

/// Speaks HTTP/2 alone, and echoes what comes over WebSockets if it takes them.
async fn multiplexed(takes: bool) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("h2c://{}", listener.local_addr().unwrap()).parse().unwrap();
    let service = service_fn(async |mut request: Request<Incoming>| {
        if request.method() == Method::CONNECT {
            assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
            assert_eq!(request.uri(), "http://localhost/api/websocket");
            assert_eq!(request.headers().get("sec-websocket-key"), None);
            assert_eq!(request.headers()["x-auth-subject"], "alice");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            if takes {
                builder.enable_connect_protocol();
            }
            builder.max_concurrent_streams(NonZeroU32::new(8).unwrap().get());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

#[tokio::test]
async fn an_upstream_of_http2_gets_it_on_a_stream_whatever_the_client_speaks() {
    let edge = edge_before(vec![multiplexed(true).await], |_| ()).await;
    let mut first = websocket(&edge, "alice").await;
    let mut client = client(&edge).await;
    let mut second = open(&mut client, "alice").await;
    for socket in [&mut first, &mut second] {
        echo(socket).await;
        socket.shutdown().await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, socket.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn an_upstream_of_http2_that_takes_none_is_not_asked() {
    let edge = edge_before(vec![multiplexed(false).await], |_| ()).await;
    let mut client = client(&edge).await;
    let answer = client.send(connect("websocket", "/api/websocket", &[GOOD])).await.unwrap();
    assert_eq!(answer.status(), 502);
    let said = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&said).contains("upstream-no-upgrade"), "{said:?}");
    // Of a connection, the offer may be ignored.
    let headers = [GOOD, ("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "eA==")];
    let offer = request(Version::HTTP_11, "GET", "/api/websocket", &headers, "");
    assert_eq!(edge.send(Version::HTTP_11, offer).await.status(), 200);
}

/// An edge whose routes all have a limit of the bytes that a principal gets.
async fn metered_edge() -> Edge {
    let limit = "[[limit]]\nname = \"l\"\nby = [\"principal\"]\ncount = \"response-bytes\"\nrate = \"1KiB/h\"\n\
                 burst = \"2KiB\"\n";
    let limits = parse(&format!("{MINIMAL}{limit}")).unwrap();
    let limiter = Limiter::new(&limits, Arc::new(Allowlist::new(Vec::new())), Secret::fixed(1));
    Edge::verifying(
        Arc::<FakeVerify>::default(),
        Fake::new(1_000, 1_000),
        |config| {
            config.request_limits = limits.request_limits;
            config.routes.iter_mut().for_each(|route| route.limits = vec![0]);
        },
        |gateway| gateway.with_limits(Arc::new(limiter)),
    )
    .await
}

#[tokio::test]
async fn what_comes_over_a_websocket_counts_for_limits_of_bytes_over_either_version() {
    let edge = metered_edge().await;
    let mut client = client(&edge).await;
    let old = websocket(&edge, "alice").await;
    let new = open(&mut client, "bob").await;
    for (mut socket, user) in [(old, "alice"), (new, "bob")] {
        let bearer = format!("Bearer good-{user}");
        let ask = async || {
            let asked = request(Version::HTTP_11, "HEAD", "/api", &[("authorization", &bearer)], "");
            edge.send(Version::HTTP_11, asked).await.status().as_u16()
        };
        assert_eq!(ask().await, 200, "{user}");
        let mut answer = [0; 4_096];
        socket.write_all(&[7; 4_096]).await.unwrap();
        timeout(PATIENCE, socket.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(ask().await, 429, "{user}");
        // What is under way goes on.
        echo(&mut socket).await;
    }
}
