//! The public side: sockets, TLS and HTTP connections, from `bind` to the end of the drain.
//!
//! Invariants: every connection is its own task, bounded in number and in time; no connection outlives the
//! drain; nothing is read as HTTP that has not come through TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use crate::allowlist::Allowlist;
use crate::clock::UnixTime;
use crate::config::{Config, Sizes, Timeouts};
use crate::connections::Connections;
use crate::gateway::Gateway;
use crate::tls::{TlsError, TlsListeners};

mod accept;
mod activity;
mod admission;
mod connection;
mod descriptors;
mod listen;
mod socket;
mod tunnel;

use admission::Admission;
pub use descriptors::needed as descriptors_needed;
pub use listen::BindError;

/// Why the public listeners can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Listeners that are open, with certificates that work; nothing is accepted before [`Server::run`].
pub struct Server {
    connections: Arc<Connections>,
    /// `sizes.connections`, or as many as there are file descriptors for.
    limit: usize,
    listeners: Vec<TcpListener>,
    tls: Arc<TlsListeners>,
}

impl Server {
    /// Opens every listener. Certificates first: an address is not taken for what can't be served.
    /// Must be called within a tokio runtime.
    pub fn bind(config: &Config) -> Result<Self, ServeError> {
        let tls = Arc::new(TlsListeners::open(config, UnixTime::now())?);
        let listeners: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| listen::bind(listener.address))
            .collect::<Result<_, _>>()?;
        let limit = descriptors::make_room(config.sizes.connections.get());
        Ok(Self { connections: Arc::default(), limit, listeners, tls })
    }

    /// The connections that will be open.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    /// The certificates that will be shown.
    pub fn tls(&self) -> Arc<TlsListeners> {
        Arc::clone(&self.tls)
    }

    /// The addresses that are listened on; with port 0 configured, the port that the system chose.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Serves until `shutdown`, then stops accepting, lets open requests finish for `timeouts.drain`, and ends
    /// what is left.
    pub async fn run(
        self,
        config: &Config,
        gateway: Arc<Gateway>,
        allowlist: Arc<Allowlist>,
        shutdown: impl Future<Output = ()>,
    ) {
        let phase = watch::Sender::new(Phase::Serving);
        let grace = config.timeouts.credential_grace;
        let expiry = tokio::spawn(cut_expired(Arc::clone(&self.connections), Arc::clone(&gateway), grace));
        let shared = Arc::new(Shared {
            admission: Arc::new(Admission::new(config, allowlist, self.limit)),
            connections: self.connections,
            gateway,
            http1: http1_builder(&config.sizes, &config.timeouts),
            http2: http2_builder(&config.sizes),
            timeouts: config.timeouts,
        });
        for (socket, tls) in self.listeners.into_iter().zip(self.tls.iter()) {
            tokio::spawn(accept::run(socket, Arc::clone(tls), Arc::clone(&shared), phase.subscribe()));
        }
        drop(shared);
        shutdown.await;
        drain(&phase, config.timeouts.drain).await;
        expiry.abort();
    }
}

/// How often it is looked for requests whose credential is over: a second is what they are counted in.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

async fn cut_expired(connections: Arc<Connections>, gateway: Arc<Gateway>, grace: Duration) {
    let mut ticks = interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        let then = UnixTime(UnixTime::now().0.saturating_sub(grace.as_secs()));
        connections.cut_expired(|identity| gateway.is_over(identity, then));
    }
}

/// What a connection may still do. Every accept loop and connection holds a receiver, so that the sender
/// knows when the last is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Finish what is open.
    Draining,
    /// Nothing.
    Ended,
    /// Anything.
    Serving,
}

/// What connections share.
struct Shared {
    admission: Arc<Admission>,
    connections: Arc<Connections>,
    gateway: Arc<Gateway>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    timeouts: Timeouts,
}

/// Connections need no time to end once they are told to; this only keeps a bug from hanging the process.
const END_GRACE: Duration = Duration::from_secs(1);

async fn drain(phase: &watch::Sender<Phase>, limit: Duration) {
    phase.send_replace(Phase::Draining);
    if timeout(limit, phase.closed()).await.is_ok() {
        info!("every connection has ended");
        return;
    }
    warn!(connections = phase.receiver_count(), "ending the connections that are left after timeouts.drain");
    phase.send_replace(Phase::Ended);
    let _ = timeout(END_GRACE, phase.closed()).await;
}

/// The least that hyper takes, and more than a TLS record.
const MIN_READ_BUFFER_BYTES: usize = 32 << 10;

fn http1_builder(sizes: &Sizes, timeouts: &Timeouts) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .header_read_timeout(timeouts.headers)
        .keep_alive(true)
        .max_buf_size(sizes.header_bytes.get().max(MIN_READ_BUFFER_BYTES))
        .max_header_size(sizes.header_bytes.get())
        .max_headers(sizes.headers.get())
        .timer(TokioTimer::new());
    builder
}

/// What a client may have sent ahead of what has been forwarded: per stream, and per connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What may wait for a slow client, per stream.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// Streams that were reset before they were served, and streams that we reset for their errors, that end the
/// connection (CVE-2023-44487, RUSTSEC-2024-0003).
const MAX_RESETS_PENDING: usize = 20;
const MAX_RESETS_FOR_ERRORS: usize = 128;
/// Finds dead peers while a request is open; idle connections end earlier, by `timeouts.headers`.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

fn http2_builder(sizes: &Sizes) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(sizes.streams.get())
        .max_header_list_size(u32::try_from(sizes.header_bytes.get()).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(MAX_RESETS_FOR_ERRORS)
        .max_pending_accept_reset_streams(MAX_RESETS_PENDING)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .timer(TokioTimer::new());
    builder
}

#[cfg(test)]
mod tests;
