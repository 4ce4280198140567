//! What is decided about a request before a byte of it goes anywhere, whoever forwards it then.
//!
//! The gateway asks for its own clients, and the forward-auth listener for those of the proxies that ask it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Response};

use crate::api_key::{ApiKey, has_browser_marks};
use crate::authenticate::{self, Denied, Verify};
use crate::authorization_server::SigningKeys;
use crate::client_address::TrustedProxies;
use crate::clock::{Monotonic, Now};
use crate::config::{Auth, Config, Route};
use crate::connections::OpenRequest;
use crate::credential::{self, Credential};
use crate::explain::{self, Presented, RequestId, Trail};
use crate::identity::{Identity, Method as By};
use crate::internal_token::InternalTokens;
use crate::issuers::MissingKey;
use crate::limits::{self, Admitted, Asking, Charge, Limiter, Plan, SourceDebts, Standing};
use crate::policy::{self, Asked, Permit, Policies};
use crate::refusal::{Refusal, Refused};
use crate::request::{self, Canonical};
use crate::routes::{Matched, RouteTable};
use crate::token::TokenError;

/// Nothing is held against a token whose key could not be looked for.
const UNKNOWN_NOW: Refusal = Refusal::Token(TokenError::KeysUnavailable);

/// What requests are judged by.
pub struct Judge {
    config: Arc<Config>,
    debts: Arc<dyn SourceDebts>,
    limits: OnceLock<(Arc<Limiter>, Arc<Plan>)>,
    policies: Policies,
    proxies: TrustedProxies,
    routes: RouteTable,
    tokens: OnceLock<InternalTokens>,
    verify: Arc<dyn Verify>,
}

/// A request that was charged and found to have one form.
#[derive(Clone, Copy, Debug)]
pub struct Case<'c> {
    /// Host and target.
    pub canonical: &'c Canonical,
    /// Whether there is a body, or may be one.
    pub has_body: bool,
    /// Header fields, as they came.
    pub headers: &'c HeaderMap,
    /// The method.
    pub method: &'c Method,
    /// When it is.
    pub now: Now,
    /// Where to note who sent it; none if it goes on elsewhere.
    pub open: Option<&'c OpenRequest>,
    /// The client's address.
    pub source: IpAddr,
    /// Where to note what the limits came to.
    pub standing: &'c Standing,
    /// Where to note what is found out.
    pub trail: &'c Trail,
}

impl Judge {
    /// By one configuration.
    pub fn new(config: Arc<Config>, verify: Arc<dyn Verify>, debts: Arc<dyn SourceDebts>) -> Self {
        let (proxies, routes) = (TrustedProxies::new(&config.proxies), RouteTable::new(&config.routes));
        let (limits, policies, tokens) = Default::default();
        Self { config, debts, limits, policies, proxies, routes, tokens, verify }
    }

    /// From now on with the limits and quotas of the configuration.
    pub fn limit_with(&self, limiter: &Arc<Limiter>) {
        // The first ones stay; there are no others.
        let _ = self.limits.set((Arc::clone(limiter), limiter.plan(&self.config)));
    }

    /// Has the limiter go by the limits and quotas that this one goes by.
    pub fn adopted_by(&self, limiter: &Limiter) {
        if let Some((_, plan)) = self.limits.get() {
            limiter.adopt(Arc::clone(plan));
        }
    }

    /// The policies that it asks.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// With the policies of its configuration; without them, what a route leaves to policies is refused.
    #[must_use]
    pub fn with_policies(self, policies: Policies) -> Self {
        Self { policies, ..self }
    }

    /// From now on with tokens for upstreams, signed with these keys, where the configuration wants some.
    pub fn sign_with(&self, keys: &Arc<SigningKeys>) {
        if let Some(tokens) = InternalTokens::new(&self.config, keys) {
            // The first ones stay; there are no others.
            let _ = self.tokens.set(tokens);
        }
    }

    /// The debts of sources.
    pub fn debts(&self) -> &dyn SourceDebts {
        &*self.debts
    }

    /// The client's address of a request that came from `peer`.
    ///
    /// # Errors
    /// A trusted proxy does not say.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Refusal> {
        self.proxies.client(peer, headers)
    }

    /// What a request from `peer` is called: a trusted proxy may have named it, where fields tell of its clients.
    pub fn request_id(&self, peer: IpAddr, fields_name_clients: bool, headers: &HeaderMap) -> RequestId {
        let named = self
            .config
            .explain
            .header
            .as_ref()
            .filter(|_| fields_name_clients && self.proxies.contains(peer));
        named.and_then(|name| explain::accepted(headers, name)).unwrap_or_else(RequestId::make)
    }

    /// The response, with the name of its request.
    pub fn named<B>(&self, trail: &Trail, mut response: Response<B>) -> Response<B> {
        self.name(trail, response.headers_mut());
        response
    }

    /// Puts the name of the request in its field, if there is one.
    pub fn name(&self, trail: &Trail, headers: &mut HeaderMap) {
        if let Some(name) = &self.config.explain.header {
            headers.insert(name.clone(), trail.id().value().clone());
        }
    }

    /// Charges a request to its source, so that none is free, whatever is wrong with it.
    ///
    /// # Errors
    /// The source is over a budget.
    pub fn admit(&self, source: IpAddr, now: Now) -> Result<Admitted, Refusal> {
        limits::admit(&*self.debts, source, now.monotonic)
    }

    /// The same for a client behind a trusted proxy.
    ///
    /// # Errors
    /// The client is over a budget, or banned.
    pub fn admit_behind_proxy(&self, client: IpAddr, now: Now) -> Result<Admitted, Refusal> {
        limits::admit_behind_proxy(&*self.debts, client, now.monotonic)
    }

    /// The one form of a request that came over a connection made for `server_name`.
    ///
    /// # Errors
    /// It has none.
    pub fn canonical(&self, request: &Parts, server_name: Option<&str>) -> Result<Canonical, Refusal> {
        request::canonicalise(request, server_name, &self.config.sizes)
    }

    /// Leave to forward the request, and the path that the upstream is to see where that is another.
    ///
    /// # Errors
    /// There is no route for it, or whoever sent it may not use that.
    pub async fn permit(
        &self,
        admitted: Admitted,
        case: &Case<'_>,
    ) -> Result<(Permit<'_>, Option<String>), Refused<'_>> {
        let matched = policy::route(&self.routes, case.method, case.canonical)?;
        let (route, rewritten) = (matched.route, matched.rewritten(case.canonical.path()));
        case.trail.route(&route.label);
        let identity = self.limited(case, route).await?;
        let mut permit = self.authorize(admitted, case, &matched, identity)?;
        if let Some(tokens) = self.tokens.get() {
            permit = permit.with_token(tokens, case.now.unix)?;
        }
        Ok((permit, rewritten))
    }

    /// Who sent the request, if it is within all limits. What is over those that need nobody is refused before anything is
    /// verified, and those are charged whether or not it is found out who sent it.
    async fn limited(&self, case: &Case<'_>, route: &Route) -> Result<Option<Arc<Identity>>, Refusal> {
        let Some((limiter, plan)) = self.limits.get().filter(|_| !route.limits.is_empty()) else {
            return self.identify(case, route).await;
        };
        let Case { method, now, source, standing, trail, .. } = *case;
        let asking = Asking { identity: None, method, now, route, source };
        // Where nobody has to prove anything, the charge looks first anyway.
        if route.auth == Auth::Required
            && let Err(refusal) = limiter.look(plan, &asking, standing)
        {
            note(standing, trail);
            return Err(refusal);
        }
        let identified = self.identify(case, route).await;
        let identity = identified.as_ref().ok().and_then(|identity| identity.as_deref());
        let charged = limiter.charge(plan, &Asking { identity, ..asking }, standing);
        note(standing, trail);
        // What is wrong with the credential is told first.
        let identity = identified?;
        charged.map(|()| identity)
    }

    /// What would come of the request if `identity` had sent it: its route, and why it is refused.
    pub fn decision(
        &self,
        case: &Case<'_>,
        identity: Option<Arc<Identity>>,
    ) -> (Option<&Route>, Result<(), Refusal>) {
        let matched = match policy::route(&self.routes, case.method, case.canonical) {
            Ok(matched) => matched,
            Err(refused) => return (None, Err(refused.refusal)),
        };
        let identity = identity.filter(|_| matched.route.auth == Auth::Required);
        let decided = self.admit(case.source, case.now).and_then(|admitted| {
            self.authorize(admitted, case, &matched, identity).map(drop).map_err(|refused| refused.refusal)
        });
        (Some(matched.route), decided)
    }

    /// Leave to use the route and the object that is asked for; foreign ones are charged.
    fn authorize<'j>(
        &'j self,
        admitted: Admitted,
        case: &Case<'_>,
        matched: &Matched<'j, '_>,
        identity: Option<Arc<Identity>>,
    ) -> Result<Permit<'j>, Refused<'j>> {
        let (route, now) = (matched.route, case.now.monotonic);
        let asked = Asked {
            captures: &matched.captures,
            has_body: case.has_body,
            headers: case.headers,
            method: case.method,
            now: case.now.unix,
            path: case.canonical.path(),
            query: case.canonical.query(),
            source: case.source,
            trail: case.trail,
        };
        let principal = identity.as_ref().filter(|_| policy::decides_about_objects(route)).cloned();
        if let Some(identity) = &principal
            && let Charge::Over { retry_after } = self.debts.enumeration_debt(case.source, identity, now)
        {
            return Err(self.slow(case, identity, retry_after).into());
        }
        let refused = match policy::authorize(admitted, route, &self.policies, identity, &asked) {
            Ok(permit) => return Ok(permit),
            Err(refused) => refused,
        };
        match (refused.refusal, principal) {
            (Refusal::ObjectForeign { .. } | Refusal::PolicyDenied { .. }, Some(identity)) => {
                let object = policy::object_hash(route, &asked);
                match self.debts.foreign_object(case.source, &identity, object, now) {
                    Charge::Over { retry_after } => Err(self.slow(case, &identity, retry_after).into()),
                    Charge::Within => Err(refused),
                }
            }
            _ => Err(refused),
        }
    }

    /// The answer to a principal that goes on asking for objects of others.
    fn slow(&self, case: &Case<'_>, identity: &Identity, retry_after: Duration) -> Refusal {
        let connection = case.open.map(OpenRequest::connection);
        self.debts.goes_on(case.source, identity, connection, case.now.monotonic);
        Refusal::EnumerationLimit { retry_after }
    }

    /// Who sent the request, where the route wants to know; a failure is charged to the source.
    async fn identify(&self, case: &Case<'_>, route: &Route) -> Result<Option<Arc<Identity>>, Refusal> {
        if route.auth == Auth::None {
            return Ok(None);
        }
        let outcome = self.authenticate(case).await.and_then(|identity| {
            // In this order: what is revoked after the look finds the request among those to be cut off.
            case.open.inspect(|open| open.identified(&identity));
            let unrevoked = self.verify.unrevoked(&identity, case.now.unix);
            case.trail.identified(&identity, unrevoked.is_err());
            unrevoked?;
            case.open.inspect(|open| open.accepted(&identity));
            Ok(identity)
        });
        match outcome {
            Ok(identity) => {
                self.debts.authenticated(case.source, case.now.monotonic);
                Ok(Some(identity))
            }
            Err(denied) => Err(self.charge_failure(case.source, denied, case.now.monotonic)),
        }
    }

    /// Charges a failed authentication to its source and to what it may have been a guess of. If others have
    /// guessed at that too often, the answer says no more.
    pub fn charge_failure(&self, source: IpAddr, denied: Denied, now: Monotonic) -> Refusal {
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
    fn refuse_browser(&self, headers: &HeaderMap, credential: &Credential<'_>) -> Result<(), Refusal> {
        let refused = credential.method() == By::ApiKey
            && !self.config.api_keys.allow_browsers
            && has_browser_marks(headers);
        if refused { Err(Refusal::ApiKeyBrowser) } else { Ok(()) }
    }

    /// The one place where a request waits while it is judged: for keys that its issuer may just have published.
    async fn authenticate(&self, case: &Case<'_>) -> Result<Arc<Identity>, Denied> {
        let header = &self.config.api_keys.header;
        let max_bytes = self.config.sizes.token_bytes.get();
        let certificate = case.open.and_then(OpenRequest::certificate);
        let credential = match credential::extract(case.headers, case.canonical.query(), header, max_bytes) {
            Err(Refusal::CredentialMissing) => {
                let certificate = certificate.ok_or(Refusal::CredentialMissing)?;
                return Ok(certificate.identity(has_browser_marks(case.headers))?);
            }
            credential => credential?,
        };
        case.trail.credential(credential.method());
        self.refuse_browser(case.headers, &credential)?;
        let judge = |now: Now| {
            authenticate::authenticate(&*self.verify, &credential, case.source, (now, case.trail))
                .and_then(|identity| authenticate::bound(identity, certificate))
        };
        let denied = match judge(case.now) {
            Ok(identity) => return Ok(identity),
            Err(denied) => denied,
        };
        note_api_key(case.trail, &credential);
        let hope = |denied: &Denied, now: Now| {
            authenticate::missing_key(&*self.verify, &credential, &denied.refusal, now.monotonic)
        };
        match hope(&denied, case.now) {
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
}

/// Notes which API key was refused. Its id is no secret.
fn note_api_key(trail: &Trail, credential: &Credential<'_>) {
    if credential.method() == By::ApiKey
        && let Ok(key) = ApiKey::parse(credential.text())
    {
        trail.presented(Presented::new(None, Some(&key.id().to_string())));
    }
}

/// Notes what the limits came to.
fn note(standing: &Standing, trail: &Trail) {
    standing.each(|name, used, most| trail.limit(Arc::clone(name), used, most));
}
