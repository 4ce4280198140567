//! The body of an answer, counted on its way where its request is logged.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http_body::{Body, Frame, SizeHint};

use super::Logged;

/// A body, and the line of its request in the log, which is written with its end.
pub struct Counted<B> {
    body: B,
    logged: Option<Logged>,
}

impl<B: Body> Counted<B> {
    /// A body whose request is logged with its end.
    pub fn new(body: B, mut logged: Option<Logged>) -> Self {
        if let Some(logged) = logged.as_mut().filter(|_| !body.is_end_stream()) {
            logged.broke_off();
        }
        Self { body, logged }
    }

    /// The body itself.
    pub fn body(&self) -> &B {
        &self.body
    }
}

impl<B> From<B> for Counted<B> {
    fn from(body: B) -> Self {
        Self { body, logged: None }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(logged) = &mut this.logged {
            let bytes = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.remaining()),
                Some(Err(_)) | None => 0,
            };
            logged.sent(bytes as u64);
            if frame.is_none() || this.body.is_end_stream() {
                logged.ended();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
