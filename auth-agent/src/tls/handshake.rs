//! The TLS handshake of one connection: bounded in time, and in how many go on at once.
//!
//! A handshake takes a place once its hello is there, and no sooner: who sends none takes up a connection, and no more.
//! What finds no place waits for one within its own deadline, in the order in which the hellos came: so a burst of
//! clients costs them time, and no failed connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::client::ClientCertificate;
use super::listener::TlsListener;
use crate::counters::{Counters, count};

/// Why there is no TLS connection.
#[derive(Debug)]
pub enum Failure {
    /// The session that the client resumed began with a certificate that is no longer accepted.
    Certificate,
    /// It broke off, or either side refused it.
    Failed(io::Error),
    /// No place for it came free in time.
    NoPlace,
    /// It took too long.
    Timeout,
    /// No certificate is for the name that the client asked for.
    UnknownName,
}

impl Failure {
    /// The name that the end of the connection is counted under.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Certificate => "certificate-invalid",
            Self::Failed(_) => "handshake-failed",
            Self::NoPlace => "handshakes",
            Self::Timeout => "handshake-timeout",
            Self::UnknownName => "server-name-unknown",
        }
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What the client showed, where it was asked to.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The connection.
    pub stream: TlsStream<S>,
}

/// The places for handshakes that are under way.
#[derive(Debug)]
pub(super) struct Places(Semaphore);

impl Places {
    pub fn new(places: usize) -> Self {
        Self(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))
    }

    /// `None`: there was none in time.
    async fn take(&self, deadline: Instant, counters: &Counters) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.0.try_acquire() {
            return Some(place);
        }
        count(&counters.handshakes_delayed);
        timeout_at(deadline, self.0.acquire()).await.ok()?.ok()
    }
}

impl TlsListener {
    /// Makes the TLS connection, within `limit`.
    ///
    /// # Errors
    /// Why there is none; the client was told, as far as TLS has a word for it.
    pub async fn accept<S>(
        &self,
        stream: S,
        limit: Duration,
        counters: &Counters,
    ) -> Result<Accepted<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let deadline = Instant::now() + limit;
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let start = in_time(deadline, hello).await?;
        let setup = self.setup();
        if !setup.table.knows(start.client_hello().server_name()) {
            return Err(refuse(start.io, deadline).await);
        }
        let place = self.places().take(deadline, counters).await;
        let _place = place.ok_or(Failure::NoPlace)?;
        let stream = in_time(deadline, start.into_stream(Arc::clone(&setup.config))).await?;
        let certificate = self.certificate(stream.get_ref().1, &setup)?;
        Ok(Accepted { certificate, stream })
    }
}

async fn in_time<T>(deadline: Instant, step: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
    match timeout_at(deadline, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            debug!(%error, "handshake failed");
            Err(Failure::Failed(error))
        }
        Err(_) => Err(Failure::Timeout),
    }
}

/// A fatal alert, `unrecognized_name` (RFC 8446 6.2, RFC 6066 3), in a record of its own: rustls has no way to send it.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

async fn refuse(mut stream: impl AsyncWrite + Unpin, deadline: Instant) -> Failure {
    let told = async {
        stream.write_all(&UNRECOGNIZED_NAME).await?;
        stream.shutdown().await
    };
    // Whoever does not hear it, does without.
    let _ = timeout_at(deadline, told).await;
    Failure::UnknownName
}
