//! The TLS handshake of one connection: bounded in time, and in how many go on at once.
//!
//! A handshake takes a place once its hello is there, and no sooner: who sends none takes up a connection, and no more.
//! What finds no place waits for one within its own deadline, in the order in which the hellos came: so a burst of
//! clients costs them time, and no failed connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::debug;

use super::acme::Challenges;
use super::client::ClientCertificate;
use super::listener::TlsListener;
use crate::counters::{Counters, count};
use crate::deadline::Deadline;

/// Why there is no TLS connection.
#[derive(Debug)]
pub enum Failure {
    /// It was an ACME server that looked whether a name is ours: there is nothing to say after the handshake.
    AcmeChallenge,
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
            Self::AcmeChallenge => "acme-challenge",
            Self::Certificate => "certificate-invalid",
            Self::Failed(_) => "handshake-failed",
            Self::NoPlace => "handshakes",
            Self::Timeout => "handshake-timeout",
            Self::UnknownName => "server-name-unknown",
        }
    }
}

impl Failure {
    /// Whether what came was no TLS at all. Whoever speaks another version, or does not like our certificate, is none to
    /// blame.
    pub fn is_garbage(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        let error = error.get_ref().and_then(|error| error.downcast_ref());
        matches!(error, Some(rustls::Error::InvalidMessage(_)))
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What the client showed, where it was asked to.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The connection.
    pub stream: Box<TlsStream<S>>,
}

/// The places for handshakes that are under way.
#[derive(Debug)]
pub(super) struct Places {
    free: Semaphore,
    /// In all.
    pub places: usize,
}

impl Places {
    pub fn new(places: usize) -> Self {
        Self { free: Semaphore::new(places.min(Semaphore::MAX_PERMITS)), places }
    }

    /// `delayed` says whether it has to be waited for.
    async fn take(&self, delayed: &AtomicBool, counters: &Counters) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.free.try_acquire() {
            return Some(place);
        }
        count(&counters.handshakes_delayed);
        delayed.store(true, Relaxed);
        let place = self.free.acquire().await.ok();
        delayed.store(false, Relaxed);
        place
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
        let delayed = AtomicBool::new(false);
        tokio::select! {
            biased;
            accepted = self.shake_hands(stream, &delayed, counters) => {
                accepted.inspect_err(|failure| debug!(?failure, "no TLS connection"))
            }
            () = Deadline::after(limit) => {
                Err(if delayed.load(Relaxed) { Failure::NoPlace } else { Failure::Timeout })
            }
        }
    }

    async fn shake_hands<S>(
        &self,
        stream: S,
        delayed: &AtomicBool,
        counters: &Counters,
    ) -> Result<Accepted<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let start = hello.await.map_err(Failure::Failed)?;
        if Challenges::asks(&start.client_hello()) {
            let _place = self.places().take(delayed, counters).await.ok_or(Failure::NoPlace)?;
            return Err(self.answer_challenge(start).await);
        }
        let setup = self.setup();
        if !setup.table.knows(start.client_hello().server_name()) {
            return Err(refuse(start.io).await);
        }
        let _place = self.places().take(delayed, counters).await.ok_or(Failure::NoPlace)?;
        let stream = start.into_stream(Arc::clone(&setup.config)).await.map_err(Failure::Failed)?;
        let certificate = self.certificate(stream.get_ref().1, &setup)?;
        Ok(Accepted { certificate, stream: Box::new(stream) })
    }
}

impl TlsListener {
    async fn answer_challenge<S>(&self, start: StartHandshake<S>) -> Failure
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = start.client_hello().server_name().and_then(|name| self.challenges().find(name));
        let Some(config) = config else { return refuse(start.io).await };
        match start.into_stream(config).await {
            Ok(mut stream) => {
                // It has seen what it wants.
                let _ = stream.shutdown().await;
                Failure::AcmeChallenge
            }
            Err(error) => Failure::Failed(error),
        }
    }
}

/// A fatal alert, `unrecognized_name` (RFC 8446 6.2, RFC 6066 3), in a record of its own: rustls has no way to send it.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

async fn refuse(mut stream: impl AsyncWrite + Unpin) -> Failure {
    let told = async {
        stream.write_all(&UNRECOGNIZED_NAME).await?;
        stream.shutdown().await
    };
    // Whoever does not hear it, does without.
    let _ = told.await;
    Failure::UnknownName
}
