//! What the requests of one connection share.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;

use super::activity::{Activity, Watched};
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
}

impl Session {
    pub(super) fn new(peer: Peer, settings: Arc<Settings>, shared: Arc<Shared>) -> Arc<Self> {
        let (closing, next) = (AtomicBool::new(false), tunnel::Next::default());
        Arc::new(Self { activity: Activity::new(), settings, closing, next, peer, shared })
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
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some((tunnel, Arc::clone(&open)));
        } else if self.is_closing() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let forwarded = matches!(response.body(), Either::Right(_));
        Ok(response.map(|body| Watched::new(body, exchange, open, forwarded)))
    }
}
