//! Upstreams that speak HTTP/2: shared connections, trailers, and streams that they refuse.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, mpsc};
use tokio::time::timeout;

use super::edge::{Edge, GOOD, PATIENCE, get, request};
use super::pool::{edge_before, reason};
use crate::config::Address;

/// Answers with what it was asked and trailers, once `together` requests are there.
async fn grpc(together: usize) -> (Address, Arc<AtomicUsize>, mpsc::UnboundedReceiver<http::request::Parts>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("h2c://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (connections, barrier) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(together)));
    let (sender, receiver) = mpsc::unbounded_channel();
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Relaxed);
            let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
                async move {
                    barrier.wait().await;
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap();
                    assert_eq!(body.trailers(), None);
                    sender.send(parts).unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    let trailers = std::future::ready(Some(Ok::<_, Infallible>(trailers)));
                    let body = Full::new(body.to_bytes()).with_trailers(trailers);
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, connections, receiver)
}

#[tokio::test]
async fn a_grpc_call_goes_through_with_its_trailers() {
    let (address, connections, mut seen) = grpc(1).await;
    let edge = edge_before(vec![address], |_| ()).await;
    for _ in 0..2 {
        let headers = [GOOD, ("content-type", "application/grpc"), ("te", "trailers")];
        let call = request(Version::HTTP_2, "POST", "/api/Service/Method", &headers, "message");
        let response = edge.client(Version::HTTP_2).await.send(call).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(&body.to_bytes()[..], b"message");
        let parts = seen.recv().await.unwrap();
        assert_eq!(
            (parts.version, parts.uri.to_string().as_str()),
            (Version::HTTP_2, "http://localhost/api/Service/Method")
        );
        assert_eq!(
            (&parts.headers["te"], parts.headers.get("host")),
            (&HeaderValue::from_static("trailers"), None)
        );
        assert_eq!(parts.headers["x-auth-subject"], "alice");
    }
    assert_eq!(connections.load(Relaxed), 1);
}

#[tokio::test]
async fn requests_at_the_same_time_share_a_connection_as_far_as_it_goes() {
    for (streams, expected) in [(10, 1), (2, 2)] {
        let (address, connections, _seen) = grpc(4).await;
        let edge = edge_before(vec![address], |config| {
            config.upstreams[0].streams = std::num::NonZeroU32::new(streams).unwrap();
        })
        .await;
        let send = || edge.send(Version::HTTP_11, get(Version::HTTP_11, "/api"));
        let (first, second, third, fourth) = tokio::join!(send(), send(), send(), send());
        assert!([first, second, third, fourth].iter().all(|response| response.status() == 200));
        assert_eq!(connections.load(Relaxed), expected);
        assert_eq!(edge.upstreams()[0].endpoints[0].idle, expected);
    }
}

/// What a scripted server does with the n-th stream of all its connections.
#[derive(Clone, Copy)]
enum Step {
    Answer,
    GoAway,
    Refuse,
    Reset,
}

async fn scripted(steps: &'static [Step]) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("h2c://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let mut steps = steps.iter();
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                match steps.next().unwrap() {
                    Step::Answer => {
                        respond.send_response(Response::new(()), true).unwrap();
                    }
                    Step::GoAway => {
                        respond.send_response(Response::new(()), true).unwrap();
                        connection.graceful_shutdown();
                    }
                    Step::Refuse => respond.send_reset(h2::Reason::REFUSED_STREAM),
                    Step::Reset => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn what_the_upstream_has_not_looked_at_is_sent_again() {
    use Step::{Answer, GoAway, Refuse, Reset};
    for (method, steps, statuses) in [
        ("GET", &[Refuse, Answer][..], &[200][..]),
        ("POST", &[Refuse, Answer], &[200]),
        ("GET", &[Reset, Answer], &[200]),
        ("POST", &[Reset, Answer], &[502, 200]),
        ("GET", &[Refuse, Refuse, Answer], &[502, 200]),
        ("POST", &[GoAway, Answer], &[200, 200]),
    ] {
        let edge = edge_before(vec![scripted(steps).await], |_| ()).await;
        for status in statuses {
            let headers = [GOOD, ("content-length", "0")];
            let sent = request(
                Version::HTTP_11,
                method,
                "/api",
                if method == "GET" { &headers[..1] } else { &headers },
                "",
            );
            let response = timeout(PATIENCE, edge.send(Version::HTTP_11, sent)).await.unwrap();
            assert_eq!(response.status(), *status, "{method}");
            if *status == 502 {
                assert_eq!(reason(&response), "upstream-invalid");
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_http2_is_no_upstream() {
    let edge = Edge::start().await;
    let plain = edge.upstream.address;
    let edge = edge_before(vec![format!("h2c://{plain}").parse().unwrap()], |_| ()).await;
    let response = edge.send(Version::HTTP_11, get(Version::HTTP_11, "/api")).await;
    assert_eq!((response.status().as_u16(), &*reason(&response)), (502, "upstream-invalid"));
}
