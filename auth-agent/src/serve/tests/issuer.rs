//! The built-in issuer over real sockets: a key becomes a token, the token opens a route, and both end together.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, Version};
use serde_json::Value;

use super::edge::{Edge, SOURCE, request};
use crate::api_key::{ApiKey, KeyRing, Pepper, StoredKey};
use crate::authenticate::Verify;
use crate::authorization_server::{AuthorizationServer, RevokeToken, Sealer, SigningKeys, TokenIssuer};
use crate::clock::UnixTime;
use crate::config::{Config, tests::MINIMAL};
use crate::credentials::Credentials;
use crate::identity::Identity;
use crate::issuers::Issuers;
use crate::limits::tests::{Charged, Fake};
use crate::revocation::{Revocation, Revocations, Target};
use crate::store::Store;
use crate::token::Verifier;

struct InMemory(Arc<Revocations>);

impl RevokeToken for InMemory {
    fn revoke_token(&self, token: &Identity, now: UnixTime) -> Result<(), String> {
        let token = token.facts().token.unwrap();
        self.0.revoke(&Target::Token { token }, Revocation { before: None, until: None }, now);
        Ok(())
    }
}

struct Site {
    edge: Edge,
    key: ApiKey,
    ring: Arc<KeyRing>,
    _directory: tempfile::TempDir,
}

/// An edge whose built-in issuer knows one key, with the scope `read`.
async fn site(debts: Fake) -> Site {
    let directory = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
    let section = "[authorization_server]\nissuer = \"https://localhost\"\naudience = \"edge\"";
    let config = Config::parse(&format!("{MINIMAL}\n{section}"), Path::new("edge.toml")).unwrap();
    let server = config.authorization_server.clone().unwrap();
    let now = UnixTime::now();
    let store = Arc::new(Store::open(directory.path(), now).unwrap());
    let pepper = Pepper::open(directory.path(), false).unwrap();
    let sealer = Sealer::new(&pepper).unwrap();
    let ring = Arc::new(KeyRing::new(pepper, []));
    let tokens = Arc::new(Verifier::load(&config.issuers, 4096).unwrap());
    let issuers = Issuers::open(&config.issuers, directory.path(), Arc::clone(&tokens), now).unwrap();
    let keys = SigningKeys::open(&server, store, sealer, Arc::clone(&tokens), now).unwrap();
    let issuer = Arc::new(TokenIssuer::new(server, keys));
    let revocations = Arc::<Revocations>::default();
    let credentials =
        Credentials::new(Arc::new(issuers), Arc::clone(&ring), Arc::clone(&revocations), tokens);
    let verify: Arc<dyn Verify> = Arc::new(credentials.remembering(&config.tokens, Arc::default()));
    let key = ApiKey::generate().unwrap();
    let stored = StoredKey::new(key.id(), ring.hash(&key), "ci".into(), UnixTime(1));
    ring.insert(&StoredKey { scopes: vec!["read".into()], ..stored });
    let server =
        AuthorizationServer::new(&config, issuer, Arc::clone(&verify), Arc::new(InMemory(revocations)));
    let edge =
        Edge::verifying(verify, debts, |_| (), |gateway| gateway.with_authorization_server(server)).await;
    Site { edge, key, ring, _directory: directory }
}

impl Site {
    async fn post(&self, version: Version, target: &str, form: &str) -> Response<Bytes> {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let client = format!("client_id={}&client_secret={}", self.key.id(), self.key.expose());
        let form = format!("{client}&{form}");
        self.edge.send(version, request(version, "POST", target, &headers, &form)).await
    }

    async fn use_token(&self, token: &str) -> (u16, Value) {
        let bearer = format!("Bearer {token}");
        let sent = request(Version::HTTP_11, "GET", "/api", &[("authorization", &bearer)], "");
        let response = self.edge.send(Version::HTTP_11, sent).await;
        let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        (response.status().as_u16(), body["reason"].clone())
    }
}

#[tokio::test]
async fn a_key_becomes_a_token_that_opens_a_route_until_either_is_revoked() {
    let site = site(Fake::new(1000, 1000)).await;
    let mut tokens = Vec::new();
    for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_11] {
        let response = site.post(version, "/oauth2/token", "grant_type=client_credentials").await;
        assert_eq!(response.status(), 200, "{response:?}");
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        let token = body["access_token"].as_str().unwrap().to_owned();
        assert_eq!(site.use_token(&token).await.0, 200, "{version:?}");
        let seen = site.edge.upstream.take().pop().unwrap();
        assert_eq!(
            (&seen.headers["x-auth-subject"], &seen.headers["x-auth-method"]),
            (&"ci".parse().unwrap(), &"jwt".parse().unwrap())
        );
        tokens.push(token);
    }
    let form = format!("token={}", tokens[0]);
    assert_eq!(site.post(Version::HTTP_11, "/oauth2/revoke", &form).await.status(), 200);
    assert_eq!(site.use_token(&tokens[0]).await, (401, "credential-revoked".into()));
    assert_eq!(site.use_token(&tokens[1]).await.0, 200, "the others go on");
    site.ring.revoke(site.key.id());
    for token in &tokens[1..] {
        assert_eq!(site.use_token(token).await, (401, "api-key-revoked".into()));
    }
    let refused = site.post(Version::HTTP_11, "/oauth2/token", "grant_type=client_credentials").await;
    let body: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!((refused.status().as_u16(), &body["reason"]), (401, &"api-key-revoked".into()));
}

#[tokio::test]
async fn the_issuer_is_charged_like_any_route_and_comes_before_all_of_them() {
    let site = site(Fake::new(6, 2)).await;
    let get = |target| site.edge.send(Version::HTTP_11, request(Version::HTTP_11, "GET", target, &[], ""));
    let metadata = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.status(), 200, "no route covers it");
    assert_eq!(get("/.well-known/jwks.json").await.status(), 200);
    assert_eq!(get("/.well-known/openid-configuration").await.status(), 404, "it is no OpenID provider");
    let guess = ApiKey::generate().unwrap();
    let guess =
        format!("client_id={}&client_secret={}&grant_type=client_credentials", guess.id(), guess.expose());
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let sent = request(Version::HTTP_11, "POST", "/oauth2/token", &headers, &guess);
        statuses.push(site.edge.send(Version::HTTP_11, sent).await.status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 429, 429], "two guesses, then the budget of requests or failures");
    let charged = site.edge.debts.of(SOURCE);
    assert_eq!(charged, Charged { auth_failures: 2, known: false, requests: 7 });
    let refusals = site.edge.counts().refusals;
    assert_eq!(
        (refusals["api-key-invalid"], refusals["auth-failure-limit"], refusals["request-limit"]),
        (2, 1, 1)
    );
}

#[tokio::test]
async fn head_is_answered_as_get_is_without_the_body() {
    let site = site(Fake::new(1000, 1000)).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for (target, status) in
            [("/.well-known/jwks.json", 200), ("/oauth2/token", 405), ("/api", 401), ("/nowhere", 404)]
        {
            let send = |method| site.edge.send(version, request(version, method, target, &[], ""));
            let (get, head) = (send("GET").await, send("HEAD").await);
            assert_eq!((get.status().as_u16(), head.status().as_u16()), (status, status), "{target}");
            assert!(head.body().is_empty(), "{version:?} {target}: {:?}", head.body());
            let length = head.headers()["content-length"].to_str().unwrap();
            assert_eq!(length, get.body().len().to_string(), "{version:?} {target}");
            assert_eq!(head.headers()["content-type"], get.headers()["content-type"]);
        }
    }
}
