//! Forwarding to the upstreams: over connections of their own to each of their endpoints, bodies streamed both ways.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::clock::Monotonic;
use crate::config::{Balance, Config, Sizes, Timeouts};
use crate::deadline::Deadline;
use crate::explain::Trail;
use crate::headers::{self, Rules};
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::request::Canonical;

mod balance;
mod body;
mod check;
mod connect;
mod ejection;
mod endpoint;
mod exchange;
mod group;
mod health;
mod link;
mod multiplex;
mod queue;
mod report;
mod resolve;
mod response;
mod retry;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;

pub use body::{BodyLimits, RequestBody};
use exchange::{Answer, Exchange};
use group::Kept;
pub use report::{Board, EndpointState, EndpointStatus, Totals, UpstreamStatus};
use resolve::{Resolve, System};
use response::Source;
pub use response::{ResponseBody, ResponseError, metered};
pub use tls::{UpstreamTlsError, check_files};
#[cfg(test)]
pub(crate) use upgrade::accept;
use upgrade::{Offer, Upstream};
pub use upgrade::{Tunnel, UpstreamEnd, is_extended, unfold};

/// The way to the upstreams of one configuration.
#[derive(Debug)]
pub struct Proxy {
    board: Arc<Board>,
    resolver: Arc<dyn Resolve>,
    rules: Rules,
    sizes: Sizes,
    timeouts: Timeouts,
    upstreams: Vec<Arc<Kept>>,
}

impl Proxy {
    /// A proxy without a connection yet. Must be called within a tokio runtime, whose tasks look after the endpoints.
    /// Blocks on small files.
    ///
    /// # Errors
    /// An upstream's certificates or authorities can't be used.
    pub fn new(config: &Config) -> Result<Self, UpstreamTlsError> {
        let proxy = Self::build(config, &[], Arc::default(), Arc::new(System))?;
        proxy.show();
        Ok(proxy)
    }

    /// The proxy for another configuration: upstreams that it leaves alone keep their connections, and what is known of
    /// their endpoints. It is to be [shown](Self::show) when it is used.
    ///
    /// # Errors
    /// As for [`Proxy::new`].
    pub fn next(&self, config: &Config) -> Result<Self, UpstreamTlsError> {
        Self::build(config, &self.upstreams, Arc::clone(&self.board), Arc::clone(&self.resolver))
    }

    fn build(
        config: &Config,
        known: &[Arc<Kept>],
        board: Arc<Board>,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, UpstreamTlsError> {
        let connect = config.timeouts.connect;
        let upstreams = config.upstreams.iter().map(|upstream| {
            let same = known.iter().find(|kept| kept.is_as(upstream, connect));
            same.map_or_else(
                || Kept::new(upstream, connect, Arc::clone(&resolver)).map(Arc::new),
                |kept| Ok(Arc::clone(kept)),
            )
        });
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            board,
            resolver,
            rules: Rules::new(config),
            sizes: config.sizes,
            timeouts: config.timeouts,
            upstreams,
        })
    }

    /// From now on, the board tells of this one's upstreams.
    pub fn show(&self) {
        self.board.show(&self.upstreams);
    }

    /// Where it is told how the upstreams are doing, also those of proxies that come [next](Self::next).
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// `body` within the limits that all requests share.
    pub fn body(&self, body: Incoming) -> RequestBody {
        RequestBody::new(body, self.limits(self.sizes.body_bytes, self.timeouts.body_idle))
    }

    /// What becomes of header fields.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    fn limits(&self, bytes: u64, idle: std::time::Duration) -> BodyLimits {
        BodyLimits { bytes, grace: self.timeouts.body_grace, idle, rate: self.sizes.body_rate }
    }

    /// Sends the request to the permitted route's upstream, and gives back what that answers. A response that switches
    /// protocols has its [`Tunnel`] among its extensions.
    pub async fn forward(
        &self,
        permit: &Permit<'_>,
        canonical: &Canonical,
        (source, trail): (IpAddr, &Trail),
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let route = permit.route();
        let (mut parts, body) = request.into_parts();
        if body.size_hint().lower() > route.body_bytes {
            return Err(Refusal::BodyTooLarge);
        }
        body.limit(self.limits(route.body_bytes, route.timeouts.body_idle));
        let stated_empty = body.is_end_stream() && parts.headers.contains_key(CONTENT_LENGTH);
        let offer = Offer::take(&mut parts, &route.upgrades)?.filter(|_| body.is_end_stream());
        self.rules.to_upstream(&mut parts.headers, parts.version, canonical, (source, trail.id()), permit);
        if let Some(offer) = &offer {
            offer.pass_on(&mut parts.headers);
        }
        if stated_empty && offer.is_none() {
            // hyper states no length where there is no body, and some servers answer such a POST with 411.
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        parts.uri = Uri::from(canonical.target().clone());
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let group = &self.upstreams.get(route.upstream).ok_or(Refusal::UpstreamUnreachable)?.group;
        let key =
            if group.settings.upstream.balance == Balance::PrincipalHash { key(permit, source) } else { 0 };
        let exchange = Exchange { body: &body, canonical, group, key, offer: offer.as_ref(), route, trail };
        trail.forwarded(&group.settings.upstream.name, Monotonic::now());
        let mut whole = route.timeouts.request.map(Deadline::after);
        let answer = tokio::select! {
            biased;
            answer = exchange.run(parts) => answer?,
            () = over(&mut whole) => return Err(Refusal::UpstreamTimeout),
        };
        self.respond(permit, answer, offer, body, whole)
    }

    /// The upstream's answer as the client gets it.
    fn respond(
        &self,
        permit: &Permit<'_>,
        (mut response, source): Answer,
        offer: Option<Offer>,
        request: RequestBody,
        whole: Option<Deadline>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        request.answered();
        let is_taken = offer.as_ref().is_some_and(|offer| offer.is_taken(&response));
        // Without an offer that was taken there is nothing to switch to, and hyper keeps every other interim response to
        // itself.
        if response.status().is_informational() && !is_taken || !has_one_length(response.headers()) {
            return Err(Refusal::UpstreamInvalid);
        }
        // To the client, success would be a switch.
        if response.status().is_success() && !is_taken && offer.as_ref().is_some_and(Offer::is_stream) {
            return Err(Refusal::UpstreamNoUpgrade);
        }
        // What the upstream speaks concerns its connection only.
        let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
        self.rules.to_client(response.headers_mut(), version, permit);
        let upgraded = if is_taken { response.extensions_mut().remove::<OnUpgrade>() } else { None };
        response.extensions_mut().clear();
        let Some(offer) = offer.filter(|_| is_taken) else {
            let idle = self.timeouts.upstream_idle;
            return Ok(response.map(|body| ResponseBody::new(body, source, request, idle, whole)));
        };
        let Source { link, place, ticket } = source;
        let upstream = match (link, place, upgraded) {
            (Some(link), None, _) => {
                let (stream, read) = link.into_stream();
                Upstream::Connection(stream, read, ticket)
            }
            (None, Some(place), Some(upgraded)) => Upstream::Stream(upgraded, place, ticket),
            _ => return Err(Refusal::UpstreamInvalid),
        };
        offer.accept(&mut response)?;
        response.extensions_mut().insert(offer.tunnel(upstream));
        Ok(response.map(ResponseBody::of_a_switch))
    }
}

/// Of a length beside a transfer coding hyper believes the coding, and leaves the length to mislead the client.
fn has_one_length(headers: &HeaderMap) -> bool {
    let is_coded = headers.contains_key(TRANSFER_ENCODING);
    headers::has_plain_framing(headers) && !(is_coded && headers.contains_key(CONTENT_LENGTH))
}

/// Who asks, as far as is known.
fn key(permit: &Permit<'_>, source: IpAddr) -> u64 {
    let Some(identity) = permit.identity() else { return balance::hash(source.to_string().as_bytes()) };
    let issuer = identity.facts().issuer.as_ref().map_or(0, |issuer| balance::hash(issuer.as_bytes()));
    balance::hash(identity.subject().as_bytes()) ^ issuer.rotate_left(1)
}

/// Completes when the deadline comes, if there is one.
async fn over(deadline: &mut Option<Deadline>) {
    match deadline {
        Some(deadline) => Pin::new(deadline).await,
        None => std::future::pending().await,
    }
}

/// The error with its causes: the outermost alone says only that something failed.
fn error_chain(error: &hyper::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
