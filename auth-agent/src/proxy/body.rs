//! Request bodies on their way through: never held whole, and pulled only as fast as the upstream takes them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use crate::connections::{Connection, OpenBody};
use crate::deadline::Deadline;
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

/// What a request body has to keep to.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Its length at most.
    pub bytes: u64,
    /// For how long it may be waited for before it has to keep up with `rate`.
    pub grace: Duration,
    /// Between any two reads, at most.
    pub idle: Duration,
    /// Bytes per second at least, until the upstream answers; 0: any.
    pub rate: u64,
}

/// How long a refused client may go on sending its body.
const LINGER: Duration = Duration::from_secs(5);

/// A request body within its limits, without its trailers: nothing that comes after the headers were checked may add to
/// them.
///
/// Clones share the one body: an attempt that sent nothing leaves it whole for the next, and the forwarder
/// can ask what became of it.
#[derive(Clone, Debug)]
pub struct RequestBody(
    /// Nothing where there is none, as with most requests.
    Option<Arc<Mutex<State>>>,
);

#[derive(Debug)]
struct State {
    /// The upstream has answered.
    answered: bool,
    body: Incoming,
    deadline: Option<Deadline>,
    failure: Option<Refusal>,
    /// It has come to its end.
    is_whole: bool,
    limits: BodyLimits,
    /// Until it has come to its end.
    open: Option<OpenBody>,
    taken: u64,
    upstreams_turn_since: Option<Instant>,
    /// For how long the client was waited for, and since when it is again.
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl RequestBody {
    /// `body`, within `limits`.
    pub fn new(body: Incoming, limits: BodyLimits) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        let state = State {
            answered: false,
            body,
            deadline: None,
            failure: None,
            is_whole: false,
            limits,
            open: None,
            taken: 0,
            upstreams_turn_since: Some(Instant::now()),
            waited: Duration::ZERO,
            waiting_since: None,
        };
        Self(Some(Arc::new(Mutex::new(state))))
    }

    /// None at all.
    pub fn empty() -> Self {
        Self(None)
    }

    /// Has `connection` know until when it is read.
    #[must_use]
    pub fn noted_by(self, connection: &Arc<Connection>) -> Self {
        if let Some(mut state) = self.lock() {
            state.open = Some(connection.open_body());
        }
        self
    }

    /// With other limits, before it is read.
    pub fn limit(&self, limits: BodyLimits) {
        if let Some(mut state) = self.lock() {
            state.limits = limits;
        }
    }

    /// The refusal that the body ended in, if it did.
    pub fn failure(&self) -> Option<Refusal> {
        self.lock()?.failure
    }

    /// Whether the upstream may have all of it.
    pub fn is_whole(&self) -> bool {
        self.lock().is_none_or(|state| state.is_whole)
    }

    /// Bytes of it that were read.
    pub fn taken(&self) -> u64 {
        self.lock().map_or(0, |state| state.taken)
    }

    /// Whether nothing of it was taken, so that it can be sent once more.
    pub fn is_untouched(&self) -> bool {
        self.lock().is_none_or(|state| state.taken == 0 && !state.is_whole && state.failure.is_none())
    }

    /// Notes that the upstream has answered: a body that still comes then is one half of a conversation.
    pub fn answered(&self) {
        if let Some(mut state) = self.lock() {
            state.answered = true;
        }
    }

    /// Since when the upstream has had all that the client sent; `None` while the client is to send. Of an empty body it
    /// is not told: the upstream has it from the start.
    pub fn upstreams_turn_since(&self) -> Option<Instant> {
        self.lock()?.upstreams_turn_since
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
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

    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.lock() {
            Some(mut state) => state.poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_none_or(|state| state.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().map_or_else(|| SizeHint::with_exact(0), |state| state.body.size_hint())
    }
}

impl State {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let refusal = ready!(self.poll_overdue(context));
            return Poll::Ready(Some(self.fail(refusal)));
        };
        self.deadline = None;
        let now = Instant::now();
        if let Some(since) = self.waiting_since.take() {
            self.waited += now - since;
        }
        self.upstreams_turn_since = Some(now);
        Poll::Ready(match frame.transpose().map_err(BodyError::Client) {
            Ok(frame) => {
                let data = frame.and_then(|frame| frame.into_data().ok());
                self.is_whole = data.is_none() || self.body.is_end_stream();
                if self.is_whole {
                    self.open.take().into_iter().for_each(OpenBody::end);
                }
                data.map(|data| self.take(data))
            }
            Err(error) => {
                self.failure = Some(Refusal::BodyInvalid);
                Some(Err(error))
            }
        })
    }

    /// Ready once the client has kept us waiting for too long; it is the client's turn.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        self.upstreams_turn_since = None;
        let now = Instant::now();
        let since = *self.waiting_since.get_or_insert(now);
        loop {
            let (left, refusal) = self.patience(now - since);
            let deadline = self.deadline.get_or_insert_with(|| Deadline::after(left));
            ready!(Pin::new(deadline).poll(context));
            self.deadline = None;
            let (left, _) = self.patience(Instant::now() - since);
            if left.is_zero() {
                return Poll::Ready(refusal);
            }
        }
    }

    /// How much longer the client is waited for that has been for `waiting`, and what it is refused for then.
    fn patience(&self, waiting: Duration) -> (Duration, Refusal) {
        let BodyLimits { grace, idle, rate, .. } = self.limits;
        let idle = (idle.saturating_sub(waiting), Refusal::BodyTimeout);
        if rate == 0 || self.answered {
            return idle;
        }
        let earned = Duration::from_millis(self.taken.saturating_mul(1000) / rate);
        let slow = grace.saturating_add(earned).saturating_sub(self.waited.saturating_add(waiting));
        if slow < idle.0 { (slow, Refusal::BodySlow) } else { idle }
    }

    fn take(&mut self, data: Bytes) -> Result<Frame<Bytes>, BodyError> {
        self.taken = self.taken.saturating_add(data.len() as u64);
        if self.taken > self.limits.bytes {
            return self.fail(Refusal::BodyTooLarge);
        }
        Ok(Frame::data(data))
    }

    fn fail(&mut self, refusal: Refusal) -> Result<Frame<Bytes>, BodyError> {
        self.failure = Some(refusal);
        Err(BodyError::Refused(refusal))
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
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;

    const LIMITS: BodyLimits =
        BodyLimits { bytes: 2, grace: Duration::from_secs(60), idle: Duration::from_secs(10), rate: 0 };

    /// What becomes of a body within `limits`, while `client` sends the request.
    async fn read<F: Future<Output = ()>>(
        limits: BodyLimits,
        client: impl FnOnce(DuplexStream) -> F,
    ) -> Result<http_body_util::Collected<Bytes>, BodyError> {
        let (ours, server) = duplex(1024);
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let service = service_fn(|request: Request<Incoming>| {
            let sender = sender.clone();
            async move {
                let body = RequestBody::new(request.into_body(), limits);
                sender.send(body.collect().await).unwrap();
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let served = async {
            tokio::join!(client(ours), http1::Builder::new().serve_connection(TokioIo::new(server), service))
        };
        tokio::select! {
            body = receiver.recv() => body.unwrap(),
            end = served => panic!("{end:?}"),
        }
    }

    #[tokio::test]
    async fn trailers_end_a_request_body_without_being_part_of_it() {
        let request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Auth-Subject: root\r\n\r\n";
        let client = async |mut stream: DuplexStream| {
            stream.write_all(request).await.unwrap();
            std::future::pending::<()>().await;
        };
        let body = read(LIMITS, client).await.unwrap();
        assert_eq!(body.trailers(), None);
        assert_eq!(&body.to_bytes()[..], b"ab");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_byte_by_byte_is_refused_once_its_grace_is_used_up() {
        let limits = BodyLimits { bytes: 1000, grace: Duration::from_secs(20), rate: 10, ..LIMITS };
        for (pause, expected) in
            [(50, None), (5_000, Some(Refusal::BodySlow)), (11_000, Some(Refusal::BodyTimeout))]
        {
            let client = async |mut stream: DuplexStream| {
                stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n").await.unwrap();
                for _ in 0..100 {
                    sleep(Duration::from_millis(pause)).await;
                    // It may have been refused.
                    let _ = stream.write_all(b"x").await;
                }
                std::future::pending::<()>().await;
            };
            let refusal = read(limits, client).await.err().map(Refusal::from);
            assert_eq!(refusal, expected, "{pause}");
        }
    }
}
