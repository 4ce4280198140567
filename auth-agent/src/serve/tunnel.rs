//! A connection that was upgraded: bytes go both ways as they are, until either side ends or the credential does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::GOODBYE;
use crate::connections::OpenRequest;
use crate::proxy::{Tunnel, UpstreamEnd};

/// What a connection goes on as, if its request is answered with a switch of protocols.
pub(super) type Next = Mutex<Option<(Tunnel, Arc<OpenRequest>)>>;

/// Carries bytes until it is over; the reason, where that was not for either side to say.
pub(super) async fn run(tunnel: Tunnel, open: Arc<OpenRequest>, idle: Duration) -> Option<&'static str> {
    let (mut client, upstream) = ends(tunnel).await?;
    carry(&mut client, upstream, &open, idle).await
}

/// The same for one stream of an HTTP/2 connection. It is open until its client has taken what is on its way: who takes
/// nothing is known by that.
pub(super) async fn run_stream(tunnel: Tunnel, open: &OpenRequest, idle: Duration) -> Option<&'static str> {
    let (client, upstream) = ends(tunnel).await?;
    let mut client = Resettable { ended: Ended::No, stream: client };
    let reason = carry(&mut client, upstream, open, idle).await;
    let _ = timeout(GOODBYE, client.shutdown()).await;
    reason
}

async fn ends(tunnel: Tunnel) -> Option<(TokioIo<Upgraded>, UpstreamEnd)> {
    tunnel.ends().await.inspect_err(|error| debug!(%error, "upgrade broke off")).ok()
}

async fn carry(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    upstream: UpstreamEnd,
    open: &OpenRequest,
    idle: Duration,
) -> Option<&'static str> {
    let moved = Arc::new(Mutex::new(Instant::now()));
    let mut upstream = Moving { io: upstream, moved: Arc::clone(&moved) };
    tokio::select! {
        result = copy_bidirectional(client, &mut upstream) => {
            if let Err(error) = result {
                debug!(%error, "upgraded connection failed");
            }
            None
        }
        () = stalled(&moved, idle) => Some("upgraded-idle"),
        why = open.cut_off() => Some(why.name()),
    }
}

async fn stalled(moved: &Mutex<Instant>, idle: Duration) {
    loop {
        let deadline = *moved.lock().unwrap_or_else(PoisonError::into_inner) + idle;
        if deadline <= Instant::now() {
            return;
        }
        sleep_until(deadline).await;
    }
}

/// Notes when bytes last went through.
struct Moving<T> {
    io: T,
    moved: Arc<Mutex<Instant>>,
}

impl<T: Unpin> Moving<T> {
    fn noted<R>(
        mut self: Pin<&mut Self>,
        poll: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let result = poll(Pin::new(&mut self.io));
        if result.is_ready() {
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Moving<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.noted(|io| io.poll_read(context, buffer))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Moving<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.noted(|io| io.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A stream of HTTP/2 whose reset is an error. hyper reads a reset with CANCEL as an end in good order, after which the
/// other side may go on; but it is the reset of a TCP connection (RFC 8441, 5), which ends both.
struct Resettable<T> {
    ended: Ended,
    stream: T,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Ended {
    No,
    /// It was read to its end a moment ago.
    Now,
    Yes,
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Resettable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.ended {
            Ended::No => {
                let (before, room) = (buffer.filled().len(), buffer.remaining());
                ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
                if buffer.filled().len() > before || room == 0 {
                    return Poll::Ready(Ok(()));
                }
                // Whoever writes learns of a reset, too, but not before its turn.
                this.ended = Ended::Now;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Ended::Now => {
                this.ended = Ended::Yes;
                match Pin::new(&mut this.stream).poll_flush(context) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
                }
            }
            Ended::Yes => Poll::Ready(Ok(())),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Resettable<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
