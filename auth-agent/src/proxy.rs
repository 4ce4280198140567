//! Forwarding to the upstreams: plain HTTP/1.1 over pooled connections, bodies streamed both ways.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::config::{Config, Upstream};
use crate::headers::{self, Rules};
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::request::Canonical;

mod body;
mod upgrade;

pub use body::{RequestBody, ResponseBody};
use upgrade::Offer;
pub use upgrade::Tunnel;

/// Idle connections are closed before a common server would (Node.js: 5 s), so that few requests meet a
/// connection that the upstream has just given up.
const POOL_IDLE: Duration = Duration::from_secs(4);
const POOL_IDLE_PER_ENDPOINT: usize = 128;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What one upstream connection may buffer of a response, header fields included.
const READ_BUFFER_BYTES: usize = 128 << 10;

/// The way to the upstreams of one configuration.
#[derive(Debug)]
pub struct Proxy {
    body_bytes: u64,
    body_idle: Duration,
    client: Client<HttpConnector, RequestBody>,
    response: Duration,
    rules: Rules,
    upstreams: Vec<Endpoints>,
}

#[derive(Debug)]
struct Endpoints {
    authorities: Vec<Authority>,
    name: Arc<str>,
    next: AtomicUsize,
}

impl Proxy {
    /// A proxy with an empty pool.
    pub fn new(config: &Config) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(config.timeouts.connect));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_PER_ENDPOINT)
            .http1_max_buf_size(READ_BUFFER_BYTES)
            .build(connector);
        Self {
            body_bytes: config.sizes.body_bytes,
            body_idle: config.timeouts.body_idle,
            client,
            response: config.timeouts.response,
            rules: Rules::new(config),
            upstreams: config.upstreams.iter().map(Endpoints::new).collect(),
        }
    }

    /// A proxy for another configuration.
    pub fn next(&self, config: &Config) -> Self {
        Self::new(config)
    }

    /// `body` within the limits that all requests share.
    pub fn body(&self, body: Incoming) -> RequestBody {
        RequestBody::new(body, self.body_bytes, self.body_idle)
    }

    /// Sends the request to the permitted route's upstream, and gives back what that answers. A response that switches
    /// protocols has its [`Tunnel`] among its extensions.
    pub async fn forward(
        &self,
        permit: &Permit<'_>,
        canonical: &Canonical,
        source: IpAddr,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (mut parts, body) = request.into_parts();
        if body.size_hint().lower() > self.body_bytes {
            return Err(Refusal::BodyTooLarge);
        }
        let stated_empty = body.is_end_stream() && parts.headers.contains_key(CONTENT_LENGTH);
        let upgrades = &permit.route().upgrades;
        let may_switch = body.is_end_stream() && upgrades.iter().any(|name| name == "websocket");
        let offer = Offer::take(&mut parts).filter(|_| may_switch);
        self.rules.to_upstream(&mut parts.headers, parts.version, canonical, source, permit);
        if offer.is_some() {
            Offer::pass_on(&mut parts.headers);
        }
        if stated_empty {
            // hyper states no length where there is no body, and some servers answer such a POST with 411.
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let endpoints = self.upstreams.get(permit.route().upstream).ok_or(Refusal::UpstreamUnreachable)?;
        let mut response = self.first_that_connects(endpoints, canonical, parts, &body).await?;
        let tunnel = offer.and_then(|offer| offer.taken(&mut response));
        // Without an offer that was taken there is nothing to switch to, and hyper keeps every other interim response to
        // itself. Of a length beside a transfer coding it believes the coding, and leaves the length to mislead the
        // client.
        let lengths = response.headers().contains_key(CONTENT_LENGTH);
        let coded = response.headers().contains_key(TRANSFER_ENCODING);
        if response.status().is_informational() && tunnel.is_none()
            || !headers::has_plain_framing(response.headers())
            || lengths && coded
        {
            return Err(Refusal::UpstreamInvalid);
        }
        let version = response.version();
        let mut response = response.map(ResponseBody::new);
        // What the upstream speaks concerns its connection only.
        *response.version_mut() = Version::HTTP_11;
        self.rules.to_client(response.headers_mut(), version, permit);
        response.extensions_mut().clear();
        if let Some(tunnel) = tunnel {
            Offer::pass_on(response.headers_mut());
            response.extensions_mut().insert(tunnel);
        }
        Ok(response)
    }

    /// Tries the next endpoint, and one more if that can't be connected to: nothing has been sent then.
    async fn first_that_connects(
        &self,
        endpoints: &Endpoints,
        canonical: &Canonical,
        parts: Parts,
        body: &RequestBody,
    ) -> Result<Response<Incoming>, Refusal> {
        let (first, second) = endpoints.pick().ok_or(Refusal::UpstreamUnreachable)?;
        let Some(second) = second else {
            return self.send(endpoints, first, canonical, parts, body).await.map_err(Failure::refusal);
        };
        match self.send(endpoints, first, canonical, parts.clone(), body).await {
            Err(Failure::Connect(_)) => {
                self.send(endpoints, second, canonical, parts, body).await.map_err(Failure::refusal)
            }
            result => result.map_err(Failure::refusal),
        }
    }

    async fn send(
        &self,
        endpoints: &Endpoints,
        authority: &Authority,
        canonical: &Canonical,
        mut parts: Parts,
        body: &RequestBody,
    ) -> Result<Response<Incoming>, Failure> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority.clone());
        uri.path_and_query = Some(canonical.target().clone());
        parts.uri = Uri::from_parts(uri).map_err(|_| Failure::Refused(Refusal::UpstreamInvalid))?;
        let request = Request::from_parts(parts, body.clone());
        tokio::select! {
            biased;
            result = self.client.request(request) => result.map_err(|error| {
                if let Some(refusal) = body.failure() {
                    return Failure::Refused(refusal);
                }
                warn!(upstream = %endpoints.name, endpoint = %authority, error = %chain(&error), "upstream failed");
                Failure::of(&error)
            }),
            () = overdue(body, self.response) => {
                warn!(upstream = %endpoints.name, endpoint = %authority, "upstream did not answer in time");
                Err(Failure::Refused(Refusal::UpstreamTimeout))
            }
        }
    }
}

impl Endpoints {
    fn new(upstream: &Upstream) -> Self {
        let authorities =
            upstream.endpoints.iter().filter_map(|endpoint| endpoint.authority().cloned()).collect();
        Self { authorities, name: Arc::clone(&upstream.name), next: AtomicUsize::new(0) }
    }

    /// The endpoint whose turn it is, and another to fall back on where there are several.
    fn pick(&self) -> Option<(&Authority, Option<&Authority>)> {
        let count = self.authorities.len();
        let turn = self.next.fetch_add(1, Relaxed);
        let first = self.authorities.get(turn.checked_rem(count)?)?;
        let second = if count > 1 { self.authorities.get(turn.wrapping_add(1) % count) } else { None };
        Some((first, second))
    }
}

enum Failure {
    /// Not connected, so nothing was sent.
    Connect(Refusal),
    Refused(Refusal),
}

impl Failure {
    fn of(error: &Error) -> Self {
        let timed_out = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
        };
        if !error.is_connect() {
            Self::Refused(Refusal::UpstreamInvalid)
        } else if causes(error).any(timed_out) {
            Self::Connect(Refusal::UpstreamTimeout)
        } else {
            Self::Connect(Refusal::UpstreamUnreachable)
        }
    }

    fn refusal(self) -> Refusal {
        match self {
            Self::Connect(refusal) | Self::Refused(refusal) => refusal,
        }
    }
}

/// Ends once the upstream has kept us waiting for `limit`: with the whole request in its hands, or with its
/// hands in its pockets. Waiting for the client's body does not count.
async fn overdue(body: &RequestBody, limit: Duration) {
    loop {
        let now = Instant::now();
        let deadline = body.upstreams_turn_since().unwrap_or(now) + limit;
        if deadline <= now {
            return;
        }
        sleep_until(deadline).await;
    }
}

/// The error with its causes: the outermost alone says only that something failed.
fn chain(error: &Error) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}
