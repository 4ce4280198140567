//! Connections that wait for their clients without buffers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::edge::{Edge, PATIENCE};
use crate::limits::tests::Fake;

const REQUEST: &[u8] = b"GET /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\n\r\n";

/// Waits until the one connection rests, or not.
async fn until(edge: &Edge, rests: bool) {
    let reached = async {
        while edge.connections.list(|_| true)[0].rests() != rests {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, reached).await.is_ok(), "rests: {}", !rests);
}

/// Reads an answer to [`REQUEST`].
async fn answer(stream: &mut TlsStream<TcpStream>) {
    let mut bytes = Vec::new();
    let whole = async {
        while !bytes.ends_with(b"upstream") {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            bytes.push(byte[0]);
        }
    };
    timeout(PATIENCE, whole).await.expect("no answer");
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"), "{:?}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn a_connection_rests_before_its_first_request_and_after_each_one() {
    let edge = Edge::start().await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    for _ in 0..3 {
        until(&edge, true).await;
        stream.write_all(REQUEST).await.unwrap();
        answer(&mut stream).await;
    }
    assert_eq!(edge.upstream.take().len(), 3);
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_around_a_rest_is_one_request() {
    let edge = Edge::start().await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    for split in [1, 17, 63, 64, 65, REQUEST.len() - 1] {
        until(&edge, true).await;
        let (start, end) = REQUEST.split_at(split);
        stream.write_all(start).await.unwrap();
        until(&edge, false).await;
        stream.write_all(end).await.unwrap();
        answer(&mut stream).await;
    }
    assert_eq!(edge.upstream.take().len(), 6);
}

#[tokio::test]
async fn the_start_of_the_next_request_outlives_the_buffers_it_came_in() {
    let edge = Edge::start().await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    let (start, end) = REQUEST.split_at(40);
    stream.write_all(&[REQUEST, start].concat()).await.unwrap();
    answer(&mut stream).await;
    // As long as its buffers would be kept, and longer: what came of the request is not rested on.
    sleep(Duration::from_millis(300)).await;
    assert!(!edge.connections.list(|_| true)[0].rests());
    stream.write_all(end).await.unwrap();
    answer(&mut stream).await;
    assert_eq!(edge.upstream.take().len(), 2);
}

#[tokio::test]
async fn half_a_request_holds_a_connection_no_longer_than_headers_may_take() {
    let edge = Edge::with(Fake::new(10, 10), |config| {
        config.timeouts.headers = Duration::from_millis(400);
        config.timeouts.idle = Duration::from_secs(3_600);
    })
    .await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    answer(&mut stream).await;
    until(&edge, true).await;
    stream.write_all(&REQUEST[..20]).await.unwrap();
    edge.closed("headers-timeout", 1).await;
}

#[tokio::test]
async fn a_resting_connection_ends_when_it_has_been_idle_for_long_enough() {
    let edge =
        Edge::with(Fake::new(10, 10), |config| config.timeouts.idle = Duration::from_millis(300)).await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    answer(&mut stream).await;
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap().unwrap(), 0, "with close_notify");
    edge.closed("idle", 1).await;
}

#[tokio::test]
async fn what_is_left_of_a_refused_body_is_never_a_request() {
    let edge = Edge::start().await;
    let head = "POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 401");
    // Longer than a connection that stands between two requests keeps its buffers.
    sleep(Duration::from_millis(400)).await;
    assert!(!edge.connections.list(|_| true)[0].rests());
    stream.write_all(REQUEST).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_millis(400), stream.read_to_end(&mut rest)).await;
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("HTTP/1.1"), "{rest}");
    assert!(edge.upstream.take().is_empty());
}

#[tokio::test]
async fn a_connection_rests_after_a_request_with_a_body_too() {
    let edge = Edge::start().await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    let post = "POST /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nContent-Length: 5\r\n\r\nhello";
    for _ in 0..2 {
        until(&edge, true).await;
        stream.write_all(post.as_bytes()).await.unwrap();
        answer(&mut stream).await;
    }
    assert_eq!(&edge.upstream.take()[1].body[..], b"hello");
}
