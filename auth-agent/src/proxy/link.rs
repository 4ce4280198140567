//! One HTTP/1.1 connection to an endpoint, driven by whoever uses it: the request's own future, then its response's
//! body. It has no task, and nothing about it goes through a channel to another one.
//!
//! Invariant: a link goes back only when it stands between two messages: the whole request was sent, the whole response
//! was read, both sides keep the connection, and nothing came unasked. What has been answered early, cut off or left
//! unread is closed.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::unconstrained;

use super::RequestBody;
use super::connect::Stream;
use super::upgrade::SWITCHING_PROTOCOLS;

/// What one connection may buffer of a response, header fields included.
pub(super) const READ_BUFFER_BYTES: usize = 128 << 10;

type Connection = http1::Connection<TokioIo<Stream>, RequestBody>;

/// A connection.
pub(super) struct Link(Box<Inner>);

struct Inner {
    connection: Connection,
    sender: SendRequest<RequestBody>,
}

/// What became of a request.
pub(super) enum Sent {
    /// It is answered. The link is gone where the connection ended with that.
    Answered(Response<Incoming>, Option<Link>),
    /// It, or its answer, broke off.
    Lost(hyper::Error),
    /// The connection had ended before: not a byte was sent.
    Unsent(Request<RequestBody>),
}

impl Link {
    /// Over a connection that was just made.
    pub async fn new(stream: Stream) -> hyper::Result<Self> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER_BYTES).handshake(TokioIo::new(stream)).await?;
        Ok(Self(Box::new(Inner { connection, sender })))
    }

    /// Sends a request and waits for the head of its answer. An idle connection that was closed, or on which something
    /// came unasked, shows that before the first byte is written. Dropped, it takes the connection with it.
    pub async fn send(mut self, request: Request<RequestBody>) -> Sent {
        let mut answer = pin!(unconstrained(self.0.sender.try_send_request(request)));
        let mut link = Some(self);
        let mut is_first = true;
        std::future::poll_fn(move |context| {
            // It has no other waker than ours: the answer can only come out of the connection. The first poll that
            // brings it must leave no waker behind, as taking the body out would wake this very task.
            let wakers = [Waker::noop(), context.waker()];
            for waker in &wakers[usize::from(is_first)..] {
                let quiet = &mut Context::from_waker(Waker::noop());
                let has_ended = match &mut link {
                    Some(link) => link.poll(&mut Context::from_waker(waker)).is_ready(),
                    None => false,
                };
                let mut outcome = answer.as_mut().poll(quiet);
                if has_ended {
                    let ended = link.take();
                    if outcome.is_pending() {
                        // What it had not begun, it gives back now.
                        drop(ended);
                        outcome = answer.as_mut().poll(quiet);
                    } else if matches!(&outcome, Poll::Ready(Ok(response)) if is_switch(response)) {
                        link = ended;
                    }
                }
                if let Poll::Ready(outcome) = outcome {
                    return Poll::Ready(match outcome {
                        Ok(response) => Sent::Answered(response, link.take()),
                        Err(mut error) => match error.take_message() {
                            Some(request) => Sent::Unsent(request),
                            None => Sent::Lost(error.into_error()),
                        },
                    });
                }
            }
            is_first = false;
            Poll::Pending
        })
        .await
    }

    /// Whether it stands between two messages.
    pub fn is_idle(&self) -> bool {
        self.0.sender.is_ready() && !self.0.sender.is_closed()
    }

    /// Goes on with what is to be read and written; ready when the connection is over.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.connection.poll_without_shutdown(context)
    }

    /// Whether an idle connection can't be used any more.
    pub fn is_over(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// The connection itself, once HTTP is over on it, and what was read of what comes after.
    pub fn into_stream(self) -> (Stream, Bytes) {
        let parts = self.0.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

fn is_switch(response: &Response<Incoming>) -> bool {
    response.status() == SWITCHING_PROTOCOLS
}

/// Reads a body that comes over `link`, which is gone when the connection is over.
pub(super) fn poll_body(
    body: &mut Incoming,
    link: &mut Option<Link>,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let quiet = &mut Context::from_waker(Waker::noop());
    // As with the head: what is there already is taken without leaving a waker behind.
    let mut wakers = [Waker::noop(), context.waker()].into_iter();
    while let Some(driven) = link {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(quiet) {
            return Poll::Ready(frame);
        }
        let Some(waker) = wakers.next() else { return Poll::Pending };
        if driven.poll(&mut Context::from_waker(waker)).is_ready() {
            // All that will come has come.
            *link = None;
        }
    }
    Pin::new(body).poll_frame(context)
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").finish_non_exhaustive()
    }
}
