//! One request and its answer: to the endpoint whose turn it is, over a connection that is there or a new one, and once
//! more where that is safe.
//!
//! Invariant: a request that an endpoint may have acted on is sent again only if its method says that this does no harm
//! and it has no body; one that no endpoint has seen, only if nothing of its body was taken.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, HOST, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use tracing::warn;

use super::balance::Candidate;
use super::connect::{ConnectError, Stream};
use super::ejection::Failure;
use super::endpoint::{Endpoint, Speaks};
use super::group::{Group, Pick};
use super::link::{Link, Sent};
use super::response::Source;
use super::retry::{Spent, is_idempotent};
use super::upgrade::Offer;
use super::{RequestBody, error_chain, multiplex};
use crate::config::Route;
use crate::deadline::Deadline;
use crate::explain::Trail;
use crate::refusal::Refusal;
use crate::request::Canonical;

/// Endpoints that are tried until one can be connected to.
const MOST_CONNECTS: usize = 3;

/// What one request needs on its way.
pub(super) struct Exchange<'e> {
    pub body: &'e RequestBody,
    pub canonical: &'e Canonical,
    pub group: &'e Group,
    /// Who it is that asks, for the balance.
    pub key: u64,
    /// It offers to switch protocols, which HTTP/1.1 can, and HTTP/2 for WebSocket alone.
    pub offer: Option<&'e Offer>,
    pub route: &'e Route,
    pub trail: &'e Trail,
}

/// What an endpoint answered, and over what.
pub(super) type Answer = (Response<Incoming>, Source);

/// An answer, and what is left of the connection.
struct Reply {
    link: Option<Link>,
    place: Option<multiplex::Place>,
    response: Response<Incoming>,
}

/// Why there is no answer.
struct Failed {
    /// What went wrong at the endpoint; nothing, where it was the client.
    failure: Option<Failure>,
    refusal: Refusal,
    seen: Seen,
    why: String,
}

/// Whether a request reached an endpoint.
enum Seen {
    /// It may have.
    Maybe,
    /// Nothing was sent.
    Nothing(Box<Request<RequestBody>>),
    /// It did, and the endpoint says that it has not looked at it.
    Refused,
}

/// The tries of one request.
struct Tries {
    /// How many more there may be.
    left: u8,
    /// What the last one came to.
    refusal: Option<Refusal>,
    /// The endpoints that can't be connected to.
    tried: Vec<u64>,
}

impl Exchange<'_> {
    /// The answer, or the refusal that the client gets.
    pub async fn run(&self, parts: Parts) -> Result<Answer, Refusal> {
        let mut request = Request::from_parts(parts, self.body.clone());
        let mut tries = Tries { left: self.route.retries.attempts, refusal: None, tried: Vec::new() };
        let (mut reserved, mut spent) = (None, None);
        loop {
            let ticket = match reserved.take() {
                Some(ticket) => ticket,
                // What the first try came to says more than that there is no other endpoint.
                None => match self.group.admit(&tries.tried, self.key).await {
                    Ok(ticket) => ticket,
                    Err(refusal) => return Err(tries.refusal.unwrap_or(refusal)),
                },
            };
            let spare = self.spare(&request, ticket.endpoint(), &tries);
            let outcome = self.attempt(ticket.endpoint(), request, tries.refusal.is_some()).await;
            drop(spent.take());
            let (outcome, again) = self.judge(&mut tries, ticket.endpoint(), outcome, spare);
            // An answer is given up only where another can be asked for at once.
            if again.is_some()
                && outcome.is_ok()
                && let Pick::Picked(next) = self.group.pick(&tries.tried, self.key)
            {
                reserved = Some(next);
            }
            if let Some(next) = again
                && (outcome.is_err() || reserved.is_some())
                && let Some(budget) = self.budget()
            {
                tries.refusal = outcome.err();
                spent = Some(budget);
                request = next;
                continue;
            }
            let Reply { link, place, response } = outcome?;
            return Ok((response, Source { link, place, ticket }));
        }
    }

    /// Leave for one more try.
    fn budget(&self) -> Option<Spent<'_>> {
        let counts = &self.group.report;
        let budget = self.group.retries.take(self.group.in_flight());
        let counter = if budget.is_some() { &counts.retries } else { &counts.retries_refused };
        counter.fetch_add(1, Relaxed);
        budget
    }

    /// The same request once more, where it could be sent again.
    fn spare(
        &self,
        request: &Request<RequestBody>,
        endpoint: &Endpoint,
        tries: &Tries,
    ) -> Option<Request<RequestBody>> {
        let could_be_refused = endpoint.speaks != Speaks::Http1;
        if tries.left == 0 || !could_be_refused && !self.is_harmless(request.method()) {
            return None;
        }
        let mut spare = Request::new(self.body.clone());
        *spare.method_mut() = request.method().clone();
        *spare.uri_mut() = request.uri().clone();
        *spare.version_mut() = request.version();
        *spare.headers_mut() = request.headers().clone();
        Some(spare)
    }

    /// Whether it does no harm if two endpoints act on the request.
    fn is_harmless(&self, method: &Method) -> bool {
        self.body.is_empty() && is_idempotent(method)
    }

    /// Notes what a try came to; with the request for the next one, where that is worth it.
    fn judge(
        &self,
        tries: &mut Tries,
        endpoint: &Arc<Endpoint>,
        outcome: Result<Reply, Failed>,
        spare: Option<Request<RequestBody>>,
    ) -> (Result<Reply, Refusal>, Option<Request<RequestBody>>) {
        let harmless = |spare: &Request<RequestBody>| self.is_harmless(spare.method());
        match outcome {
            Ok(reply) => {
                let status = reply.response.status().as_u16();
                if GATEWAY_ERRORS.contains(&status) {
                    self.group.failed(endpoint, Failure::Gateway, format!("answered {status}"));
                } else {
                    endpoint.succeeded();
                }
                let asked_for = self.route.retries.statuses.contains(&status);
                let again = spare.filter(|spare| asked_for && harmless(spare));
                tries.left -= u8::from(again.is_some());
                (Ok(reply), again)
            }
            Err(Failed { failure, refusal, seen, why }) => {
                if let Some(failure) = failure {
                    let upstream = &self.group.settings.upstream.name;
                    warn!(%upstream, endpoint = %endpoint.label, error = %why, "upstream failed");
                    self.group.failed(endpoint, failure, why);
                }
                let again = match seen {
                    Seen::Nothing(request) => {
                        tries.tried.push(endpoint.mark());
                        (tries.tried.len() < MOST_CONNECTS).then_some(*request)
                    }
                    seen => {
                        let refused = matches!(seen, Seen::Refused) && self.body.is_untouched();
                        let lost = failure.is_some() && refusal != Refusal::UpstreamTimeout;
                        let again = spare.filter(|spare| refused || lost && harmless(spare));
                        tries.left -= u8::from(again.is_some());
                        again
                    }
                };
                (Err(refusal), again)
            }
        }
    }

    /// One try: over a connection that is idle, unless it is to be a `fresh` one, or over a new one.
    async fn attempt(
        &self,
        endpoint: &Endpoint,
        mut request: Request<RequestBody>,
        fresh: bool,
    ) -> Result<Reply, Failed> {
        endpoint.counts.requests.fetch_add(1, Relaxed);
        self.trail.asked(&endpoint.label);
        let speaks = endpoint.speaks(self.offer.is_some());
        if speaks == Speaks::Http2 {
            return Box::pin(self.over_http2(endpoint, speaks, request)).await;
        }
        self.address_http1(&mut request);
        while !fresh && let Some(link) = endpoint.take_idle() {
            match self.in_time(link.send(request)).await? {
                Sent::Unsent(unsent) => request = unsent,
                sent => return self.reply(sent, None),
            }
        }
        // What a request seldom needs is not to make room for in each.
        Box::pin(async move {
            if speaks == Speaks::Either {
                return self.over_http2(endpoint, speaks, request).await;
            }
            self.over_new_http1(endpoint, request).await
        })
        .await
    }

    async fn over_new_http1(
        &self,
        endpoint: &Endpoint,
        request: Request<RequestBody>,
    ) -> Result<Reply, Failed> {
        match endpoint.connect(Speaks::Http1, self.group.settings.connect).await {
            Ok(stream) => self.over_http1(stream, request).await,
            Err(error) => Err(Failed::connect(&error, request)),
        }
    }

    async fn over_http1(&self, stream: Stream, request: Request<RequestBody>) -> Result<Reply, Failed> {
        let link = Link::new(stream).await.map_err(|error| Failed::lost(&error))?;
        let sent = self.in_time(link.send(request)).await?;
        self.reply(sent, None)
    }

    /// Over a connection that others use too; where TLS does not agree to HTTP/2, over one of HTTP/1.1.
    async fn over_http2(
        &self,
        endpoint: &Endpoint,
        speaks: Speaks,
        mut request: Request<RequestBody>,
    ) -> Result<Reply, Failed> {
        let connections = endpoint.multiplexed.get_or_default();
        let most = self.group.settings.upstream.streams.get();
        // A connection may end between the look at it and the first byte.
        for _ in 0..MOST_CONNECTS {
            let mut place = match connections.stream(most) {
                Some(place) => place,
                None => {
                    let turn = match connections.turn(self.group.settings.connect).await {
                        Ok(turn) => turn,
                        Err(error) => return Err(Failed::connect(&error, request)),
                    };
                    match connections.stream(most) {
                        Some(place) => place,
                        // Whoever had the turn before has learnt it.
                        None if endpoint.speaks(false) != speaks => {
                            drop(turn);
                            return self.over_new_http1(endpoint, request).await;
                        }
                        None => match endpoint.connect(speaks, turn.left).await {
                            Err(error) => return Err(Failed::connect(&turn.failed(error), request)),
                            Ok(stream) if stream.agreed_to_http2() == Some(false) => {
                                if speaks == Speaks::Http2 {
                                    let error = turn.failed(ConnectError::Protocol);
                                    return Err(Failed::connect(&error, request));
                                }
                                endpoint.learn_http1();
                                drop(turn);
                                return self.over_http1(stream, request).await;
                            }
                            Ok(stream) => {
                                connections.open(stream, most).await.map_err(|error| Failed::lost(&error))?
                            }
                        },
                    }
                }
            };
            self.address_http2(endpoint, &mut request)?;
            self.extend(&place, &mut request).await?;
            match self.in_time(place.send(request)).await {
                // It may never have been sent.
                Err(overdue) if place.is_beyond() => return Err(Failed { failure: None, ..overdue }),
                Err(overdue) => return Err(overdue),
                Ok(Sent::Unsent(unsent)) => request = unsent,
                Ok(sent) => return self.reply(sent, Some(place)),
            }
        }
        Err(Failed::connect(&ConnectError::Refused(io::ErrorKind::ConnectionReset.into()), request))
    }

    /// What became of a request that was sent.
    fn reply(&self, sent: Sent, place: Option<multiplex::Place>) -> Result<Reply, Failed> {
        match sent {
            Sent::Answered(response, link) => Ok(Reply { link, place, response }),
            Sent::Lost(error) => Err(match self.body.failure() {
                Some(refusal) => Failed { failure: None, refusal, seen: Seen::Maybe, why: String::new() },
                None => Failed::lost(&error),
            }),
            Sent::Unsent(request) => {
                let reset = ConnectError::Refused(io::ErrorKind::ConnectionReset.into());
                Err(Failed::connect(&reset, request))
            }
        }
    }

    /// The outcome, unless the upstream takes longer than the route allows.
    async fn in_time(&self, sent: impl Future<Output = Sent>) -> Result<Sent, Failed> {
        tokio::select! {
            biased;
            sent = sent => Ok(sent),
            () = Overdue::new(self.body, self.route.timeouts.response) => Err(Failed::overdue()),
        }
    }

    /// As HTTP/1.1 has it; it is so from the start.
    fn address_http1(&self, request: &mut Request<RequestBody>) {
        if request.version() == Version::HTTP_11 {
            return;
        }
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(self.canonical.target().clone());
        request.headers_mut().insert(HOST, self.canonical.host().clone());
        if let Some(offer) = self.offer {
            offer.fold(request);
            offer.pass_on(request.headers_mut());
        }
    }

    /// As HTTP/2 has it (RFC 9113, 8.2.2 and 8.3.1).
    fn address_http2(&self, endpoint: &Endpoint, request: &mut Request<RequestBody>) -> Result<(), Failed> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(if endpoint.is_tls() { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Authority::try_from(self.canonical.host().as_bytes()).ok();
        uri.path_and_query = Some(self.canonical.target().clone());
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Failed {
            failure: None,
            refusal: Refusal::HostInvalid,
            seen: Seen::Maybe,
            why: String::new(),
        })?;
        *request.version_mut() = Version::HTTP_2;
        for name in [CONNECTION, HOST, UPGRADE] {
            request.headers_mut().remove(name);
        }
        Ok(())
    }

    /// Passes an offer on over HTTP/2, if it is one for WebSocket and the endpoint takes those. Of a connection it may be
    /// ignored, as any upgrade.
    async fn extend(
        &self,
        place: &multiplex::Place,
        request: &mut Request<RequestBody>,
    ) -> Result<(), Failed> {
        let Some(offer) = self.offer.filter(|offer| offer.is_for_websocket()) else { return Ok(()) };
        offer.fold(request);
        if place.takes_websockets().await {
            offer.extend(request);
        } else if offer.is_stream() {
            let upstream = &self.group.settings.upstream.name;
            warn!(%upstream, "takes no WebSockets over HTTP/2; set its `protocol` to \"http1\"");
            let (refusal, why) = (Refusal::UpstreamNoUpgrade, String::new());
            return Err(Failed { failure: None, refusal, seen: Seen::Maybe, why });
        }
        Ok(())
    }
}

/// Statuses by which a server tells that it is not fit to answer.
const GATEWAY_ERRORS: [u16; 3] = [502, 503, 504];

impl Failed {
    fn connect(error: &ConnectError, request: Request<RequestBody>) -> Self {
        Self {
            failure: (!matches!(error, ConnectError::Late)).then_some(Failure::Connect),
            refusal: if error.is_timeout() { Refusal::UpstreamTimeout } else { Refusal::UpstreamUnreachable },
            seen: Seen::Nothing(Box::new(request)),
            why: format!("can't connect: {error}"),
        }
    }

    fn lost(error: &hyper::Error) -> Self {
        let seen = if multiplex::was_refused(error) { Seen::Refused } else { Seen::Maybe };
        let why = error_chain(error);
        Self { failure: Some(Failure::Exchange), refusal: Refusal::UpstreamInvalid, seen, why }
    }

    fn overdue() -> Self {
        Self {
            failure: Some(Failure::Exchange),
            refusal: Refusal::UpstreamTimeout,
            seen: Seen::Maybe,
            why: "no answer in time".to_owned(),
        }
    }
}

/// Completes once the upstream has kept us waiting for `limit`: with the whole request in its hands, or with its
/// hands in its pockets. Waiting for the client's body does not count.
struct Overdue<'b> {
    body: &'b RequestBody,
    deadline: Deadline,
    limit: Duration,
}

impl<'b> Overdue<'b> {
    fn new(body: &'b RequestBody, limit: Duration) -> Self {
        Self { body, deadline: Deadline::after(limit), limit }
    }
}

impl Future for Overdue<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(Pin::new(&mut self.deadline).poll(context));
            if self.body.is_empty() {
                return Poll::Ready(());
            }
            let waited = self.body.upstreams_turn_since().map_or(Duration::ZERO, |since| since.elapsed());
            let left = self.limit.saturating_sub(waited);
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.deadline.reset(left);
        }
    }
}
