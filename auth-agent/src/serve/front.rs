//! The TLS stream of a connection, with what was read of it ahead, and whether all that was written has gone out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::socket::Socket;

/// So much is read of a connection that was idle, before it gets buffers again.
const FIRST_BYTES: usize = 64;

/// A client's stream.
#[derive(Debug)]
pub(super) struct Front {
    activity: Arc<Activity>,
    ahead: Bytes,
    stream: Box<TlsStream<Socket>>,
}

impl Front {
    pub(super) fn new(stream: Box<TlsStream<Socket>>, activity: Arc<Activity>) -> Self {
        Self { activity, ahead: Bytes::new(), stream }
    }

    /// Puts back what was read. Copied: it lies in a buffer that would stay with it, also where nothing is left in it.
    pub(super) fn unread(mut self, ahead: &[u8]) -> Self {
        self.ahead = Bytes::copy_from_slice(ahead);
        self
    }

    /// Waits for the client, without a buffer to speak of. Whether it sent something: else it is gone.
    pub(super) async fn wakes(&mut self) -> io::Result<bool> {
        if self.ahead.is_empty() {
            let mut first = [0; FIRST_BYTES];
            let length = self.stream.read(&mut first).await?;
            self.ahead = Bytes::copy_from_slice(&first[..length]);
        }
        Ok(!self.ahead.is_empty())
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TlsStream<Socket>> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Front {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Front {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.note_unsent(true);
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(self.as_mut().stream().poll_flush(context));
        self.activity.note_unsent(false);
        Poll::Ready(result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.note_unsent(true);
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
