//! What the requests of one connection share.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::rt::Executor as _;

use super::activity::{Activity, Watched};
use super::http2::Streams;
use super::{Settings, Shared, tunnel};
use crate::connections::OpenRequest;
use crate::gateway::{AnswerBody, Now, Peer};
use crate::proxy::Tunnel;

/// One connection, as its requests see it.
pub(super) struct Session {
    pub(super) activity: Arc<Activity>,
    /// What held when it was accepted.
    pub(super) settings: Arc<Settings>,
    closing: AtomicBool,
    next: tunnel::Next,
    peer: Peer,
    shared: Arc<Shared>,
    /// Of a connection that speaks HTTP/2.
    streams: OnceLock<Streams>,
}

impl Session {
    pub(super) fn new(peer: Peer, settings: Arc<Settings>, shared: Arc<Shared>) -> Arc<Self> {
        let (closing, next) = (AtomicBool::new(false), tunnel::Next::default());
        let (activity, streams) = (Activity::new(), OnceLock::new());
        Arc::new(Self { activity, settings, closing, next, peer, shared, streams })
    }

    /// From now on, each answer is the last one. For HTTP/1.1; HTTP/2 says so with a frame of its own.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Whether what comes next is a request.
    pub(super) fn has_read_bodies(&self) -> bool {
        self.peer.connection.has_read_bodies()
    }

    /// Notes whether the connection waits for its client without buffers.
    pub(super) fn rest(&self, resting: bool) {
        self.peer.connection.rest(resting);
    }

    /// From now on, a stream that switches protocols goes on among these, and not as the whole connection.
    pub(super) fn has_streams(&self, streams: Streams) {
        // There are no others.
        let _ = self.streams.set(streams);
    }

    /// What the connection goes on as, if it does.
    pub(super) fn next(&self) -> Option<(Tunnel, Arc<OpenRequest>)> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Watched<AnswerBody>>, Infallible> {
        let open = Arc::new(self.peer.connection.begin());
        let exchange = self.activity.begin();
        let mut response = self.shared.gateway.answer(&self.peer, &open, request, Now::read()).await;
        if let Some(tunnel) = response.extensions_mut().remove() {
            self.go_on(tunnel, Arc::clone(&open));
        } else if self.is_closing() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let forwarded = matches!(response.body().body(), Either::Right(_));
        Ok(response.map(|body| Watched::new(body, exchange, open, forwarded)))
    }

    /// As what the response to `open` switches to: with a connection of HTTP/1.1, or with one stream of HTTP/2.
    fn go_on(self: &Arc<Self>, tunnel: Tunnel, open: Arc<OpenRequest>) {
        let Some(streams) = self.streams.get() else {
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some((tunnel, open));
            return;
        };
        let (exchange, session) = (self.activity.begin(), Arc::clone(self));
        streams.execute(async move {
            let idle = session.settings.timeouts.upgraded_idle;
            if let Some(reason) = tunnel::run_stream(tunnel, &open, idle).await {
                session.shared.gateway.counters().closed.count(reason);
            }
            drop((exchange, open));
        });
    }
}
