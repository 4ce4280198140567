//! What a switch of protocols leaves: two ends, and bytes between them.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::connect::Stream;
use super::super::endpoint::Ticket;
use super::super::multiplex::Place;
use crate::clock::Now;
use crate::limits::Meter;

/// Two connections, or streams of HTTP/2, that are being switched: the client's and the upstream's.
#[derive(Clone, Debug)]
pub struct Tunnel {
    client: OnUpgrade,
    /// Taken once; extensions of a response have to be cloneable.
    upstream: Arc<Mutex<Option<Metered>>>,
}

/// An upstream's end, and what counts the bytes that come from it, if anything does.
type Metered = (Upstream, Option<Box<Meter>>);

/// What the upstream's end comes of.
#[derive(Debug)]
pub(in super::super) enum Upstream {
    /// A connection over which HTTP/1.1 has ended, and what was read of it together with the response.
    Connection(Stream, Bytes, Ticket),
    /// A stream of a connection that others use too.
    Stream(OnUpgrade, Place, Ticket),
}

impl Tunnel {
    pub(super) fn new(client: OnUpgrade, upstream: Upstream) -> Self {
        Self { client, upstream: Arc::new(Mutex::new(Some((upstream, None)))) }
    }

    /// Has the bytes that the client gets counted as they pass.
    pub fn meter(&self, meter: Option<Box<Meter>>) {
        if let Some((_, counts)) = &mut *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) {
            *counts = meter;
        }
    }

    /// Both ends, once HTTP has let go of them.
    ///
    /// # Errors
    /// One of them ended before.
    pub async fn ends(self) -> io::Result<(TokioIo<Upgraded>, UpstreamEnd)> {
        let client = self.client.await.map_err(io::Error::other)?;
        let upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (upstream, meter) = upstream.ok_or(io::ErrorKind::NotConnected)?;
        let upstream = match upstream {
            Upstream::Connection(stream, read, ticket) => {
                UpstreamEnd { meter, _place: None, read, stream: End::Connection(stream), _ticket: ticket }
            }
            Upstream::Stream(stream, place, ticket) => {
                let stream = Box::new(TokioIo::new(stream.await.map_err(io::Error::other)?));
                let (read, stream) = (Bytes::new(), End::Stream(stream));
                UpstreamEnd { meter, _place: Some(place), read, stream, _ticket: ticket }
            }
        };
        Ok((TokioIo::new(client), upstream))
    }
}

/// The upstream's end: what was read of it together with the response comes first.
#[derive(Debug)]
pub struct UpstreamEnd {
    /// Counts what comes from it.
    meter: Option<Box<Meter>>,
    /// It takes a place on its connection as a request does.
    _place: Option<Place>,
    read: Bytes,
    stream: End,
    /// It is in flight as a request is.
    _ticket: Ticket,
}

#[derive(Debug)]
enum End {
    Connection(Stream),
    Stream(Box<TokioIo<Upgraded>>),
}

/// The same, done by whichever end it is.
macro_rules! each {
    ($this:expr, $inner:ident => $do:expr) => {
        match &mut $this.stream {
            End::Connection($inner) => $do,
            End::Stream($inner) => $do,
        }
    };
}

impl AsyncRead for UpstreamEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.read.is_empty() {
            ready!(each!(self, stream => Pin::new(stream).poll_read(context, buffer)))?;
        } else {
            let length = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read[..length]);
            self.read.advance(length);
        }
        if let Some(meter) = &mut self.meter {
            meter.count(buffer.filled().len() - before, Now::read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}
