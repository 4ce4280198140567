//! Bodies: whole, bounded, and no faster than they are taken.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::edge::{Edge, GOOD, PATIENCE};
use crate::limits::tests::Fake;

const CHUNK: usize = 60_000;

/// Bytes that say where they are.
struct Pattern {
    at: usize,
    end: usize,
    then_stall: bool,
}

fn byte_at(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.at == self.end {
            return if self.then_stall { Poll::Pending } else { Poll::Ready(None) };
        }
        let end = self.end.min(self.at + CHUNK);
        let chunk: Vec<u8> = (self.at..end).map(byte_at).collect();
        self.at = end;
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }
}

fn post(version: Version, target: &str, body: Pattern) -> Request<Pattern> {
    let request = Request::post(if version == Version::HTTP_2 {
        format!("https://localhost{target}")
    } else {
        target.to_owned()
    });
    let request = if version == Version::HTTP_2 { request } else { request.header("host", "localhost") };
    request.version(version).header(GOOD.0, GOOD.1).body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_streams_both_ways_unchanged() {
    const LENGTH: usize = 64 << 20;
    let edge = Edge::start().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let body = Pattern { at: 0, end: LENGTH, then_stall: false };
        let response = edge.client(version).await.send(post(version, "/api/echo", body)).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut at = 0;
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.iter().enumerate().all(|(index, &byte)| byte == byte_at(at + index)));
            at += data.len();
        }
        assert_eq!(at, LENGTH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_the_upstream_back() {
    const MOST: u64 = 24 << 20;
    let edge = Edge::start().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        edge.upstream.flooded.store(0, Relaxed);
        let body = Pattern { at: 0, end: 0, then_stall: false };
        let response = edge.client(version).await.send(post(version, "/api/flood", body)).await.unwrap();
        let mut last = 0;
        let settled = async {
            loop {
                sleep(Duration::from_millis(200)).await;
                let now = edge.upstream.flooded.load(Relaxed);
                assert!(now < MOST, "{now} bytes for nobody");
                if now == last && now > 0 {
                    break;
                }
                last = now;
            }
        };
        timeout(PATIENCE, settled).await.expect("the flood goes on");
        drop(response);
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let edge =
        Edge::with(Fake::new(10, 10), |config| config.timeouts.body_idle = Duration::from_millis(300)).await;
    for (version, count) in [(Version::HTTP_11, 1), (Version::HTTP_2, 2)] {
        let body = Pattern { at: 0, end: 0, then_stall: false };
        let response = edge.client(version).await.send(post(version, "/api/flood", body)).await.unwrap();
        edge.closed("unread", count).await;
        drop(response);
    }
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_refused_however_it_is_announced() {
    let edge = Edge::with(Fake::new(10, 10), |config| config.sizes.body_bytes = 100_000).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for (length, status) in [(100_000, 200), (100_001, 413)] {
            let body = Pattern { at: 0, end: length, then_stall: false };
            let response = edge.client(version).await.send(post(version, "/api/x", body)).await.unwrap();
            assert_eq!(response.status(), status, "{version:?}");
            assert_eq!(edge.upstream.take().len(), usize::from(status == 200));
        }
    }
    // Announced: refused without waiting for it, and without inviting it.
    let head =
        "POST /api/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nExpect: 100-continue\r\n";
    let response = edge.raw(format!("{head}Content-Length: 100001\r\n\r\n").as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_refused() {
    let edge = Edge::with(Fake::new(10, 10), |config| {
        config.timeouts.body_idle = Duration::from_millis(200);
        config.timeouts.response = Duration::from_millis(100);
    })
    .await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let body = Pattern { at: 0, end: 10, then_stall: true };
        let response = edge.client(version).await.send(post(version, "/api/x", body)).await.unwrap();
        assert_eq!(response.status(), 408);
        assert!(edge.upstream.take().is_empty());
    }
    assert_eq!(edge.counts().refusals["body-timeout"], 2);
}

#[tokio::test]
async fn an_expected_body_is_invited_and_the_expectation_goes_no_further() {
    let edge = Edge::start().await;
    let mut stream = edge.connect(Some("localhost"), &[]).await.unwrap();
    let head =
        "POST /api/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nExpect: 100-continue\r\n";
    stream.write_all(format!("{head}Content-Length: 2\r\n\r\n").as_bytes()).await.unwrap();
    let mut invitation = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut invitation)).await.unwrap().unwrap();
    assert_eq!(&invitation, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ab").await.unwrap();
    let mut status = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    let seen = edge.upstream.take().pop().unwrap();
    assert_eq!((&seen.body[..], seen.headers.contains_key("expect")), (&b"ab"[..], false));
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_given_up() {
    let edge =
        Edge::with(Fake::new(10, 10), |config| config.timeouts.response = Duration::from_millis(200)).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let body = Pattern { at: 0, end: 10, then_stall: false };
        let response = edge.client(version).await.send(post(version, "/api/hang", body)).await.unwrap();
        assert_eq!(response.status(), 504);
        let given_up = async { edge.upstream.given_up.lock().await.recv().await };
        assert!(timeout(PATIENCE, given_up).await.is_ok());
    }
    assert_eq!(edge.counts().refusals["upstream-timeout"], 2);
}

#[tokio::test]
async fn a_client_that_goes_takes_its_request_with_it() {
    let edge = Edge::start().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut client = edge.client(version).await;
        let body = Pattern { at: 0, end: 0, then_stall: false };
        let request = post(version, "/api/hang", body);
        let gone = timeout(Duration::from_millis(300), client.send(request)).await;
        assert!(gone.is_err());
        drop(client);
        let given_up = async { edge.upstream.given_up.lock().await.recv().await };
        assert!(timeout(PATIENCE, given_up).await.is_ok(), "{version:?}");
    }
}
