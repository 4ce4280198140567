//! The built-in issuer: an authorization server (RFC 6749) whose clients are API keys, and which gives them short-lived
//! tokens.
//!
//! It is served on the public listeners, at the host and path of its issuer, before any route. A client goes by the
//! same rules as anyone who sends an API key. Its tokens are verified as any issuer's are.

mod client;
mod form;
mod issue;
mod key;
mod metadata;
mod seal;
mod signing;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use http_body::Body;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::form::Form;
pub use self::issue::{Grant, Issued, TokenIssuer};
pub use self::seal::Sealer;
pub use self::signing::{CACHED, KeyReport, Rotation, SigningError, SigningKeys};
use crate::api_key::has_browser_marks;
use crate::authenticate::{Denied, Verify};
use crate::clock::{Now, UnixTime};
use crate::config::{Config, OWN_ISSUER, OWN_LEEWAY};
use crate::explain::Trail;
use crate::identity::Identity;
use crate::refusal::{EndpointRefused, Refusal};
use crate::request::Canonical;

/// Revokes single tokens, for the endpoint of RFC 7009.
pub trait RevokeToken: Send + Sync {
    /// Refuses the token from now on. Durable when it returns; blocks.
    ///
    /// # Errors
    /// Why it could not be done, for the log.
    fn revoke_token(&self, token: &Identity, now: UnixTime) -> Result<(), String>;
}

/// What a request to the built-in issuer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// `POST .../oauth2/introspect`: RFC 7662.
    Introspect,
    /// `GET .../.well-known/jwks.json`: RFC 7517.
    Keys,
    /// `GET /.well-known/oauth-authorization-server...`: RFC 8414.
    Metadata,
    /// `POST .../oauth2/revoke`: RFC 7009.
    Revoke,
    /// `POST .../oauth2/token`: RFC 6749, 4.4.
    Token,
}

const INTROSPECT: &str = "/oauth2/introspect";
const KEYS: &str = "/.well-known/jwks.json";
const METADATA: &str = "/.well-known/oauth-authorization-server";
const REVOKE: &str = "/oauth2/revoke";
const TOKEN: &str = "/oauth2/token";

/// The endpoints.
pub struct AuthorizationServer {
    allow_browsers: bool,
    authority: String,
    issuer: Arc<TokenIssuer>,
    metadata: Bytes,
    path: String,
    revoke: Arc<dyn RevokeToken>,
    revoking: Semaphore,
    token_bytes: usize,
    verify: Arc<dyn Verify>,
}

/// An answer, and the client that got it, where it said who it is.
#[derive(Debug)]
pub struct Answered {
    /// The client.
    pub client: Option<Arc<Identity>>,
    /// The answer.
    pub response: Response<Full<Bytes>>,
}

impl AuthorizationServer {
    /// The endpoints of `issuer`.
    pub fn new(
        config: &Config,
        issuer: Arc<TokenIssuer>,
        verify: Arc<dyn Verify>,
        revoke: Arc<dyn RevokeToken>,
    ) -> Self {
        let url = &issuer.config.issuer;
        Self {
            allow_browsers: config.api_keys.allow_browsers,
            authority: url.authority.clone(),
            metadata: metadata::document(&issuer.config),
            path: url.path.clone(),
            issuer,
            revoke,
            revoking: Semaphore::new(1),
            token_bytes: config.sizes.token_bytes.get(),
            verify,
        }
    }

    /// What the request is for, if it is for this server.
    pub fn endpoint(&self, request: &Canonical) -> Option<Endpoint> {
        let host = request.host().to_str().ok()?;
        let host = host.strip_suffix(":443").unwrap_or(host);
        if !host.eq_ignore_ascii_case(&self.authority) {
            return None;
        }
        // RFC 8414, 3.1: the issuer's path comes after the well-known one.
        if request.path().strip_prefix(METADATA) == Some(&self.path) {
            return Some(Endpoint::Metadata);
        }
        match request.path().strip_prefix(&self.path)? {
            INTROSPECT => Some(Endpoint::Introspect),
            KEYS => Some(Endpoint::Keys),
            REVOKE => Some(Endpoint::Revoke),
            TOKEN => Some(Endpoint::Token),
            _ => None,
        }
    }

    /// Answers a request that is for `endpoint`. `ready` is asked once the whole request is there: for the time, or why
    /// the source may not authenticate any more.
    pub async fn answer<B>(
        &self,
        endpoint: Endpoint,
        request: &Parts,
        body: B,
        source: IpAddr,
        ready: impl FnOnce() -> Result<Now, Refusal>,
    ) -> Result<Answered, EndpointRefused>
    where
        B: Body<Data = Bytes, Error: Into<Refusal>>,
    {
        let read = matches!(request.method, Method::GET | Method::HEAD);
        match endpoint {
            Endpoint::Keys if read => Ok(public(self.issuer.keys.key_set(), "application/jwk-set+json")),
            Endpoint::Metadata if read => Ok(public(self.metadata.clone(), "application/json")),
            Endpoint::Keys | Endpoint::Metadata => Err(EndpointRefused::method("GET, HEAD")),
            _ if request.method != Method::POST => Err(EndpointRefused::method("POST")),
            _ => {
                let answer = self.post(endpoint, request, body, source, ready).await;
                let basic = client::uses_header(&request.headers);
                answer.map_err(|Denied { guess, refusal }| EndpointRefused {
                    allow: None,
                    basic,
                    guess,
                    refusal,
                })
            }
        }
    }

    async fn post<B>(
        &self,
        endpoint: Endpoint,
        request: &Parts,
        body: B,
        source: IpAddr,
        ready: impl FnOnce() -> Result<Now, Refusal>,
    ) -> Result<Answered, Denied>
    where
        B: Body<Data = Bytes, Error: Into<Refusal>>,
    {
        if request.uri.query().is_some() {
            // Addresses end up in logs, and RFC 6749, 2.3.1 forbids it for secrets.
            return Err(Refusal::FormInvalid.into());
        }
        let form = Form::read(&request.headers, body).await?;
        let now = ready()?;
        let client = self.client(request, &form, source, now)?;
        let answer = match endpoint {
            Endpoint::Introspect => self.introspect(&client, &form, now.unix)?,
            Endpoint::Revoke => self.revoke(&client, &form, now.unix).await?,
            _ => self.token(&client, &form, now.unix)?,
        };
        Ok(Answered { client: Some(client), response: json_answer(&answer) })
    }

    /// The client, by the rules of its API key.
    fn client(
        &self,
        request: &Parts,
        form: &Form,
        source: IpAddr,
        now: Now,
    ) -> Result<Arc<Identity>, Denied> {
        let credentials = client::find(&request.headers, form)?;
        if !self.allow_browsers && has_browser_marks(&request.headers) {
            return Err(Refusal::ApiKeyBrowser.into());
        }
        let client = self.verify.api_key(&credentials.key, source, now)?;
        self.verify.unrevoked(&client, now.unix)?;
        Ok(client)
    }

    /// RFC 6749, 4.4.2 and 5.1.
    fn token(&self, client: &Identity, form: &Form, now: UnixTime) -> Result<Value, Refusal> {
        if form.required("grant_type")? != "client_credentials" {
            return Err(Refusal::GrantUnsupported);
        }
        let scopes = granted(client, form.value("scope"))?;
        let facts = client.facts();
        let latest = UnixTime(now.0.saturating_add(self.issuer.config.token_lifetime.as_secs()));
        let grant = Grant {
            client: facts.key.ok_or(Refusal::ApiKeyInvalid)?.to_string(),
            expires: facts.expires.map_or(latest, |expires| expires.min(latest)),
            scopes,
            subject: client.subject().to_owned(),
        };
        let issued = self.issuer.issue(&grant, now).map_err(|error| failed(&error))?;
        if issued.token.len() > self.token_bytes {
            // It would be refused when it is used.
            return Err(Refusal::ScopeInvalid);
        }
        let mut answer = json!({
            "access_token": issued.token,
            "token_type": "Bearer",
            "expires_in": grant.expires.0.saturating_sub(now.0),
        });
        if !grant.scopes.is_empty() {
            answer["scope"] = grant.scopes.join(" ").into();
        }
        Ok(answer)
    }

    /// RFC 7662, 2: only what this server issued is told anything of, and only until its `exp`: who asks may allow a
    /// leeway of its own.
    fn introspect(&self, client: &Identity, form: &Form, now: UnixTime) -> Result<Value, Refusal> {
        let needed = &self.issuer.config.introspection_scope;
        if !client.scopes().iter().any(|scope| **scope == **needed) {
            return Err(Refusal::ScopeMissing);
        }
        let token = self.own_token(form.required("token")?, now);
        let valid =
            token.and_then(|token| stated_end(&token).filter(|end| *end > now).map(|end| (token, end)));
        let Some((token, expires)) = valid else { return Ok(json!({ "active": false })) };
        let facts = token.facts();
        let scope = facts.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>().join(" ");
        Ok(json!({
            "active": true,
            "aud": self.issuer.config.audience,
            "client_id": facts.client.as_deref(),
            "exp": expires,
            "iat": facts.issued_at,
            "iss": self.issuer.config.issuer.text,
            "jti": facts.token_id.as_deref(),
            "scope": scope,
            "sub": *facts.subject,
            "token_type": "Bearer",
        }))
    }

    /// RFC 7009, 2: a client may revoke what it was given; what is not valid needs no revoking.
    async fn revoke(&self, client: &Identity, form: &Form, now: UnixTime) -> Result<Value, Refusal> {
        let Some(token) = self.own_token(form.required("token")?, now) else { return Ok(json!({})) };
        if token.facts().key != client.facts().key {
            return Err(Refusal::TokenForeign);
        }
        // One at a time: clients are not to keep the operator waiting.
        let _turn = self.revoking.acquire().await.map_err(|_| Refusal::IssuerFailed)?;
        let revoke = Arc::clone(&self.revoke);
        let done = tokio::task::spawn_blocking(move || revoke.revoke_token(&token, now)).await;
        match done.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => Ok(json!({})),
            Err(error) => {
                tracing::error!(error, "a token could not be revoked");
                Err(Refusal::IssuerFailed)
            }
        }
    }

    /// A token that this server issued and that is valid now.
    fn own_token(&self, token: &str, now: UnixTime) -> Option<Arc<Identity>> {
        let token = self.verify.token(token, now, &Trail::default()).ok()?;
        self.verify.unrevoked(&token, now).ok()?;
        (token.facts().issuer.as_deref() == Some(OWN_ISSUER)).then_some(token)
    }
}

/// The token's `exp`.
fn stated_end(token: &Identity) -> Option<UnixTime> {
    token.facts().expires.map(|expires| UnixTime(expires.0.saturating_sub(OWN_LEEWAY.as_secs())))
}

/// The scopes that are asked for, if the client has them all; all that it has, if it asks for none.
fn granted(client: &Identity, asked: Option<&str>) -> Result<Vec<String>, Refusal> {
    let held = client.scopes();
    let Some(asked) = asked else { return Ok(held.iter().map(|scope| scope.to_string()).collect()) };
    let mut granted: Vec<String> = Vec::new();
    for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
        if !held.iter().any(|held| **held == *scope) {
            return Err(Refusal::ScopeInvalid);
        }
        if !granted.iter().any(|granted| granted == scope) {
            granted.push(scope.to_owned());
        }
    }
    if granted.is_empty() { Err(Refusal::ScopeInvalid) } else { Ok(granted) }
}

fn failed(error: &SigningError) -> Refusal {
    tracing::error!(%error, "a token could not be signed");
    Refusal::IssuerFailed
}

/// What anybody may read, and keep for a while.
fn public(body: Bytes, media_type: &'static str) -> Answered {
    let mut response = Response::new(Full::new(body));
    let cached = format!("public, max-age={}", CACHED.as_secs());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.extend(HeaderValue::try_from(cached).ok().map(|value| (CACHE_CONTROL, value)));
    Answered { client: None, response }
}

/// RFC 6749, 5.1: never kept.
fn json_answer(answer: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
