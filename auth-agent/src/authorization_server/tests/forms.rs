//! Forms that come slowly, or not whole.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use tokio::time::Instant;

use super::*;
use crate::explain::RequestId;
use crate::refusal::respond_endpoint;

/// A byte a second, without an end.
struct Trickle(Pin<Box<tokio::time::Sleep>>);

impl Body for Trickle {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        self.0.as_mut().poll(context).map(|()| {
            let next = Instant::now() + Duration::from_secs(1);
            self.0.as_mut().reset(next);
            Some(Ok(Frame::data(Bytes::from_static(b"a"))))
        })
    }
}

/// Ends at once, and not well.
struct Broken(Refusal);

impl Body for Broken {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        Poll::Ready(Some(Err(self.0)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_that_trickles_in_is_given_ten_seconds() {
    let site = Site::open("");
    let body = Trickle(Box::pin(tokio::time::sleep(Duration::ZERO)));
    let start = Instant::now();
    let never = || panic!("the request never was whole");
    let refused = site.server.answer(Endpoint::Token, &posted(&[]), body, SOURCE, never).await;
    assert_eq!(refused.unwrap_err().refusal, Refusal::BodyTimeout);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn what_ends_a_body_is_what_the_client_is_told() {
    let site = Site::open("");
    for (refusal, status, code, close) in [
        (Refusal::BodyInvalid, 400, Some("invalid_request"), Some("close")),
        (Refusal::BodyTimeout, 408, None, None),
        (Refusal::BodyTooLarge, 413, None, None),
    ] {
        let body = Broken(refusal);
        let refused = site.server.answer(Endpoint::Token, &posted(&[]), body, SOURCE, || Ok(at(0))).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.refusal, refusal);
        let response = respond_endpoint(&refused, &RequestId::make());
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get("connection").map(|value| value.to_str().unwrap()), close);
        assert_eq!(json_of(response).await["error"].as_str(), code, "{refusal:?}");
    }
}

#[tokio::test]
async fn the_time_and_the_budget_are_those_of_the_moment_when_the_form_is_whole() {
    let site = Site::open("");
    let key = site.key(|key| key.expires = Some(UnixTime(NOW.0 + 5)));
    let form = format!("client_id={}&client_secret={}&grant_type=client_credentials", key.id(), key.expose());
    let send = |ready: Result<Now, Refusal>| {
        let body = Full::new(Bytes::from(form.clone()));
        let (server, request) = (&site.server, posted(&[]));
        async move { server.answer(Endpoint::Token, &request, body, SOURCE, || ready).await.map(drop) }
    };
    assert!(send(Ok(at(4))).await.is_ok());
    assert_eq!(send(Ok(at(5))).await.unwrap_err().refusal, Refusal::ApiKeyExpired, "while it came");
    let over = Refusal::AuthFailureLimit { retry_after: Duration::from_secs(1) };
    assert_eq!(send(Err(over)).await.unwrap_err().refusal, over);
}
