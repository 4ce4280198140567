//! Connections before, between and after their requests.

use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body_util::{BodyExt, Full};
use rustls::ProtocolVersion;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::edge::{Edge, PATIENCE, get};
use crate::limits::tests::Fake;

/// What the edge sends before it closes.
async fn until_closed(mut stream: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the edge does not close");
    bytes
}

/// A hello whose version is the only thing that may be wrong with it.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    const SUITES: [u8; 4] = [0xc0, 0x2b, 0xc0, 0x09];
    const EXTENSIONS: [&[u8]; 4] = [
        &[0, 13, 0, 6, 0, 4, 4, 3, 2, 3], // signature algorithms: ecdsa with SHA-256, SHA-1
        &[0, 10, 0, 4, 0, 2, 0, 23],      // groups: secp256r1
        &[0, 11, 0, 2, 1, 0],             // point formats: uncompressed
        &[0, 23, 0, 0],                   // extended master secret
    ];
    let extensions = EXTENSIONS.concat();
    let mut hello = version.to_vec();
    hello.extend([7; 32]);
    hello.extend([0, 0, SUITES.len() as u8]);
    hello.extend(SUITES);
    hello.extend([1, 0]);
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((hello.len() as u16).to_be_bytes());
    record.extend(hello);
    record
}

#[tokio::test]
async fn only_tls_1_2_and_later_is_answered() {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    const PROTOCOL_VERSION: u8 = 70;
    const SERVER_HELLO: u8 = 2;
    let edge = Edge::start().await;
    for (version, record, alert_or_none) in [
        ([3, 3], HANDSHAKE, None),
        ([3, 2], ALERT, Some(PROTOCOL_VERSION)),
        ([3, 1], ALERT, Some(PROTOCOL_VERSION)),
        ([3, 0], ALERT, Some(PROTOCOL_VERSION)),
    ] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(&client_hello(version)).await.unwrap();
        let mut answer = [0; 7];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer[0], record, "{version:?} {answer:?}");
        match alert_or_none {
            Some(alert) => assert_eq!(answer[6], alert, "{version:?}"),
            None => assert_eq!(answer[5], SERVER_HELLO),
        }
    }
    edge.closed("handshake-failed", 4).await;
}

#[tokio::test]
async fn garbage_is_closed_and_counted() {
    let edge = Edge::start().await;
    let zeros = [0; 4096];
    let garbage: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"SSH-2.0-x\r\n", &zeros, b"\x16\x03\x01\xff\xff"];
    for (count, bytes) in (1..).zip(garbage) {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = until_closed(stream).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        edge.closed("handshake-failed", count).await;
    }
    assert_eq!(edge.send(Version::HTTP_11, get(Version::HTTP_11, "/api")).await.status(), 200);
}

#[tokio::test]
async fn what_is_negotiated_is_what_is_spoken() {
    let edge = Edge::start().await;
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = edge.connect(Some("localhost"), offered).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), chosen);
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    }
    assert!(edge.connect(Some("localhost"), &["spdy/3"]).await.is_err());
}

#[tokio::test]
async fn a_server_name_that_the_certificate_is_not_for_is_refused() {
    let edge = Edge::start().await;
    assert!(edge.connect(Some("localhost"), &[]).await.is_ok());
    assert!(edge.connect(None, &[]).await.is_ok());
    let error = edge.connect(Some("other.example"), &[]).await.unwrap_err().to_string();
    assert!(error.contains("received fatal alert"), "the edge refuses, not the client: {error}");
    edge.closed("server-name-unknown", 1).await;
}

#[tokio::test]
async fn a_stalled_handshake_ends() {
    let edge =
        Edge::with(Fake::new(1, 1), |config| config.timeouts.handshake = Duration::from_millis(100)).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(&client_hello([3, 3])[..20]).await.unwrap();
    assert!(until_closed(stream).await.is_empty());
    edge.closed("handshake-timeout", 1).await;
}

#[tokio::test]
async fn slow_headers_and_idle_connections_end() {
    let edge = Edge::with(Fake::new(10, 10), |config| {
        config.timeouts.headers = Duration::from_millis(200);
        config.timeouts.idle = Duration::from_millis(200);
    })
    .await;
    let slow = async {
        let stream = edge.connect(Some("localhost"), &[]).await.unwrap();
        let (reader, mut writer) = tokio::io::split(stream);
        let dribble = async {
            while writer.write_all(b"GET /api HTTP/1.1\r\nX-A: 1\r\n".get(..1).unwrap()).await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            bytes = until_closed(reader) => assert!(!bytes.starts_with(b"HTTP/1.1 200")),
            () = dribble => {}
        }
    };
    slow.await;
    for protocol in ["http/1.1", "h2"] {
        let stream = edge.connect(Some("localhost"), &[protocol]).await.unwrap();
        until_closed(stream).await;
    }
    // After a request, too; for HTTP/2, this is the only thing that ends them.
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = edge.client::<Full<Bytes>>(version).await;
        let response = client.send(get(version, "/api")).await.unwrap();
        response.into_body().collect().await.unwrap();
        let ended = async {
            while client.send(get(version, "/api")).await.is_ok() {
                sleep(Duration::from_millis(400)).await;
            }
        };
        timeout(PATIENCE, ended).await.expect("the connection lives on");
    }
}

#[tokio::test]
async fn headers_beyond_their_limits_are_refused() {
    let edge = Edge::start().await;
    let head = "GET /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\n";
    for (fields, status) in [
        (format!("X-A: {}\r\n", "a".repeat(15_000)), 200),
        (format!("X-A: {}\r\n", "a".repeat(17_000)), 431),
        (format!("X-A: {}\r\n", "a".repeat(1_000_000)), 431),
        ("X-A: 1\r\n".repeat(61), 200),
        ("X-A: 1\r\n".repeat(63), 431),
    ] {
        let response = edge.raw(format!("{head}{fields}Connection: close\r\n\r\n").as_bytes()).await;
        // Closing on unread bytes may reset the connection before the answer is read.
        let status = format!("HTTP/1.1 {status}");
        assert!(
            response.starts_with(&status) || (response.is_empty() && fields.len() > 100_000),
            "{response}"
        );
    }
    for (name, value, count) in [("x-a", "a".repeat(17_000), 1), ("x-a", "1".to_owned(), 70)] {
        let mut request = get(Version::HTTP_2, "/api");
        for _ in 0..count {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let response = edge.client(Version::HTTP_2).await.send(request).await;
        assert!(response.is_err() || response.unwrap().status() == 431);
    }
    assert!(edge.upstream.take().len() == 2);
}

#[tokio::test]
async fn connections_over_a_limit_are_closed_at_once() {
    let edge = Edge::with(Fake::new(10, 10), |config| {
        config.sizes.connections = 3.try_into().unwrap();
        config.sizes.connections_per_source = 2.try_into().unwrap();
    })
    .await;
    let first = edge.connect(Some("localhost"), &[]).await.unwrap();
    let _second = edge.connect(Some("localhost"), &[]).await.unwrap();
    assert!(edge.connect(Some("localhost"), &[]).await.is_err());
    assert_eq!(edge.counts().closed["connections-per-source"], 1);
    drop(first);
    let freed = async {
        while edge.connect(Some("localhost"), &[]).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, freed).await.is_ok());
}

#[tokio::test]
async fn open_requests_finish_while_the_server_drains() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut edge = Edge::start().await;
        let mut idle = edge.client::<Full<Bytes>>(version).await;
        idle.send(get(version, "/api")).await.unwrap().into_body().collect().await.unwrap();
        let mut client = edge.client::<Full<Bytes>>(version).await;
        let open = client.send(get(version, "/api/slow"));
        let (response, ()) = tokio::join!(open, async {
            sleep(Duration::from_millis(100)).await;
            edge.stop();
            // The socket closes when the accept loop has seen the phase.
            let refused = async {
                while TcpStream::connect(edge.address).await.is_ok() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, refused).await.expect("still accepting");
        });
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(&response.into_body().collect().await.unwrap().to_bytes()[..], b"upstream");
        assert!(timeout(Duration::from_secs(3), edge.server).await.is_ok(), "{version:?}: still draining");
        assert!(idle.send(get(version, "/api")).await.is_err());
    }
}

#[tokio::test]
async fn requests_that_outlast_the_drain_are_ended() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut edge =
            Edge::with(Fake::new(10, 10), |config| config.timeouts.drain = Duration::from_millis(200)).await;
        let mut client = edge.client::<Full<Bytes>>(version).await;
        let (response, ()) = tokio::join!(client.send(get(version, "/api/hang")), async {
            sleep(Duration::from_millis(100)).await;
            edge.stop();
        });
        assert!(response.is_err());
        edge.closed("drain-timeout", 1).await;
        assert!(timeout(Duration::from_secs(3), edge.server).await.is_ok());
    }
}
