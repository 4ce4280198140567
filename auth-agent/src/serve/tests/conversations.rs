//! What goes on for long, and what ends on one side first.

use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body_util::{BodyExt, Full};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::edge::{Client, Edge, PATIENCE, get};
use super::pool::edge_before;
use super::upgrade::websocket;
use super::websocket::open;
use crate::config::{Address, Config};
use crate::proxy::accept;

/// An upstream that answers one connection as `answer` says, once it has the head of a request.
async fn upstream<F: Future<Output = std::io::Result<()>> + Send>(
    answer: impl FnOnce(TcpStream, String) -> F + Send + 'static,
) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        answer(stream, String::from_utf8(head).unwrap()).await.unwrap();
    });
    address
}

/// Sooner than any of these tests ends.
fn impatient(config: &mut Config) {
    let short = Duration::from_millis(300);
    config.timeouts.body_idle = short;
    config.timeouts.body_grace = short;
    config.timeouts.headers = short;
    config.timeouts.idle = short;
    config.timeouts.response = short;
}

#[tokio::test]
async fn events_come_one_by_one_and_without_end() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (send, mut sent) = mpsc::unbounded_channel::<u32>();
        let address = upstream(async move |mut stream: TcpStream, _| {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            while let Some(number) = sent.recv().await {
                let event = format!("data: {number:04}\n\n");
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
            }
            stream.write_all(b"0\r\n\r\n").await
        })
        .await;
        let edge = edge_before(vec![address], impatient).await;
        let mut client: Client<Full<Bytes>> = edge.client(version).await;
        let response = client.send(get(version, "/api")).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        for number in 0..8_u32 {
            // Longer in all than anything may be idle; and the next event is sent when this one has come.
            sleep(Duration::from_millis(100)).await;
            send.send(number).unwrap();
            let frame = timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), format!("data: {number:04}\n\n"), "{version:?}");
        }
        drop(send);
        let rest = timeout(PATIENCE, body.collect()).await.unwrap().unwrap();
        assert!(rest.to_bytes().is_empty(), "{version:?}");
    }
}

/// Switches, and answers with all that came when its client has ended.
async fn patient() -> Address {
    upstream(async |mut stream: TcpStream, head: String| {
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let answer = format!(
            "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept(key.as_bytes())
        );
        stream.write_all(answer.as_bytes()).await?;
        // What opens it has its echo.
        let mut ping = [0; 6];
        if head.contains("via: 1.1") {
            stream.read_exact(&mut ping).await?;
            stream.write_all(&ping).await?;
        }
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        sleep(Duration::from_millis(100)).await;
        stream.write_all(&all).await
    })
    .await
}

async fn ends_first(mut socket: TokioIo<Upgraded>) {
    let long = vec![7; 1 << 20];
    socket.write_all(&long).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest == long, "{} of {}", rest.len(), long.len());
}

#[tokio::test]
async fn a_client_that_ends_first_gets_the_rest_of_its_websocket() {
    let edge = edge_before(vec![patient().await], |_| ()).await;
    ends_first(websocket(&edge, "alice").await).await;
    let edge: Edge = edge_before(vec![patient().await], |_| ()).await;
    let mut client: Client<Full<Bytes>> = edge.client(Version::HTTP_2).await;
    // Long enough for the edge's settings to come.
    sleep(Duration::from_millis(50)).await;
    ends_first(open(&mut client, "alice").await).await;
}
