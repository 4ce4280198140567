//! An upstream that answers each request with what it received.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Task, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Interval, interval};

use crate::netns::Namespace;
use crate::websocket;

/// A running echo server; it stops with its guard.
pub struct Upstream {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts one on `address`, inside `namespace` if there is one.
    ///
    /// # Errors
    /// If the address can't be had.
    pub fn start(namespace: Option<&Namespace>, address: SocketAddr) -> Result<Self> {
        let bind = || std::net::TcpListener::bind(address).with_context(|| format!("upstream on {address}"));
        let listener = match namespace {
            Some(namespace) => namespace.run(bind)?,
            None => bind()?,
        };
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (requests, streams) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counters = (Arc::clone(&requests), Arc::clone(&streams));
        // The listener keeps its namespace, whatever thread accepts on it.
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    result = serve(listener, counters) => eprintln!("upstream: {result:?}"),
                }
            });
        });
        Ok(Self { address, requests, streams, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that reached it.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Responses of `/stream` that go on.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("upstream: its thread panicked");
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    (requests, streams): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) -> Result<Infallible> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (requests, streams) = (Arc::clone(&requests), Arc::clone(&streams));
        let service = service_fn(move |request| {
            requests.fetch_add(1, Ordering::SeqCst);
            respond(request, Arc::clone(&streams))
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection.with_upgrades());
    }
}

/// What no buffer on the way holds.
const LARGE: usize = 16 << 20;

/// `/open/large` is long; `/stream` goes on until the client goes; `/websocket` is one that echoes; the rest is [`echo`].
async fn respond(
    request: Request<Incoming>,
    streams: Arc<AtomicUsize>,
) -> Result<Response<Either<Full<Bytes>, Ticks>>> {
    if request.uri().path() == "/stream" {
        return Ok(Response::new(Either::Right(Ticks::new(streams))));
    }
    if request.uri().path() == "/open/large" {
        return Ok(Response::new(Either::Left(Bytes::from_static(&[b'x'; LARGE]).into())));
    }
    if request.uri().path() == "/websocket" {
        return Ok(websocket::answer(request).map(Either::Left));
    }
    Ok(echo(request).await?.map(Either::Left))
}

/// A body of a byte now and then, without end.
struct Ticks {
    interval: Interval,
    streams: Arc<AtomicUsize>,
}

impl Ticks {
    fn new(streams: Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::SeqCst);
        Self { interval: interval(Duration::from_millis(20)), streams }
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Body for Ticks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.interval.poll_tick(task));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b".")))))
    }
}

/// `/slow` answers after a second and a half; everything else at once.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    if head.uri.path() == "/slow" {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    let mut headers = Map::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let values = headers.entry(name.as_str()).or_insert_with(|| json!([]));
        values.as_array_mut().ok_or_else(|| anyhow!("not an array"))?.push(Value::String(value));
    }
    let body = body.collect().await?.to_bytes();
    let answer = json!({
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map_or("", |path| path.as_str()),
        "headers": headers,
        "body_bytes": body.len(),
    });
    let mut text = serde_json::to_vec_pretty(&answer)?;
    text.push(b'\n');
    Ok(Response::builder().header("content-type", "application/json").body(Full::new(text.into()))?)
}
