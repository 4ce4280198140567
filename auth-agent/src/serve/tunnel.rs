//! A connection that was upgraded: bytes go both ways as they are, until either side ends or the credential does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::connections::OpenRequest;
use crate::proxy::Tunnel;

/// What a connection goes on as, if its request is answered with a switch of protocols.
pub(super) type Next = Mutex<Option<(Tunnel, Arc<OpenRequest>)>>;

/// Carries bytes until it is over; the reason, where that was not for either side to say.
pub(super) async fn run(tunnel: Tunnel, open: Arc<OpenRequest>, idle: Duration) -> Option<&'static str> {
    tokio::select! {
        reason = carry(tunnel, idle) => reason,
        why = open.cut_off() => Some(why.name()),
    }
}

async fn carry(tunnel: Tunnel, idle: Duration) -> Option<&'static str> {
    let (mut client, upstream) = match tunnel.ends().await {
        Ok(ends) => ends,
        Err(error) => {
            debug!(%error, "upgrade broke off");
            return None;
        }
    };
    let moved = Arc::new(Mutex::new(Instant::now()));
    let mut upstream = Moving { io: upstream, moved: Arc::clone(&moved) };
    tokio::select! {
        result = copy_bidirectional(&mut client, &mut upstream) => {
            if let Err(error) = result {
                debug!(%error, "upgraded connection failed");
            }
            None
        }
        () = stalled(&moved, idle) => Some("upgraded-idle"),
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
