//! One request through the agent: charged, routed, authenticated, authorised, forwarded, or refused by name.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tracing::{debug, info};

use crate::api_key::has_browser_marks;
use crate::authenticate::{self, Denied, Verify};
use crate::authorization_server::{Answered, AuthorizationServer, Endpoint};
pub use crate::clock::Now;
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Auth, Config, Route};
use crate::connections::{Connection, End, OpenRequest};
use crate::counters::{self, Counters};
use crate::credential::{self, Credential};
use crate::identity::{Identity, Method as By};
use crate::issuers::MissingKey;
use crate::limits::{self, Charge, SourceDebts};
use crate::policy::{self, Permit};
use crate::proxy::{Proxy, RequestBody, ResponseBody, UpstreamTlsError};
use crate::refusal::{self, EndpointRefused, Refusal, Refused};
use crate::request::{self, Canonical};
use crate::routes::RouteTable;
use crate::token::TokenError;

/// The body of a response: ours, or the upstream's.
pub type AnswerBody = Either<Full<Bytes>, ResponseBody>;

/// Who is at the other end of a connection, as far as the connection itself tells.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The connection, where it is noted who uses it.
    pub connection: Arc<Connection>,
    /// The name that the client asked for in its TLS handshake.
    pub server_name: Option<Arc<str>>,
    /// Its address; IPv4 clients of an IPv6 socket as IPv4.
    pub source: IpAddr,
}

/// What a request is judged by, and the way on.
pub struct Gateway {
    authorization_server: Option<AuthorizationServer>,
    config: Arc<Config>,
    counters: Arc<Counters>,
    debts: Arc<dyn SourceDebts>,
    proxy: Proxy,
    routes: RouteTable,
    verify: Arc<dyn Verify>,
}

impl Gateway {
    /// A gateway for one configuration. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// An upstream's certificates or authorities can't be used.
    pub fn new(
        config: Arc<Config>,
        verify: Arc<dyn Verify>,
        debts: Arc<dyn SourceDebts>,
        counters: Arc<Counters>,
    ) -> Result<Self, UpstreamTlsError> {
        let (proxy, routes) = (Proxy::new(&config)?, RouteTable::new(&config.routes));
        // The first one stays: the proxies that come next write on the same.
        let _ = counters.upstreams.set(proxy.board());
        Ok(Self { authorization_server: None, config, counters, debts, proxy, routes, verify })
    }

    /// With a built-in issuer.
    #[must_use]
    pub fn with_authorization_server(self, server: AuthorizationServer) -> Self {
        Self { authorization_server: Some(server), ..self }
    }

    /// Answers `request`, which is `open`.
    pub async fn answer(
        &self,
        peer: &Peer,
        open: &OpenRequest,
        request: Request<Incoming>,
        now: Now,
    ) -> Response<AnswerBody> {
        counters::count(&self.counters.requests);
        let (parts, body) = request.into_parts();
        let body = self.proxy.body(body);
        let unread = Unread::of(&parts, &body);
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let outcome = match self.judge(peer, open, &parts, now).await {
            Ok(Judged::Own(server, endpoint)) => {
                // A form takes its time, and others of the source may have failed meanwhile.
                let ready = || {
                    let now = Now::read();
                    limits::may_authenticate(&*self.debts, peer.source, now.monotonic).map(|()| now)
                };
                let answer = server.answer(endpoint, &parts, body, peer.source, ready).await;
                if let Err(refused) = &answer {
                    unread.linger(refused.refusal);
                }
                let response = self.own_answer(peer, &parts, answer, Now::read());
                return answered(&method, response).map(Either::Left);
            }
            Ok(Judged::Permitted(canonical, permit)) => {
                let request = Request::from_parts(parts, body);
                tokio::select! {
                    response = self.proxy.forward(&permit, &canonical, peer.source, request) => {
                        response.map_err(Refused::from)
                    }
                    why = open.cut_off() => Err(cut_off(why).into()),
                }
            }
            Err(refused) => Err(refused),
        };
        match outcome {
            Ok(response) => {
                counters::count(&self.counters.forwarded);
                response.map(Either::Right)
            }
            Err(refused) => {
                unread.linger(refused.refusal);
                self.refuse(peer, &method, uri.path(), refused)
            }
        }
    }

    /// Everything that is decided before a byte goes to the upstream. The charge comes first, so that no
    /// request is free, whatever is wrong with it.
    async fn judge(
        &self,
        peer: &Peer,
        open: &OpenRequest,
        request: &Parts,
        now: Now,
    ) -> Result<Judged<'_>, Refused<'_>> {
        let admitted = limits::admit(&*self.debts, peer.source, now.monotonic)?;
        let mut canonical = request::canonicalise(request, peer.server_name.as_deref(), &self.config.sizes)?;
        let own = self.authorization_server.as_ref();
        if let Some((server, endpoint)) = own.and_then(|server| Some((server, server.endpoint(&canonical)?)))
        {
            return Ok(Judged::Own(server, endpoint));
        }
        let matched = policy::route(&self.routes, &request.method, &canonical)?;
        let (route, rewritten) = (matched.route, matched.rewritten(canonical.path()));
        let identity = self.identify((peer, open), request, &canonical, route, now).await?;
        let permit = policy::authorize(admitted, route, identity)?;
        if let Some(path) = rewritten {
            canonical.rewrite(path)?;
        }
        Ok(Judged::Permitted(canonical, permit))
    }

    /// The answer of the built-in issuer; a client that failed to authenticate is charged as any other.
    fn own_answer(
        &self,
        peer: &Peer,
        request: &Parts,
        answer: Result<Answered, EndpointRefused>,
        now: Now,
    ) -> Response<Full<Bytes>> {
        match answer {
            Ok(Answered { client, response }) => {
                if client.is_some() {
                    self.debts.authenticated(peer.source, now.monotonic);
                }
                response
            }
            Err(refused) => {
                let denied = Denied { guess: refused.guess, refusal: refused.refusal };
                let refusal = self.charge_failure(peer.source, denied, now.monotonic);
                let refused = EndpointRefused { refusal, ..refused };
                self.note(peer, &request.method, request.uri.path(), refused.refusal);
                refusal::respond_endpoint(&refused)
            }
        }
    }

    /// Who sent the request, where the route wants to know; a failure is charged to the source.
    async fn identify(
        &self,
        (peer, open): (&Peer, &OpenRequest),
        request: &Parts,
        canonical: &Canonical,
        route: &Route,
        now: Now,
    ) -> Result<Option<Arc<Identity>>, Refusal> {
        if route.auth == Auth::None {
            return Ok(None);
        }
        let outcome = self.authenticate(peer, request, canonical, now).await.and_then(|identity| {
            // In this order: what is revoked after the look finds the request among those to be cut off.
            open.identified(&identity);
            self.verify.unrevoked(&identity, now.unix)?;
            open.accepted(&identity);
            Ok(identity)
        });
        match outcome {
            Ok(identity) => {
                self.debts.authenticated(peer.source, now.monotonic);
                Ok(Some(identity))
            }
            Err(denied) => Err(self.charge_failure(peer.source, denied, now.monotonic)),
        }
    }

    /// Charges a failed authentication to its source and to what it may have been a guess of. If others have
    /// guessed at that too often, the answer says no more.
    fn charge_failure(&self, source: IpAddr, denied: Denied, now: Monotonic) -> Refusal {
        let Denied { guess, refusal } = denied;
        if !refusal.is_auth_failure() {
            return refusal;
        }
        // Over or not, this request is answered with what is wrong with it; the next one finds out.
        let _ = self.debts.charge_auth_failure(source, now);
        match guess.map(|guess| self.debts.charge_guess(source, guess, now)) {
            Some(Charge::Over { retry_after }) => Refusal::AuthFailureLimit { retry_after },
            Some(Charge::Within) | None => refusal,
        }
    }

    /// Before the key is looked at, so that a browser learns nothing about it.
    fn refuse_browser(&self, request: &Parts, credential: &Credential<'_>) -> Result<(), Refusal> {
        let refused = credential.method() == By::ApiKey
            && !self.config.api_keys.allow_browsers
            && has_browser_marks(&request.headers);
        if refused { Err(Refusal::ApiKeyBrowser) } else { Ok(()) }
    }

    /// The one place where a request waits while it is judged: for keys that its issuer may just have published.
    async fn authenticate(
        &self,
        peer: &Peer,
        request: &Parts,
        canonical: &Canonical,
        now: Now,
    ) -> Result<Arc<Identity>, Denied> {
        let header = &self.config.api_keys.header;
        let max_bytes = self.config.sizes.token_bytes.get();
        let credential = credential::extract(&request.headers, canonical.query(), header, max_bytes)?;
        self.refuse_browser(request, &credential)?;
        let judge = |now: Now| authenticate::authenticate(&*self.verify, &credential, peer.source, now);
        let denied = match judge(now) {
            Ok(identity) => return Ok(identity),
            Err(denied) => denied,
        };
        let hope = |denied: &Denied, now: Now| {
            authenticate::missing_key(&*self.verify, &credential, &denied.refusal, now.monotonic)
        };
        match hope(&denied, now) {
            MissingKey::Absent => return Err(denied),
            MissingKey::Coming(keys) => keys.await,
            MissingKey::NotNow => return Err(UNKNOWN_NOW.into()),
        }
        let now = Now::read();
        judge(now).map_err(|denied| match hope(&denied, now) {
            MissingKey::Absent => denied,
            MissingKey::Coming(_) | MissingKey::NotNow => UNKNOWN_NOW.into(),
        })
    }

    fn refuse(&self, peer: &Peer, method: &Method, path: &str, refused: Refused<'_>) -> Response<AnswerBody> {
        self.note(peer, method, path, refused.refusal);
        answered(method, refusal::respond(refused)).map(Either::Left)
    }

    /// Counts and logs a refusal.
    fn note(&self, peer: &Peer, method: &Method, path: &str, refusal: Refusal) {
        let (reason, status) = (refusal.name(), refusal.status());
        self.counters.refusals.count(reason);
        // Debug formatting escapes what could forge a log line; the query may hold a secret and is left out.
        let path = &path[..path.floor_char_boundary(MAX_LOGGED_PATH_BYTES)];
        let source = peer.source;
        if refusal.is_notable() {
            info!(reason, status = status.as_u16(), %source, %method, ?path, "refused");
        } else {
            debug!(reason, status = status.as_u16(), %source, %method, ?path, "refused");
        }
    }

    /// Whether the credential behind an identity was over at `then`.
    pub fn is_over(&self, identity: &Identity, then: UnixTime) -> bool {
        self.verify.is_over(identity, then)
    }

    /// The counters that requests are counted in.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// A request that was not refused.
enum Judged<'g> {
    /// The built-in issuer answers it.
    Own(&'g AuthorizationServer, Endpoint),
    /// It may be forwarded.
    Permitted(Canonical, Permit<'g>),
}

/// The body of a request that may be refused before it is read.
struct Unread(Option<RequestBody>);

impl Unread {
    /// A client that waits for `100 Continue` sends nothing unasked, and reading is what asks it.
    fn of(request: &Parts, body: &RequestBody) -> Self {
        Self((!request.headers.contains_key(EXPECT)).then(|| body.clone()))
    }

    fn linger(self, refusal: Refusal) {
        // Where it is in doubt what the body is, none of it is read.
        if let (Some(body), false) = (self.0, refusal == Refusal::FramingInvalid) {
            body.linger();
        }
    }
}

/// An answer of ours as the method wants it: to HEAD, that to GET without its body (RFC 9110, 9.3.2). Over HTTP/1.1 the
/// server sees to it, over HTTP/2 nobody does.
fn answered(method: &Method, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    if *method == Method::HEAD {
        let body = std::mem::take(response.body_mut());
        let length = body.size_hint().exact();
        response.headers_mut().extend(length.map(|length| (CONTENT_LENGTH, length.into())));
    }
    response
}

/// What a client is told whose request was cut off before it was answered.
fn cut_off(why: End) -> Refusal {
    match why {
        End::Expired => Refusal::CredentialExpired,
        End::Banned | End::Operator | End::Revoked => Refusal::CredentialRevoked,
    }
}

/// Nothing is held against a token whose key could not be looked for.
const UNKNOWN_NOW: Refusal = Refusal::Token(TokenError::KeysUnavailable);
const MAX_LOGGED_PATH_BYTES: usize = 256;
