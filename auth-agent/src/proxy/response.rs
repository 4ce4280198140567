//! Response bodies on their way through. A body that still comes carries the connection that it comes over, and drives
//! it; the connection goes back as soon as it is idle again, and is closed if the body is dropped before.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::endpoint::Ticket;
use super::link::{self, Link};
use super::multiplex;
use super::{RequestBody, Tunnel};
use crate::clock::Now;
use crate::deadline::Deadline;
use crate::headers;
use crate::limits::Meter;

/// Why a response body broke off.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// The upstream did.
    #[error("the upstream broke off: {0}")]
    Broken(#[source] hyper::Error),
    /// Nothing came for `timeouts.upstream_idle`.
    #[error("the upstream stopped sending")]
    Idle,
    /// It was not over within the route's `timeouts.request`.
    #[error("the response took longer than its route allows")]
    Overdue,
}

/// What a response comes over.
#[derive(Debug)]
pub(super) struct Source {
    /// Over HTTP/1.1, as long as it is needed.
    pub link: Option<Link>,
    /// Over HTTP/2.
    pub place: Option<multiplex::Place>,
    pub ticket: Ticket,
}

/// A response body, its trailers without hop-by-hop fields.
#[derive(Debug)]
pub struct ResponseBody {
    body: Incoming,
    idle: Duration,
    /// Counts the bytes against limits.
    meter: Option<Box<Meter>>,
    /// The request's, where it was answered before it was sent whole.
    request: Option<RequestBody>,
    /// Gone when nothing more is needed of it.
    source: Option<Source>,
    waiting: Option<Deadline>,
    whole: Option<Deadline>,
}

/// Has what the client gets counted as it passes: the body, or what comes of a switch of protocols, which has none.
pub fn metered(response: Response<ResponseBody>, meter: Option<Box<Meter>>) -> Response<ResponseBody> {
    match response.extensions().get::<Tunnel>() {
        Some(tunnel) => {
            tunnel.meter(meter);
            response
        }
        None => response.map(|body| ResponseBody { meter, ..body }),
    }
}

impl ResponseBody {
    /// What comes from `source`, with at most `idle` between two reads, in answer to `request`, and over before `whole`.
    pub(super) fn new(
        body: Incoming,
        source: Source,
        request: RequestBody,
        idle: Duration,
        whole: Option<Deadline>,
    ) -> Self {
        let request = (!request.is_whole()).then_some(request);
        let mut this = Self { body, idle, meter: None, request, source: Some(source), waiting: None, whole };
        this.settle();
        this
    }

    /// The body of a response that switches protocols: there is none.
    pub(super) fn of_a_switch(body: Incoming) -> Self {
        Self {
            body,
            idle: Duration::MAX,
            meter: None,
            request: None,
            source: None,
            waiting: None,
            whole: None,
        }
    }

    /// Lets go of what is no longer needed.
    fn settle(&mut self) {
        let Some(source) = &mut self.source else { return };
        if source.link.as_ref().is_some_and(Link::is_idle) {
            let link = source.link.take();
            // What was answered early may be read by the endpoint as something else than it was.
            if let Some(link) = link.filter(|_| self.request.is_none()) {
                source.ticket.endpoint().keep(link);
            }
        }
        // Over HTTP/2, the request is in flight until its body has ended.
        if source.link.is_none() && source.place.is_none() || self.body.is_end_stream() {
            self.source = None;
        }
        if self.body.is_end_stream() {
            self.end();
        }
    }

    /// To be called when the whole response was read.
    fn end(&mut self) {
        self.source = None;
        // All of it is charged before its client can ask for more.
        self.meter = None;
        if let Some(request) = self.request.take() {
            // Its client may still be sending.
            request.linger();
        }
    }

    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<ResponseError> {
        let idle = self.idle;
        let waiting = self.waiting.get_or_insert_with(|| Deadline::after(idle));
        ready!(Pin::new(waiting).poll(context));
        Poll::Ready(ResponseError::Idle)
    }

    fn fail(&mut self, error: ResponseError) -> Result<Frame<Bytes>, ResponseError> {
        if let Some(source) = self.source.take() {
            source.ticket.endpoint().broke_off(&error);
        }
        Err(error)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let this = &mut *self;
        if let Some(whole) = &mut this.whole
            && Pin::new(whole).poll(context).is_ready()
        {
            return Poll::Ready(Some(this.fail(ResponseError::Overdue)));
        }
        let polled = match &mut this.source {
            Some(source) => link::poll_body(&mut this.body, &mut source.link, context),
            None => Pin::new(&mut this.body).poll_frame(context),
        };
        let Poll::Ready(frame) = polled else {
            let error = ready!(this.poll_overdue(context));
            return Poll::Ready(Some(this.fail(error)));
        };
        this.waiting = None;
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let (Some(meter), Some(data)) = (&mut this.meter, frame.data_ref()) {
                    meter.count(data.len(), Now::read);
                }
                if let Some(trailers) = frame.trailers_mut() {
                    headers::remove_hop_by_hop(trailers);
                }
                this.settle();
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(this.fail(ResponseError::Broken(error))),
            None => {
                this.settle();
                this.end();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
