//! HTTP/2 connections to an endpoint, each with many requests in flight, driven by a task of its own.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{Mutex as Turn, MutexGuard as TurnGuard};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::RequestBody;
use super::connect::{ConnectError, Stream};
use super::link::{READ_BUFFER_BYTES, Sent};
use crate::deadline::Coarse;

/// What an endpoint may send ahead of what a client takes, per request. The connection's window has room for all of
/// them, so that slow clients hold up nobody but themselves.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// What may wait for a slow endpoint, per request.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// Finds endpoints that are gone without a word, while requests are in flight.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections of one thread to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Multiplexed {
    connections: Mutex<Vec<Connection>>,
    /// Attempts to open one that failed.
    failures: AtomicUsize,
    /// Held while one is opened, so that those who want one at the same time share it; why that failed last.
    opening: Turn<Option<Arc<ConnectError>>>,
}

/// The turn to open a connection.
#[derive(Debug)]
pub(super) struct Opening<'m> {
    failures: &'m AtomicUsize,
    last: TurnGuard<'m, Option<Arc<ConnectError>>>,
    /// How long it may take.
    pub left: Duration,
    /// Others were first.
    waited: bool,
}

impl Opening<'_> {
    /// Notes why it failed: whoever waits for it fails with it.
    pub fn failed(mut self, error: ConnectError) -> Arc<ConnectError> {
        // Less than the whole time says nothing about the endpoint.
        if self.waited && matches!(error, ConnectError::Timeout) {
            return Arc::new(ConnectError::Late);
        }
        let error = Arc::new(error);
        *self.last = Some(Arc::clone(&error));
        self.failures.fetch_add(1, Relaxed);
        error
    }
}

#[derive(Debug)]
struct Connection {
    in_flight: Arc<AtomicU32>,
    rounds: u32,
    sender: SendRequest<RequestBody>,
    /// How many requests the endpoint takes at a time, as far as it has said.
    theirs: Arc<AtomicU32>,
    websockets: Arc<WebSockets>,
}

/// Whether an endpoint takes WebSockets, as far as it has said.
#[derive(Debug)]
struct WebSockets {
    /// The task that knows better; it looks when it is woken, as nothing else tells it of new settings.
    driver: AtomicWaker,
    opened: Instant,
    takes: AtomicBool,
}

impl Multiplexed {
    /// A place on a connection that has room for one more.
    pub fn stream(&self, most: u32) -> Option<Place> {
        let mut connections = self.connections();
        connections.retain(|connection| !connection.sender.is_closed());
        connections.iter_mut().find_map(|connection| connection.enter(most))
    }

    /// The turn to open a connection, which may take `limit` from now on; why there is none, if another's attempt failed
    /// in the meantime.
    pub async fn turn(&self, limit: Duration) -> Result<Opening<'_>, Arc<ConnectError>> {
        let failures = &self.failures;
        if let Ok(last) = self.opening.try_lock() {
            return Ok(Opening { failures, last, left: limit, waited: false });
        }
        let (began, before) = (Instant::now(), failures.load(Relaxed));
        let last = timeout(limit, self.opening.lock()).await.map_err(|_| ConnectError::Late)?;
        match &*last {
            Some(error) if failures.load(Relaxed) != before => Err(Arc::clone(error)),
            _ => Ok(Opening { failures, last, left: limit.saturating_sub(began.elapsed()), waited: true }),
        }
    }

    /// A place on a connection that was just made.
    pub async fn open(&self, stream: Stream, most: u32) -> hyper::Result<Place> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .initial_connection_window_size(STREAM_WINDOW_BYTES.saturating_mul(most.min(1 << 10)))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_header_list_size(READ_BUFFER_BYTES as u32)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .timer(Coarse)
            .handshake(TokioIo::new(stream))
            .await?;
        let theirs = Arc::new(AtomicU32::new(u32::MAX));
        let told = Arc::clone(&theirs);
        let (driver, opened, takes) = (AtomicWaker::new(), Instant::now(), AtomicBool::new(false));
        let websockets = Arc::new(WebSockets { driver, opened, takes });
        let looked = Arc::clone(&websockets);
        let driven = poll_fn(move |context| {
            let polled = Pin::new(&mut connection).poll(context);
            told.store(u32::try_from(connection.current_max_send_streams()).unwrap_or(u32::MAX), Relaxed);
            if !looked.takes.load(Relaxed) {
                looked.driver.register(context.waker());
                looked.takes.store(connection.is_extended_connect_protocol_enabled(), Relaxed);
            }
            polled
        });
        tokio::spawn(async move {
            if let Err(error) = driven.await {
                debug!(%error, "connection to an upstream failed");
            }
        });
        let in_flight = Arc::new(AtomicU32::new(1));
        let place = Place {
            _in_flight: InFlight(Arc::clone(&in_flight)),
            number: 1,
            sender: sender.clone(),
            theirs: Arc::clone(&theirs),
            websockets: Arc::clone(&websockets),
        };
        self.connections().push(Connection { in_flight, rounds: 0, sender, theirs, websockets });
        Ok(place)
    }

    /// Lets go of connections that nobody used for `most` rounds.
    pub fn tidy(&self, most: u32) {
        self.connections().retain_mut(|connection| {
            let is_used = connection.in_flight.load(Relaxed) > 0;
            connection.rounds = if is_used { 0 } else { connection.rounds + 1 };
            connection.rounds < most && !connection.sender.is_closed()
        });
    }

    /// How many have nothing to do.
    pub fn idle(&self) -> usize {
        let is_idle = |connection: &&Connection| connection.in_flight.load(Relaxed) == 0;
        self.connections().iter().filter(is_idle).count()
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn enter(&mut self, most: u32) -> Option<Place> {
        if self.in_flight.load(Relaxed) >= most.min(self.theirs.load(Relaxed)) {
            return None;
        }
        let number = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.rounds = 0;
        Some(Place {
            _in_flight: InFlight(Arc::clone(&self.in_flight)),
            number,
            sender: self.sender.clone(),
            theirs: Arc::clone(&self.theirs),
            websockets: Arc::clone(&self.websockets),
        })
    }
}

/// A place for one request on a connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _in_flight: InFlight,
    /// How many there were with it when it began.
    number: u32,
    sender: SendRequest<RequestBody>,
    theirs: Arc<AtomicU32>,
    websockets: Arc<WebSockets>,
}

/// An endpoint's settings are the first thing that it says, and are looked for so often.
const SETTINGS_PATIENCE: Duration = Duration::from_secs(1);
const SETTINGS_ROUND: Duration = Duration::from_millis(10);

impl Place {
    /// Whether it is beyond what the endpoint takes at a time, which that tells only once it is connected to: then what
    /// is sent may have waited here until others had ended.
    pub fn is_beyond(&self) -> bool {
        self.number > self.theirs.load(Relaxed)
    }

    /// Whether the endpoint takes WebSockets (RFC 8441, 3): waits for its settings on a connection that is new.
    pub async fn takes_websockets(&self) -> bool {
        let WebSockets { driver, opened, takes } = &*self.websockets;
        loop {
            driver.wake();
            yield_now().await;
            if takes.load(Relaxed) || opened.elapsed() >= SETTINGS_PATIENCE {
                return takes.load(Relaxed);
            }
            sleep(SETTINGS_ROUND).await;
        }
    }

    /// Sends a request and waits for the head of its answer. Dropped, it resets the stream.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        match self.sender.try_send_request(request).await {
            Ok(response) => Sent::Answered(response, None),
            Err(mut error) => match error.take_message() {
                Some(request) => Sent::Unsent(request),
                None => Sent::Lost(error.into_error()),
            },
        }
    }
}

#[derive(Debug)]
struct InFlight(Arc<AtomicU32>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Whether the endpoint says that it has not even looked at the request: its stream was refused (RFC 9113, 8.7), or is
/// beyond the last one of a connection that ends in good order (RFC 9113, 6.8).
pub(super) fn was_refused(error: &hyper::Error) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        error.is_remote()
            && (error.reason() == Some(h2::Reason::REFUSED_STREAM)
                || error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_an_attempt_fails_with_it() {
        let multiplexed = Multiplexed::default();
        let began = Instant::now();
        let first = async {
            let turn = multiplexed.turn(LIMIT).await.unwrap();
            assert_eq!(turn.left, LIMIT);
            sleep(LIMIT).await;
            turn.failed(ConnectError::Timeout);
        };
        let other = async || {
            sleep(Duration::from_secs(1)).await;
            let error = multiplexed.turn(LIMIT).await.unwrap_err();
            assert!(matches!(*error, ConnectError::Timeout), "{error}");
        };
        tokio::join!(first, other(), other(), other());
        assert_eq!(began.elapsed(), LIMIT);
        assert_eq!(multiplexed.turn(LIMIT).await.unwrap().left, LIMIT, "who comes later tries anew");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_and_connecting_take_no_longer_than_connecting() {
        let multiplexed = Multiplexed::default();
        // Of whom nobody says that it failed, as of one whose client left.
        let first = async {
            let _turn = multiplexed.turn(LIMIT).await.unwrap();
            sleep(Duration::from_secs(2)).await;
        };
        let second = async {
            let turn = multiplexed.turn(LIMIT).await.unwrap();
            assert_eq!(turn.left, Duration::from_secs(3));
            sleep(turn.left).await;
            assert!(matches!(*turn.failed(ConnectError::Timeout), ConnectError::Late));
        };
        let third = async {
            sleep(Duration::from_secs(1)).await;
            let turn = multiplexed.turn(LIMIT).await.unwrap();
            assert_eq!(turn.left, Duration::from_secs(1), "what came of too little time is not shared");
            sleep(Duration::from_secs(2)).await;
        };
        let fourth = async {
            sleep(Duration::from_secs(1)).await;
            assert!(matches!(*multiplexed.turn(LIMIT).await.unwrap_err(), ConnectError::Late));
        };
        tokio::join!(first, second, third, fourth);
    }
}
