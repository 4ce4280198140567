//! HTTP/2 on one connection. Its streams are polled by the connection's own task: what several of them have ready goes
//! out with one write, and none wakes another thread.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream as _};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use super::activity::Stuck;
use super::front::Front;
use super::session::Session;
use super::{GOODBYE, Phase, draining, reason_of};
use crate::config::Sizes;
use crate::deadline::Coarse;

/// What a client may have sent ahead of what has been forwarded: per stream, and per connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What may wait for a slow client, per stream.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// Streams that were reset before they were served, and streams that we reset for their errors, that end the
/// connection (CVE-2023-44487, RUSTSEC-2024-0003).
const MAX_RESETS_PENDING: usize = 20;
const MAX_RESETS_FOR_ERRORS: usize = 128;
/// Finds dead peers while a request is open; idle connections end earlier, by `timeouts.idle`.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

fn builder(session: &Session, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = guarded(streams, &session.settings.sizes);
    builder.enable_connect_protocol().timer(Coarse);
    builder
}

/// HTTP/2 within bounds, for whoever may come. It needs a timer.
pub(crate) fn guarded<E: Clone>(executor: E, sizes: &Sizes) -> http2::Builder<E> {
    let mut builder = http2::Builder::new(executor);
    builder
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(sizes.streams.get())
        .max_header_list_size(u32::try_from(sizes.header_bytes.get()).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(MAX_RESETS_FOR_ERRORS)
        .max_pending_accept_reset_streams(MAX_RESETS_PENDING)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}

/// Serves the connection to its end; the reason, where that was not its client's.
pub(super) async fn serve(
    front: Front,
    session: &Arc<Session>,
    mut phase: watch::Receiver<Phase>,
) -> Option<&'static str> {
    let (activity, timeouts) = (&session.activity, &session.settings.timeouts);
    let service = service_fn(|request| Arc::clone(session).answer(request));
    let streams = Streams::default();
    session.has_streams(streams.clone());
    let connection = builder(session, streams.clone()).serve_connection(TokioIo::new(front), service);
    let mut driven =
        Box::pin(Driven { connection: Box::pin(connection), open: FuturesUnordered::new(), streams });
    // A client that has asked nothing yet has to; one that has been served may rest.
    let patience = || if activity.begun() > 0 { timeouts.idle } else { timeouts.headers };
    let mut idle = timeouts.headers.min(timeouts.idle);
    let reason = loop {
        tokio::select! {
            biased;
            result = driven.as_mut() => return result.err().and_then(|error| reason_of(&error)),
            () = draining(&mut phase) => break "drain",
            stuck = activity.stuck(idle, timeouts.body_idle) => match stuck {
                Stuck::Idle if idle < patience() => idle = patience(),
                // Nothing came, or half a field block.
                Stuck::Idle if activity.begun() == 0 => break "headers-timeout",
                Stuck::Idle => break "idle",
                Stuck::Unread => return Some("unread"),
            },
        }
    };
    driven.connection.as_mut().graceful_shutdown();
    let idle = activity.farewell(GOODBYE, timeouts.body_idle);
    tokio::select! {
        biased;
        result = driven => result.err().and_then(|error| reason_of(&error)),
        stuck = activity.stuck(idle, timeouts.body_idle) => match stuck {
            Stuck::Idle => Some(reason),
            Stuck::Unread => Some("unread"),
        },
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the streams that come, until the connection's task takes them over.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Vec<Task>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

/// A connection and its streams, as one future.
struct Driven<C> {
    connection: Pin<Box<C>>,
    open: FuturesUnordered<Task>,
    streams: Streams,
}

impl<C> Driven<C> {
    fn poll_streams(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = Pin::new(&mut self.open).poll_next(context) {}
    }

    /// Whether there are new ones.
    fn take_over(&mut self) -> bool {
        let mut new = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        let some = !new.is_empty();
        self.open.extend(new.drain(..));
        some
    }
}

impl<C> Drop for Driven<C> {
    fn drop(&mut self) {
        // Each holds the list that it is in.
        self.take_over();
    }
}

impl<C: Future<Output = hyper::Result<()>>> Future for Driven<C> {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        // What the upstreams gave goes out with the poll of the connection, in one write.
        self.poll_streams(context);
        loop {
            if let Poll::Ready(result) = self.connection.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            if !self.take_over() {
                return Poll::Pending;
            }
            self.poll_streams(context);
        }
    }
}
