//! One request through the agent: charged, routed, authenticated, authorised, forwarded, or refused by name.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tracing::{debug, info};

use crate::authenticate::{self, Verify};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Auth, Config, Route};
use crate::counters::{self, Counters};
use crate::credential;
use crate::identity::Identity;
use crate::limits::{self, SourceDebts};
use crate::policy::{self, Permit};
use crate::proxy::{Proxy, ResponseBody};
use crate::refusal::{self, Refusal, Refused};
use crate::request::{self, Canonical};

/// The body of a response: ours, or the upstream's.
pub type AnswerBody = Either<Full<Bytes>, ResponseBody>;

/// Who is at the other end of a connection, as far as the connection itself tells.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The name that the client asked for in its TLS handshake.
    pub server_name: Option<Arc<str>>,
    /// Its address; IPv4 clients of an IPv6 socket as IPv4.
    pub source: IpAddr,
}

/// When a request came, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For debts.
    pub monotonic: Monotonic,
    /// For credentials.
    pub unix: UnixTime,
}

impl Now {
    /// The time now.
    pub fn read() -> Self {
        Self { monotonic: Monotonic::now(), unix: UnixTime::now() }
    }
}

/// What a request is judged by, and the way on.
pub struct Gateway {
    config: Arc<Config>,
    counters: Arc<Counters>,
    debts: Arc<dyn SourceDebts>,
    proxy: Proxy,
    verify: Arc<dyn Verify>,
}

impl Gateway {
    /// A gateway for one configuration.
    pub fn new(
        config: Arc<Config>,
        verify: Arc<dyn Verify>,
        debts: Arc<dyn SourceDebts>,
        counters: Arc<Counters>,
    ) -> Self {
        let proxy = Proxy::new(&config);
        Self { config, counters, debts, proxy, verify }
    }

    /// Answers `request`.
    pub async fn answer(&self, peer: &Peer, request: Request<Incoming>, now: Now) -> Response<AnswerBody> {
        counters::count(&self.counters.requests);
        let (parts, body) = request.into_parts();
        let (canonical, permit) = match self.judge(peer, &parts, now) {
            Ok(judged) => judged,
            Err(refused) => return self.refuse(peer, &parts.method, parts.uri.path(), refused),
        };
        let method = parts.method.clone();
        let request = Request::from_parts(parts, body);
        match self.proxy.forward(&permit, &canonical, peer.source, request).await {
            Ok(response) => {
                counters::count(&self.counters.forwarded);
                response.map(Either::Right)
            }
            Err(refusal) => self.refuse(peer, &method, canonical.path(), refusal.into()),
        }
    }

    /// Everything that is decided before a byte goes to the upstream. The charge comes first, so that no
    /// request is free, whatever is wrong with it.
    fn judge(&self, peer: &Peer, request: &Parts, now: Now) -> Result<(Canonical, Permit<'_>), Refused<'_>> {
        let admitted = limits::admit(&*self.debts, peer.source, now.monotonic)?;
        let canonical = request::canonicalise(request, peer.server_name.as_deref(), &self.config.sizes)?;
        let route = policy::route(&self.config, &canonical)?;
        let identity = self.identify(peer, request, &canonical, route, now)?;
        let permit = policy::authorize(admitted, route, identity)?;
        Ok((canonical, permit))
    }

    /// Who sent the request, where the route wants to know; a failure is charged to the source.
    fn identify(
        &self,
        peer: &Peer,
        request: &Parts,
        canonical: &Canonical,
        route: &Route,
        now: Now,
    ) -> Result<Option<Identity>, Refusal> {
        if route.auth == Auth::None {
            return Ok(None);
        }
        let header = &self.config.api_keys.header;
        let max_bytes = self.config.sizes.token_bytes.get();
        let outcome = credential::extract(&request.headers, canonical.query(), header, max_bytes).and_then(
            |credential| authenticate::authenticate(&*self.verify, &credential, peer.source, now.unix),
        );
        match &outcome {
            Ok(_) => self.debts.authenticated(peer.source, now.monotonic),
            Err(refusal) if refusal.is_auth_failure() => {
                // Over or not, this request is answered with what is wrong with it; the next one finds out.
                let _ = self.debts.charge_auth_failure(peer.source, now.monotonic);
            }
            Err(_) => {}
        }
        outcome.map(Some)
    }

    fn refuse(&self, peer: &Peer, method: &Method, path: &str, refused: Refused<'_>) -> Response<AnswerBody> {
        let (reason, status) = (refused.refusal.name(), refused.refusal.status());
        self.counters.refusals.count(reason);
        // Debug formatting escapes what could forge a log line; the query may hold a secret and is left out.
        let path = &path[..path.floor_char_boundary(MAX_LOGGED_PATH_BYTES)];
        let source = peer.source;
        if refused.refusal.is_notable() {
            info!(reason, status = status.as_u16(), %source, %method, ?path, "refused");
        } else {
            debug!(reason, status = status.as_u16(), %source, %method, ?path, "refused");
        }
        refusal::respond(refused).map(Either::Left)
    }

    /// The counters that requests are counted in.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

const MAX_LOGGED_PATH_BYTES: usize = 256;
