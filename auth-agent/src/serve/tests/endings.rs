//! Connections that are ended from outside.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::edge::{Edge, PATIENCE, SOURCE, get, request};
use crate::connections::{Connection, End, Protocol};
use crate::identity::{Method, Principal};

/// Waits until the one open connection is as wanted.
async fn the_one(edge: &Edge, is_it: impl Fn(&Connection) -> bool) -> Arc<Connection> {
    let found = async {
        loop {
            match edge.connections.list(|_| true).as_slice() {
                [connection] if is_it(connection) => return Arc::clone(connection),
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, found).await.expect("not as wanted")
}

/// Waits until no connection is open.
async fn none(edge: &Edge) {
    let gone = async {
        while !edge.connections.list(|_| true).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("a connection is still listed");
}

#[tokio::test]
async fn the_register_tells_what_happens_on_a_connection() {
    let edge = Edge::start().await;
    for (version, protocol) in [(Version::HTTP_11, Protocol::Http1), (Version::HTTP_2, Protocol::Http2)] {
        let mut client = edge.client::<Full<Bytes>>(version).await;
        let connection = the_one(&edge, |connection| connection.protocol() == protocol).await;
        assert_eq!((connection.local, connection.peer.ip()), (edge.address, SOURCE));
        assert_eq!((connection.requests(), connection.principal()), (0, None));

        let response = client.send(request(version, "GET", "/open/x", &[], "")).await.unwrap();
        drop(response.into_body().collect().await.unwrap());
        assert_eq!(connection.principal(), None);
        let response = client.send(get(version, "/api/flood")).await.unwrap();
        let alice = Principal { method: Method::Jwt, subject: "alice".into() };
        assert_eq!(connection.principal(), Some(alice));
        the_one(&edge, |connection| (connection.requests(), connection.open_requests()) == (2, 1)).await;
        drop((response, client));
        none(&edge).await;
        assert_eq!(connection.open_requests(), 0);
    }
}

#[tokio::test]
async fn a_response_that_goes_on_breaks_off_when_its_connection_is_ended_and_others_go_on() {
    let edge = Edge::start().await;
    let mut bystander = edge.client::<Full<Bytes>>(Version::HTTP_2).await;
    let mut others = bystander.send(get(Version::HTTP_2, "/api/flood")).await.unwrap().into_body();
    for (version, count) in [(Version::HTTP_11, 1), (Version::HTTP_2, 2)] {
        let mut client = edge.client::<Full<Bytes>>(version).await;
        let mut body = client.send(get(version, "/api/flood")).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let latest = edge.connections.list(|_| true).last().unwrap().id;
        assert_eq!(edge.connections.end(|connection| connection.id == latest, End::Operator), 1);
        let broken = async { while let Some(Ok(_)) = body.frame().await {} };
        timeout(PATIENCE, broken).await.expect("it goes on");
        edge.closed("ended", count).await;
        others.frame().await.unwrap().unwrap();
    }
    assert_eq!(edge.connections.list(|_| true).len(), 1);
}

#[tokio::test]
async fn an_ended_connection_takes_its_request_with_it() {
    let edge = Edge::start().await;
    for (version, count) in [(Version::HTTP_11, 1), (Version::HTTP_2, 2)] {
        let mut client = edge.client::<Full<Bytes>>(version).await;
        let asked = tokio::spawn(async move { client.send(get(version, "/api/hang")).await });
        let connection = the_one(&edge, |connection| connection.open_requests() == 1).await;
        // The upstream has it.
        let waiting = async {
            while edge.upstream.hanging.load(std::sync::atomic::Ordering::Relaxed) != 1 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("no request reaches the upstream");
        assert!(connection.end(End::Banned));
        assert!(timeout(PATIENCE, asked).await.unwrap().unwrap().is_err());
        let given_up = async { edge.upstream.given_up.lock().await.recv().await };
        assert!(timeout(PATIENCE, given_up).await.is_ok(), "{version:?}");
        edge.closed("banned", count).await;
        assert_eq!(connection.open_requests(), 0);
    }
}

#[tokio::test]
async fn a_connection_is_reset_in_the_handshake_and_with_a_response_that_nobody_reads() {
    let edge = Edge::start().await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let connection = the_one(&edge, |connection| connection.protocol() == Protocol::Handshake).await;
    assert!(connection.end(End::Operator));
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    edge.closed("ended", 1).await;

    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    let head = "GET /api/flood HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let connection = the_one(&edge, |connection| connection.open_requests() == 1).await;
    stream.read_exact(&mut [0; 12]).await.unwrap();
    assert!(connection.end(End::Operator));
    edge.closed("ended", 2).await;
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
