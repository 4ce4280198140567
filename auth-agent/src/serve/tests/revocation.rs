//! What is revoked while it is going on, on every protocol, and who is left alone.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::edge::{Client, Edge, PATIENCE, SHORT_UNTIL, request};
use super::upgrade::{echo, ends, websocket};
use crate::clock::UnixTime;
use crate::connections::End;
use crate::revocation::{Revocation, Target};

const ALL: Revocation = Revocation { before: None, until: None };

fn get_as(version: Version, subject: &str, path: &str) -> Request<Full<Bytes>> {
    request(version, "GET", path, &[("authorization", &format!("Bearer good-{subject}"))], "")
}

/// As the control API does, without its kernel.
pub fn revoke(edge: &Edge, subject: &str) -> (usize, usize) {
    let target = Target::Subject { issuer: None, subject: subject.into() };
    let now = UnixTime::now();
    edge.revocations.revoke(&target, ALL, now);
    let cut = edge.connections.cut_revoked(|identity| edge.revocations.is_revoked(identity, now));
    (cut.condemned.iter().filter(|connection| connection.end(End::Revoked)).count(), cut.requests)
}

fn cut_expired(edge: &Edge, now: u64) {
    edge.connections.cut_expired(|identity| identity.facts().expires.is_some_and(|expires| expires.0 <= now));
}

async fn first_byte(response: &mut Response<Incoming>) {
    let frame = timeout(PATIENCE, response.body_mut().frame()).await.unwrap().unwrap().unwrap();
    assert!(frame.data_ref().is_some_and(|data| !data.is_empty()));
}

/// Reads until the response ends; the reason it was reset for, if it was by HTTP/2.
async fn cut(mut response: Response<Incoming>) -> Option<h2::Reason> {
    let end = async {
        loop {
            match response.body_mut().frame().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("the response ends as if it were whole"),
            }
        }
    };
    let error = timeout(PATIENCE, end).await.expect("the response goes on");
    let cause = std::error::Error::source(&error)?;
    cause.downcast_ref::<h2::Error>()?.reason()
}

#[tokio::test]
async fn a_revoked_http1_connection_ends_in_the_middle_of_its_response_and_the_next_request_is_refused() {
    let edge = Edge::start().await;
    let mut alice: Client<Full<Bytes>> = edge.client(Version::HTTP_11).await;
    let mut bob: Client<Full<Bytes>> = edge.client(Version::HTTP_11).await;
    let mut stream = alice.send(get_as(Version::HTTP_11, "alice", "/api/endless")).await.unwrap();
    let mut other = bob.send(get_as(Version::HTTP_11, "bob", "/api/endless")).await.unwrap();
    first_byte(&mut stream).await;
    first_byte(&mut other).await;
    assert_eq!(revoke(&edge, "alice"), (1, 0));
    cut(stream).await;
    edge.closed("revoked", 1).await;
    first_byte(&mut other).await;
    let refused = edge.send(Version::HTTP_11, get_as(Version::HTTP_11, "alice", "/api")).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(String::from_utf8_lossy(refused.body()).contains("credential-revoked"));
    assert_eq!(edge.send(Version::HTTP_11, get_as(Version::HTTP_11, "bob", "/api")).await.status(), 200);
}

#[tokio::test]
async fn an_idle_connection_of_the_revoked_ends_too() {
    let edge = Edge::start().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let name = format!("{version:?}");
        let mut client: Client<Full<Bytes>> = edge.client(version).await;
        let answer = client.send(get_as(version, &name, "/api")).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().trailers(), None);
        assert_eq!(revoke(&edge, &name), (1, 0), "{version:?}");
    }
    edge.closed("revoked", 2).await;
}

#[tokio::test]
async fn on_a_shared_http2_connection_only_the_revoked_stream_is_reset() {
    let edge = Edge::start().await;
    let mut client: Client<Full<Bytes>> = edge.client(Version::HTTP_2).await;
    let mut alice = client.send(get_as(Version::HTTP_2, "alice", "/api/endless")).await.unwrap();
    let mut bob = client.send(get_as(Version::HTTP_2, "bob", "/api/endless")).await.unwrap();
    first_byte(&mut alice).await;
    first_byte(&mut bob).await;
    assert_eq!(revoke(&edge, "alice"), (0, 1));
    assert_eq!(cut(alice).await, Some(h2::Reason::CANCEL));
    for _ in 0..3 {
        first_byte(&mut bob).await;
    }
    let refused = client.send(get_as(Version::HTTP_2, "alice", "/api")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(client.send(get_as(Version::HTTP_2, "bob", "/api")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_waits_for_its_upstream_is_refused_when_it_is_revoked() {
    let edge = Edge::start().await;
    let mut client: Client<Full<Bytes>> = edge.client(Version::HTTP_2).await;
    let mut bob = client.send(get_as(Version::HTTP_2, "bob", "/api/endless")).await.unwrap();
    first_byte(&mut bob).await;
    let waiting = tokio::spawn(async move {
        let answer = client.send(get_as(Version::HTTP_2, "alice", "/api/hang")).await.unwrap();
        (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
    });
    while edge.upstream.hanging.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(revoke(&edge, "alice"), (0, 1));
    let (status, body) = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(String::from_utf8_lossy(&body).contains("credential-revoked"));
    timeout(PATIENCE, edge.upstream.given_up.lock().await.recv()).await.unwrap().unwrap();
    first_byte(&mut bob).await;
}

#[tokio::test]
async fn a_stream_whose_credential_is_over_is_cut_and_the_others_go_on() {
    let edge = Edge::start().await;
    for version in [Version::HTTP_2, Version::HTTP_11] {
        let mut client: Client<Full<Bytes>> = edge.client(version).await;
        let mut short = client.send(get_as(version, "short", "/api/endless")).await.unwrap();
        first_byte(&mut short).await;
        let mut long: Client<Full<Bytes>> = edge.client(version).await;
        let mut long = long.send(get_as(version, "alice", "/api/endless")).await.unwrap();
        first_byte(&mut long).await;
        cut_expired(&edge, SHORT_UNTIL - 1);
        first_byte(&mut short).await;
        cut_expired(&edge, SHORT_UNTIL);
        cut(short).await;
        first_byte(&mut long).await;
    }
}

#[tokio::test]
async fn a_websocket_ends_with_its_credential_and_other_users_go_on() {
    let edge = Edge::start().await;
    let (alice, mut bob) = (websocket(&edge, "alice").await, websocket(&edge, "bob").await);
    let short = websocket(&edge, "short").await;
    let users = edge.connections.list(|connection| connection.open_requests() == 1);
    assert_eq!(users.len(), 3, "an upgraded connection is one with an open request");
    assert_eq!(revoke(&edge, "alice"), (1, 0));
    ends(alice).await;
    echo(&mut bob).await;
    cut_expired(&edge, SHORT_UNTIL);
    ends(short).await;
    echo(&mut bob).await;
    edge.closed("revoked", 1).await;
    edge.closed("expired", 1).await;
}
