//! Bodies on their way through: never held whole, and pulled only as fast as the other side takes them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::headers;
use crate::refusal::Refusal;

/// Why a request body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's connection or stream failed.
    #[error("the client broke off: {0}")]
    Client(#[source] hyper::Error),
    /// It kept a limit from being kept.
    #[error("{}", .0.detail())]
    Refused(Refusal),
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Client(_) => Self::BodyInvalid,
            BodyError::Refused(refusal) => refusal,
        }
    }
}

/// How long a refused client may go on sending its body.
const LINGER: Duration = Duration::from_secs(5);

/// A request body within its limits of size and idleness, without its trailers: nothing that comes after the
/// headers were checked may add to them.
///
/// Clones share the one body: an attempt that sent nothing leaves it whole for the next, and the forwarder
/// can ask what became of it.
#[derive(Clone, Debug)]
pub struct RequestBody(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    body: Incoming,
    failure: Option<Refusal>,
    idle: Duration,
    remaining: u64,
    timer: Option<Pin<Box<Sleep>>>,
    upstreams_turn_since: Option<Instant>,
}

impl RequestBody {
    /// At most `limit` bytes of `body`, with at most `idle` between any two reads.
    pub fn new(body: Incoming, limit: u64, idle: Duration) -> Self {
        let upstreams_turn_since = Some(Instant::now());
        let state = State { body, failure: None, idle, remaining: limit, timer: None, upstreams_turn_since };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The refusal that the body ended in, if it did.
    pub fn failure(&self) -> Option<Refusal> {
        self.lock().failure
    }

    /// Since when the upstream has had all that the client sent; `None` while the client is to send.
    pub fn upstreams_turn_since(&self) -> Option<Instant> {
        self.lock().upstreams_turn_since
    }

    /// Takes what is left of the body, within its limits, and forgets it. A client that is refused while it still
    /// sends would otherwise meet a reset, and may never read why (RFC 9112, 9.6).
    pub fn linger(mut self) {
        if self.is_end_stream() || self.failure().is_some() {
            return;
        }
        tokio::spawn(async move {
            let rest = async { while let Some(Ok(_)) = self.frame().await {} };
            // Who takes longer is cut off.
            let _ = timeout(LINGER, rest).await;
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.lock().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}

impl State {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            self.upstreams_turn_since = None;
            let idle = self.idle;
            ready!(self.timer.get_or_insert_with(|| Box::pin(sleep(idle))).as_mut().poll(context));
            return Poll::Ready(Some(self.fail(Refusal::BodyTimeout)));
        };
        self.timer = None;
        self.upstreams_turn_since = Some(Instant::now());
        Poll::Ready(match frame.transpose().map_err(BodyError::Client) {
            Ok(frame) => frame.and_then(|frame| frame.into_data().ok()).map(|data| self.take(data)),
            Err(error) => {
                self.failure = Some(Refusal::BodyInvalid);
                Some(Err(error))
            }
        })
    }

    fn take(&mut self, data: Bytes) -> Result<Frame<Bytes>, BodyError> {
        match self.remaining.checked_sub(data.len() as u64) {
            Some(remaining) => {
                self.remaining = remaining;
                Ok(Frame::data(data))
            }
            None => self.fail(Refusal::BodyTooLarge),
        }
    }

    fn fail(&mut self, refusal: Refusal) -> Result<Frame<Bytes>, BodyError> {
        self.failure = Some(refusal);
        Err(BodyError::Refused(refusal))
    }
}

/// A response body, its trailers without hop-by-hop fields.
#[derive(Debug)]
pub struct ResponseBody(Incoming);

impl ResponseBody {
    /// Wraps what the upstream sends.
    pub fn new(body: Incoming) -> Self {
        Self(body)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::remove_hop_by_hop(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use http_body_util::{BodyExt, Empty};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncWriteExt, duplex};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn trailers_end_a_request_body_without_being_part_of_it() {
        let (mut client, server) = duplex(1024);
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let service = service_fn(|request: Request<Incoming>| {
            let sender = sender.clone();
            async move {
                let body = RequestBody::new(request.into_body(), 2, Duration::from_secs(10));
                sender.send(body.collect().await).unwrap();
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Auth-Subject: root\r\n\r\n";
        client.write_all(request).await.unwrap();
        let body = tokio::select! {
            body = receiver.recv() => body.unwrap().unwrap(),
            end = http1::Builder::new().serve_connection(TokioIo::new(server), service) => panic!("{end:?}"),
        };
        assert_eq!(body.trailers(), None);
        assert_eq!(&body.to_bytes()[..], b"ab");
    }
}
