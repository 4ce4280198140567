//! Answers of upstreams that are not what an answer should be, and refusals that come before the request is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::edge::{Edge, GOOD, PATIENCE, get, request};
use crate::config::Address;
use crate::limits::tests::Fake;

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// An upstream that answers the first request of each connection with `answer`, word for word, and closes.
async fn upstream(answer: &'static str) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    format!("http://{address}").parse().unwrap()
}

async fn edge_before(endpoint: Address) -> Edge {
    Edge::with(Fake::new(1000, 1000), |config| {
        config.upstreams[0].endpoints = vec![endpoint];
        config.timeouts.connect = Duration::from_millis(200);
    })
    .await
}

fn reason(response: &Response<Bytes>) -> String {
    let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    problem["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_answer_whose_length_could_be_read_in_two_ways_is_refused() {
    for framing in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 30",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let edge = edge_before(upstream(answer.leak()).await).await;
        for version in VERSIONS {
            let response = edge.send(version, get(version, "/api")).await;
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{framing}");
            assert_eq!(reason(&response), "upstream-invalid");
        }
    }
}

#[tokio::test]
async fn an_answer_in_http_1_0_does_not_take_the_clients_connection_down_to_it() {
    let edge = edge_before(upstream("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").await).await;
    let mut client = edge.client::<Full<Bytes>>(Version::HTTP_11).await;
    for _ in 0..2 {
        let response = client.send(get(Version::HTTP_11, "/api")).await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_11));
        assert_eq!(&response.into_body().collect().await.unwrap().to_bytes()[..], b"ok");
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_connected_to_in_time_is_a_timeout() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Once its queue is full, Linux drops what else comes.
    let _queued = TcpStream::connect(address).await.unwrap();
    let edge = edge_before(format!("http://{address}").parse().unwrap()).await;
    let response = edge.send(Version::HTTP_11, get(Version::HTTP_11, "/api")).await;
    assert_eq!((response.status(), &*reason(&response)), (StatusCode::GATEWAY_TIMEOUT, "upstream-timeout"));
}

#[tokio::test]
async fn a_body_that_is_said_to_be_empty_is_said_so_to_the_upstream() {
    let edge = Edge::start().await;
    for version in VERSIONS {
        for (method, headers, expected) in
            [("POST", &[GOOD, ("content-length", "0")][..], Some("0")), ("GET", &[GOOD], None)]
        {
            let status = edge.send(version, request(version, method, "/api", headers, "")).await.status();
            assert_eq!(status, StatusCode::OK);
            let seen = edge.upstream.take().pop().unwrap();
            let length = seen.headers.get("content-length").map(|length| length.to_str().unwrap());
            assert_eq!(length, expected, "{version:?} {method}");
        }
    }
}

#[tokio::test]
async fn a_refused_client_may_finish_its_body_and_go_on() {
    let edge = Edge::start().await;
    let body = "x".repeat(3 << 20);
    let length = body.len();
    let refused = format!("POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
    let good =
        "GET /api HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n";
    let response = edge.raw(format!("{refused}{good}").as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 401"), "{response}");
    assert!(response.contains("HTTP/1.1 200"), "{response}");
}

struct Slow(mpsc::Receiver<Bytes>);

impl Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[tokio::test]
async fn a_refused_stream_is_not_reset_while_its_body_comes() {
    let edge = Edge::start().await;
    let mut client = edge.client::<Slow>(Version::HTTP_2).await;
    let (sender, body) = mpsc::channel(1);
    let post = request(Version::HTTP_2, "POST", "/api", &[], "").map(|_| Slow(body));
    let response = client.send(post).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    response.into_body().collect().await.unwrap();
    // More than the windows hold.
    for _ in 0..32 {
        let sent = timeout(PATIENCE, sender.send(vec![0; 64 << 10].into())).await;
        sent.expect("nobody reads on").expect("the stream was reset");
    }
}

#[tokio::test]
async fn a_refused_client_that_waits_to_be_asked_is_not_asked() {
    let edge = Edge::start().await;
    let head = "POST /api HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    let response = edge.raw(head.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 401"), "{response}");
}
