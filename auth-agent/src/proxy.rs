//! Forwarding to the upstreams: plain HTTP/1.1 over pooled connections, bodies streamed both ways.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
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

pub use body::{RequestBody, ResponseBody};

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
            rules: Rules::new(&config.identity_headers, &config.api_keys.header),
            upstreams: config.upstreams.iter().map(Endpoints::new).collect(),
        }
    }

    /// Sends the request to the permitted route's upstream, and gives back what that answers.
    pub async fn forward(
        &self,
        permit: &Permit<'_>,
        canonical: &Canonical,
        source: IpAddr,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (mut parts, body) = request.into_parts();
        if body.size_hint().lower() > self.body_bytes {
            return Err(Refusal::BodyTooLarge);
        }
        self.rules.to_upstream(&mut parts.headers, parts.version, canonical, source, permit.identity());
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let endpoints = self.upstreams.get(permit.route().upstream).ok_or(Refusal::UpstreamUnreachable)?;
        let body = RequestBody::new(body, self.body_bytes, self.body_idle);
        let response = self.first_that_connects(endpoints, canonical, parts, &body).await?;
        // No upgrade was asked for, and hyper keeps every other interim response to itself.
        if response.status().is_informational() {
            return Err(Refusal::UpstreamInvalid);
        }
        let mut response = response.map(ResponseBody::new);
        headers::remove_hop_by_hop(response.headers_mut());
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
            Err(Failure::Connect) => {
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
                if error.is_connect() { Failure::Connect } else { Failure::Refused(Refusal::UpstreamInvalid) }
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
    Connect,
    Refused(Refusal),
}

impl Failure {
    fn refusal(self) -> Refusal {
        match self {
            Self::Connect => Refusal::UpstreamUnreachable,
            Self::Refused(refusal) => refusal,
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
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
