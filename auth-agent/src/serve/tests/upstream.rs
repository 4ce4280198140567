//! An upstream that tells what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Interval, interval};

use crate::proxy::accept;

pub type AnyBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// A request that came whole.
#[derive(Clone, Debug)]
pub struct Seen {
    pub body: Bytes,
    pub headers: HeaderMap,
    pub method: Method,
    pub target: String,
    pub trailers: Option<HeaderMap>,
}

impl Seen {
    fn head(parts: &Parts) -> Self {
        let target = parts.uri.path_and_query().unwrap().to_string();
        let (headers, method) = (parts.headers.clone(), parts.method.clone());
        Self { body: Bytes::new(), headers, method, target, trailers: None }
    }
}

pub struct Upstream {
    pub address: SocketAddr,
    /// Bytes that `/api/flood` got rid of.
    pub flooded: Arc<AtomicU64>,
    /// A message whenever a request to `/api/hang` was given up.
    pub given_up: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    /// Requests to `/api/hang` that were not given up.
    pub hanging: Arc<AtomicU64>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone)]
struct Shared {
    flooded: Arc<AtomicU64>,
    given_up: mpsc::UnboundedSender<()>,
    hanging: Arc<AtomicU64>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (given_up, receiver) = mpsc::unbounded_channel();
        let shared =
            Shared { flooded: Arc::default(), given_up, hanging: Arc::default(), seen: Arc::default() };
        let (flooded, hanging) = (Arc::clone(&shared.flooded), Arc::clone(&shared.hanging));
        let seen = Arc::clone(&shared.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                let service = service_fn(move |request| answer(request, shared.clone()));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        Self { address, flooded, given_up: tokio::sync::Mutex::new(receiver), hanging, seen }
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

struct OnDrop(Shared);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Relaxed);
        let _ = self.0.given_up.send(());
    }
}

async fn answer(request: Request<Incoming>, shared: Shared) -> Result<Response<AnyBody>, Infallible> {
    let (parts, body) = request.into_parts();
    match parts.uri.path() {
        "/api/hang" => {
            shared.hanging.fetch_add(1, Relaxed);
            let _guard = OnDrop(shared.clone());
            let _ = body.collect().await;
            return std::future::pending().await;
        }
        "/api/echo" => return Ok(Response::new(body.boxed_unsync())),
        "/api/endless" => return Ok(Response::new(Endless(interval(PAUSE)).boxed_unsync())),
        "/api/websocket" => {
            shared.seen.lock().unwrap().push(Seen::head(&parts));
            return Ok(websocket(Request::from_parts(parts, body)));
        }
        "/api/flood" => return Ok(Response::new(Flood(shared.flooded).boxed_unsync())),
        "/api/slow" => tokio::time::sleep(Duration::from_millis(300)).await,
        _ => {}
    }
    let Ok(collected) = body.collect().await else {
        return Ok(Response::new(empty()));
    };
    let trailers = collected.trailers().cloned();
    let seen = Seen { body: collected.to_bytes(), trailers, ..Seen::head(&parts) };
    let target = seen.target.clone();
    shared.seen.lock().unwrap().push(seen);
    Ok(respond(&target))
}

fn respond(target: &str) -> Response<AnyBody> {
    let mut response = Response::new(
        Full::new(Bytes::from_static(b"upstream")).map_err(|never| match never {}).boxed_unsync(),
    );
    let headers = response.headers_mut();
    match target {
        "/api/headers" => {
            for (name, value) in [
                ("connection", "x-nominated"),
                ("keep-alive", "timeout=5"),
                ("proxy-authenticate", "Basic"),
                ("upgrade", "h2c"),
                ("x-nominated", "1"),
                ("x-auth-info", "1"),
                ("set-cookie", "a=1"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            headers.append("set-cookie", HeaderValue::from_static("b=2"));
        }
        "/api/switch" => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.body_mut() = empty();
        }
        "/api/nothing" => {
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.body_mut() = empty();
        }
        "/api/teapot" => *response.status_mut() = StatusCode::IM_A_TEAPOT,
        _ => {}
    }
    response
}

pub fn empty() -> AnyBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Switches to a protocol in which everything is echoed, if it is called WebSocket.
pub fn websocket(request: Request<Incoming>) -> Response<AnyBody> {
    let mut response = Response::new(empty());
    if request.headers().get("upgrade").is_none_or(|offer| offer != "websocket") {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let key = request.headers().get("sec-websocket-key").map_or(&b""[..], HeaderValue::as_bytes);
    let accept = HeaderValue::try_from(accept(key)).unwrap();
    response.headers_mut().insert("sec-websocket-accept", accept);
    for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    response
}

const PAUSE: Duration = Duration::from_millis(5);

/// A byte now and then.
struct Endless(Interval);

impl Body for Endless {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b".")))))
    }
}

/// Never ends.
struct Flood(Arc<AtomicU64>);

impl Body for Flood {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        static CHUNK: [u8; 16 << 10] = [7; 16 << 10];
        self.0.fetch_add(CHUNK.len() as u64, Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK)))))
    }
}
