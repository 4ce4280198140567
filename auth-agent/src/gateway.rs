//! One request through the agent: charged, routed, authenticated, authorised, forwarded, or refused by name.

mod bodies;
mod unanswered;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;

use self::bodies::{Unread, has_body, settle_empty};
use self::unanswered::Unanswered;
use crate::authenticate::{Denied, Verify};
use crate::authorization_server::{Answered, AuthorizationServer, Endpoint, SigningKeys};
pub use crate::clock::Now;
use crate::clock::{Monotonic, UnixTime};
use crate::config::Config;
use crate::connections::{Connection, End, OpenRequest};
use crate::counters::{self, Counters};
use crate::explain::{Came, Counted, Journal, Log, LogError, Outcome, Recording, Trail, Via};
use crate::forward_auth;
use crate::headers::Covered;
use crate::identity::Identity;
use crate::judge::{Case, Judge};
use crate::ladder::Offence;
use crate::limits::{self, Limiter, SourceDebts, Standing};
use crate::policy::{Permit, Policies, PolicyError, PolicyFiles};
use crate::proxy::{Proxy, ResponseBody, UpstreamTlsError, is_extended, metered, unfold};
use crate::refusal::{self, EndpointRefused, Refusal, Refused};
use crate::request::Canonical;

/// The body of a response: ours, or the upstream's.
pub type AnswerBody = Counted<Either<Full<Bytes>, ResponseBody>>;

/// Who is at the other end of a connection, as far as the connection itself tells.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The connection, where it is noted who uses it.
    pub connection: Arc<Connection>,
    /// Whether header fields tell whose requests it passes on, if it is a trusted proxy.
    pub fields_name_clients: bool,
    /// The name that the client asked for in its TLS handshake.
    pub server_name: Option<Arc<str>>,
    /// Its address; IPv4 clients of an IPv6 socket as IPv4. A trusted proxy's requests have their clients' addresses.
    pub source: IpAddr,
}

/// What a request is judged by, and the way on.
pub struct Gateway {
    authorization_server: Option<AuthorizationServer>,
    counters: Arc<Counters>,
    current: ArcSwap<Current>,
    debts: Arc<dyn SourceDebts>,
    internal_keys: Option<Arc<SigningKeys>>,
    journal: Journal,
    limiter: Option<Arc<Limiter>>,
    verify: Arc<dyn Verify>,
}

/// What comes of the configuration. A request takes it once, and is judged and forwarded by the same.
pub struct Current {
    judge: Judge,
    proxy: Proxy,
    recording: Recording,
}

/// What a gateway is to go by next.
pub struct Next {
    current: Current,
    log: Log,
}

/// Why there is no gateway for a configuration.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Nothing can be logged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Policies can't be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// What TLS to an upstream needs can't be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamTlsError),
}

impl Current {
    fn new(
        config: Arc<Config>,
        proxy: Proxy,
        verify: &Arc<dyn Verify>,
        debts: &Arc<dyn SourceDebts>,
    ) -> Result<Self, PolicyError> {
        let (policies, recording) = (Policies::load(&config)?, Recording::new(&config));
        let judge = Judge::new(config, Arc::clone(verify), Arc::clone(debts)).with_policies(policies);
        Ok(Self { judge, proxy, recording })
    }
}

impl Gateway {
    /// A gateway for one configuration. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Policies, or what TLS to an upstream needs, can't be used, or the access log can't be opened.
    pub fn new(
        config: Arc<Config>,
        verify: Arc<dyn Verify>,
        debts: Arc<dyn SourceDebts>,
        counters: Arc<Counters>,
    ) -> Result<Self, GatewayError> {
        let journal = Journal::start(&config)?;
        let _ = counters.log_dropped.set(journal.dropped());
        let proxy = Proxy::new(&config)?;
        // The proxies that come next write on the same.
        let _ = counters.upstreams.set(proxy.board());
        let current = ArcSwap::from_pointee(Current::new(config, proxy, &verify, &debts)?);
        Ok(Self {
            authorization_server: None,
            counters,
            current,
            debts,
            internal_keys: None,
            journal,
            limiter: None,
            verify,
        })
    }

    /// What [`Self::change`] changes to. Upstreams that `config` leaves as they are keep their connections.
    ///
    /// # Errors
    /// Policies, or what TLS to an upstream needs, can't be used, or the access log can't be opened.
    pub fn prepare(&self, config: Arc<Config>) -> Result<Next, GatewayError> {
        let log = self.journal.prepare(&config)?;
        let proxy = self.current.load().proxy.next(&config)?;
        let current = Current::new(config, proxy, &self.verify, &self.debts)?;
        if let Some(keys) = &self.internal_keys {
            current.judge.sign_with(keys);
        }
        if let Some(limiter) = &self.limiter {
            current.judge.limit_with(limiter);
        }
        Ok(Next { current, log })
    }

    /// Goes by another configuration from the next request on.
    pub fn change(&self, Next { current, log }: Next) {
        current.proxy.show();
        self.journal.change(log);
        if let Some(limiter) = &self.limiter {
            current.judge.adopted_by(limiter);
        }
        self.current.store(Arc::new(current));
    }

    /// The files of policies in force.
    pub fn policy_files(&self) -> PolicyFiles {
        self.current.load().judge.policies().files()
    }

    /// With a built-in issuer.
    #[must_use]
    pub fn with_authorization_server(self, server: AuthorizationServer) -> Self {
        Self { authorization_server: Some(server), ..self }
    }

    /// With the limits and quotas of the configuration, and of those that come after it.
    #[must_use]
    pub fn with_limits(self, limiter: Arc<Limiter>) -> Self {
        let current = self.current.load_full();
        current.judge.limit_with(&limiter);
        current.judge.adopted_by(&limiter);
        Self { limiter: Some(limiter), ..self }
    }

    /// With tokens for upstreams, signed with these keys, where the configuration wants some.
    #[must_use]
    pub fn with_internal_tokens(self, keys: Arc<SigningKeys>) -> Self {
        self.current.load().judge.sign_with(&keys);
        Self { internal_keys: Some(keys), ..self }
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
        let (mut parts, body) = request.into_parts();
        unfold(&mut parts);
        let current = self.current.load_full();
        let Current { judge, proxy, recording } = &*current;
        let id = judge.request_id(peer.source, peer.fields_name_clients, &parts.headers);
        let body = proxy.body(body).noted_by(&peer.connection);
        let unread = Unread::of(&parts, &body);
        let has_body = has_body(&parts, &body);
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let client = if peer.fields_name_clients {
            judge.client(peer.source, &parts.headers)
        } else {
            Ok(peer.source)
        };
        let source = client.unwrap_or(peer.source);
        let (trail, standing) = (Trail::new(id), Standing::default());
        let (at, via) = (now.monotonic, Via::Edge);
        let came = Came { at, method: &method, path: uri.path(), source, via };
        let unanswered = Unanswered::new(&self.journal, recording, came, &trail, Some(body.clone()));
        let notes = (&trail, &standing);
        let outcome = match self.judge(judge, peer, (open, client), notes, (&parts, has_body), now).await {
            Ok(Judged::Own(server, endpoint)) => {
                // A form takes its time, and others of the source may have failed meanwhile.
                let ready = || {
                    let now = Now::read();
                    limits::may_authenticate(&*self.debts, source, now.monotonic).map(|()| now)
                };
                let answer = server.answer(endpoint, &parts, body, source, ready).await;
                if let Err(refused) = &answer {
                    unread.linger(refused.refusal);
                }
                unanswered.answered();
                let (response, refusal) = self.own_answer(judge, source, &trail, answer);
                let response = answered(&method, response);
                self.settle(recording, came, (&trail, refusal), &response);
                return judge.named(&trail, response).map(Either::Left).map(Counted::from);
            }
            Ok(Judged::Permitted(canonical, permit)) => {
                let forwarded = async {
                    settle_empty(&body).await?;
                    let request = Request::from_parts(parts, body);
                    proxy.forward(&permit, &canonical, (source, &trail), request).await
                };
                tokio::select! {
                    biased;
                    response = forwarded => response.map_err(Refused::from),
                    why = open.cut_off() => Err(cut_off(why).into()),
                }
            }
            Err(refused) => Err(refused),
        };
        unanswered.answered();
        let mut response = match outcome {
            Ok(response) => {
                counters::count(&self.counters.forwarded);
                let logged = self.journal.answered(recording, came, &trail, response.status().as_u16());
                let metered = metered(response, standing.take_meter());
                judge.named(&trail, metered).map(|body| Counted::new(Either::Right(body), logged))
            }
            Err(refused) => {
                unread.linger(refused.refusal);
                let refused = Refused { id: Some(trail.id()), ..refused };
                let response = answered(&method, refusal::respond(refused));
                standing.hide_from(refused.refusal);
                self.settle(recording, came, (&trail, Some(refused.refusal)), &response);
                judge.named(&trail, response).map(Either::Left).map(Counted::from)
            }
        };
        standing.tell(response.headers_mut());
        response
    }

    /// Judges a request that another proxy forwards, as the client at `source` sent it: what to tell the upstream of who
    /// that is, or the answer to the request; empty fields cover what the client sent.
    pub async fn verify(
        &self,
        request: &Parts,
        (source, covered): (IpAddr, Covered),
        respond: fn(Refused<'_>) -> Response<Full<Bytes>>,
        now: Now,
    ) -> Result<HeaderMap, Response<Full<Bytes>>> {
        counters::count(&self.counters.requests);
        let current = self.current.load_full();
        let Current { judge, proxy, recording } = &*current;
        let (trail, standing) = (Trail::default(), Standing::default());
        let came = asked_about(request, source, now.monotonic);
        let unanswered = Unanswered::new(&self.journal, recording, came, &trail, None);
        let judged = unforwarded(judge, request, source, (&trail, &standing), now).await;
        unanswered.answered();
        match judged {
            Ok(permit) => {
                counters::count(&self.counters.permitted);
                let outcome = Outcome::answered(PERMITTED);
                self.journal.settled(recording, came, &trail, outcome, 0);
                let mut headers = proxy.rules().identity(&permit, &request.headers, covered);
                standing.tell(&mut headers);
                judge.name(&trail, &mut headers);
                Ok(headers)
            }
            Err(refused) => {
                let refused = Refused { id: Some(trail.id()), ..refused };
                let mut response = respond(refused);
                self.settle(recording, came, (&trail, Some(refused.refusal)), &response);
                standing.hide_from(refused.refusal);
                standing.tell(response.headers_mut());
                Err(judge.named(&trail, response))
            }
        }
    }

    /// The answer to a proxy's question that is none.
    pub fn refuse_asking(&self, peer: IpAddr, asking: &Parts, refusal: Refusal) -> Response<Full<Bytes>> {
        counters::count(&self.counters.requests);
        let current = self.current.load();
        let trail = Trail::default();
        let response = refusal::respond(Refused { id: Some(trail.id()), ..refusal.into() });
        let came = asked_about(asking, peer, Monotonic::now());
        self.settle(&current.recording, came, (&trail, Some(refusal)), &response);
        current.judge.named(&trail, response)
    }

    /// Everything that is decided before a byte goes to the upstream. The charge comes first, so that no
    /// request is free, whatever is wrong with it.
    async fn judge<'g>(
        &'g self,
        judge: &'g Judge,
        peer: &Peer,
        (open, client): (&OpenRequest, Result<IpAddr, Refusal>),
        (trail, standing): (&Trail, &Standing),
        (request, has_body): (&Parts, bool),
        now: Now,
    ) -> Result<Judged<'g>, Refused<'g>> {
        let charged = client.unwrap_or(peer.source);
        let admitted = if charged == peer.connection.peer.ip() {
            judge.admit(charged, now)
        } else {
            open.comes_from(charged);
            judge.admit_behind_proxy(charged, now)
        }?;
        if let Some(certificate) = peer.connection.certificate() {
            // What the handshake accepted may have ended since.
            certificate.check(now.unix)?;
        }
        let source = client?;
        let mut canonical = judge.canonical(request, peer.server_name.as_deref())?;
        trail.canonical(&canonical);
        let own = self.authorization_server.as_ref();
        if let Some((server, endpoint)) = own.and_then(|server| Some((server, server.endpoint(&canonical)?)))
        {
            // It answers requests, and a stream that is to become a WebSocket is none.
            return if is_extended(request) {
                Err(Refusal::UpgradeNotAllowed.into())
            } else {
                Ok(Judged::Own(server, endpoint))
            };
        }
        let (headers, method) = (&request.headers, &request.method);
        let open = Some(open);
        let case =
            Case { canonical: &canonical, has_body, headers, method, now, open, source, standing, trail };
        let (permit, rewritten) = judge.permit(admitted, &case).await?;
        if let Some(path) = rewritten {
            canonical.rewrite(path)?;
        }
        Ok(Judged::Permitted(canonical, permit))
    }

    /// The answer of the built-in issuer; a client that failed to authenticate is charged as any other.
    fn own_answer(
        &self,
        judge: &Judge,
        source: IpAddr,
        trail: &Trail,
        answer: Result<Answered, EndpointRefused>,
    ) -> (Response<Full<Bytes>>, Option<Refusal>) {
        let now = Now::read();
        match answer {
            Ok(Answered { client, response }) => {
                if let Some(client) = &client {
                    self.debts.authenticated(source, now.monotonic);
                    trail.identified(client, false);
                }
                (response, None)
            }
            Err(refused) => {
                let denied = Denied { guess: refused.guess, refusal: refused.refusal };
                let refusal = judge.charge_failure(source, denied, now.monotonic);
                let refused = EndpointRefused { refusal, ..refused };
                (refusal::respond_endpoint(&refused, trail.id()), Some(refusal))
            }
        }
    }

    /// Counts a refusal, if it is one, and notes what became of a request that no upstream answers.
    fn settle(
        &self,
        recording: &Recording,
        came: Came<'_>,
        (trail, refusal): (&Trail, Option<Refusal>),
        response: &Response<Full<Bytes>>,
    ) {
        if let Some(refusal) = refusal {
            self.counters.refusals.count(refusal.name());
            if let Some(offence) = Offence::of(&refusal) {
                self.debts.offend(came.source, offence, Monotonic::now());
            }
        }
        let bytes = response.body().size_hint().exact().unwrap_or_default();
        let status = refusal.map_or(response.status(), |refusal| refusal.status()).as_u16();
        self.journal.settled(recording, came, trail, Outcome { refusal, ..Outcome::answered(status) }, bytes);
    }

    /// What became of the requests.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Holds it against `source` that it ended its connection with an offence.
    pub fn offended(&self, source: IpAddr, offence: Offence) {
        self.debts.offend(source, offence, Monotonic::now());
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

/// The status by which a proxy is told that it may forward a request.
const PERMITTED: u16 = 200;

/// A request that another proxy asks about.
fn asked_about(request: &Parts, source: IpAddr, at: Monotonic) -> Came<'_> {
    Came { at, method: &request.method, path: request.uri.path(), source, via: Via::ForwardAuth }
}

/// Leave for another proxy to forward a request.
async fn unforwarded<'j>(
    judge: &'j Judge,
    request: &Parts,
    source: IpAddr,
    (trail, standing): (&Trail, &Standing),
    now: Now,
) -> Result<Permit<'j>, Refused<'j>> {
    let admitted = judge.admit_behind_proxy(source, now)?;
    let canonical = judge.canonical(request, None)?;
    trail.canonical(&canonical);
    let (headers, method) = (&request.headers, &request.method);
    let (has_body, open) = (forward_auth::may_have_body(request), None);
    let case = Case { canonical: &canonical, has_body, headers, method, now, open, source, standing, trail };
    let (permit, _) = judge.permit(admitted, &case).await?;
    Ok(permit)
}

/// A request that was not refused.
enum Judged<'g> {
    /// The built-in issuer answers it.
    Own(&'g AuthorizationServer, Endpoint),
    /// It may be forwarded.
    Permitted(Canonical, Permit<'g>),
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
        End::Banned | End::Offence | End::Operator | End::Revoked => Refusal::CredentialRevoked,
    }
}
