//! Switching to WebSocket: what is passed on, what is not, and what follows an offer.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version};
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::edge::{Client, Edge, PATIENCE, request};
use crate::limits::tests::Fake;

/// Opens a WebSocket and has one message echoed.
pub async fn websocket(edge: &Edge, subject: &str) -> TokioIo<Upgraded> {
    let mut client: Client<Full<Bytes>> = edge.client(Version::HTTP_11).await;
    let headers = [
        ("authorization", &*format!("Bearer good-{subject}")),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let response =
        client.send(request(Version::HTTP_11, "GET", "/api/websocket", &headers, "")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    echo(&mut socket).await;
    socket
}

pub async fn echo(socket: &mut TokioIo<Upgraded>) {
    let mut answer = [0; 6];
    socket.write_all(b"\x81\x04ping").await.unwrap();
    timeout(PATIENCE, socket.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"\x81\x04ping");
}

pub async fn ends(mut socket: TokioIo<Upgraded>) {
    let mut rest = Vec::new();
    // With a reset, or in good order.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("the websocket goes on");
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_websocket_without_a_byte_ends() {
    let edge = Edge::with(Fake::new(1_000, 1_000), |config| {
        config.timeouts.upgraded_idle = Duration::from_millis(50);
    })
    .await;
    ends(websocket(&edge, "alice").await).await;
    edge.closed("upgraded-idle", 1).await;
}

#[tokio::test]
async fn no_other_upgrade_reaches_the_upstream() {
    let edge = Edge::start().await;
    for (method, headers) in [
        ("GET", &[("connection", "upgrade"), ("upgrade", "h2c")][..]),
        (
            "GET",
            &[("connection", "upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")],
        ),
        ("GET", &[("connection", "upgrade"), ("upgrade", "websocket, h2c")]),
        ("GET", &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")]),
        ("GET", &[("connection", "close"), ("upgrade", "websocket")]),
        ("POST", &[("connection", "upgrade"), ("upgrade", "websocket")]),
    ] {
        let mut all = vec![("authorization", "Bearer good")];
        all.extend_from_slice(headers);
        let answer =
            edge.send(Version::HTTP_11, request(Version::HTTP_11, method, "/api/websocket", &all, "")).await;
        assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED, "{method} {headers:?}");
    }
}

const OFFER: &str = "Host: localhost\r\nAuthorization: Bearer good\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn what_follows_an_offer_that_is_not_taken_reaches_nobody() {
    let edge = Edge::start().await;
    let admin =
        "GET /admin HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n";
    let answer = edge.raw(format!("GET /api HTTP/1.1\r\n{OFFER}{admin}").as_bytes()).await;
    let statuses: Vec<_> = answer.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
    // The connection is closed behind the answer.
    assert_eq!(statuses, ["HTTP/1.1 200 OK"], "{answer}");
    let seen = edge.upstream.take();
    assert_eq!(seen.iter().map(|seen| &*seen.target).collect::<Vec<_>>(), ["/api"]);
}

#[tokio::test]
async fn what_follows_an_offer_that_is_taken_goes_through_as_it_is() {
    let edge = Edge::start().await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    let sent = format!("GET /api/websocket HTTP/1.1\r\n{OFFER}\u{1}\u{2}GET /admin HTTP/1.1\r\n\r\n");
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let whole = async {
        while !answer.ends_with(b"\r\n\r\n\x01\x02GET /admin HTTP/1.1\r\n\r\n") {
            stream.read_buf(&mut answer).await.unwrap();
        }
    };
    let done = timeout(PATIENCE, whole).await;
    assert!(done.is_ok(), "{}", String::from_utf8_lossy(&answer));
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_not_passed_on() {
    let edge = Edge::start().await;
    for (path, offer) in [("/api/switch", false), ("/api/switch", true)] {
        // `/api/switch` answers 101 without naming a protocol.
        let mut headers = vec![("authorization", "Bearer good")];
        if offer {
            headers.extend([("connection", "upgrade"), ("upgrade", "websocket")]);
        }
        let answer = edge.send(Version::HTTP_11, request(Version::HTTP_11, "GET", path, &headers, "")).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{offer}");
    }
}
