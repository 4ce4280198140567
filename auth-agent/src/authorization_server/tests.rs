mod endpoints;
mod forms;
mod rotation;

use std::convert::Infallible;
use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http::Request;
use http::request::Parts;
use tempfile::{Builder, TempDir};

use super::*;
use crate::api_key::{ApiKey, KeyRing, Pepper, StoredKey};
use crate::clock::Monotonic;
use crate::credentials::Credentials;
use crate::explain::Trail;
use crate::issuers::Issuers;
use crate::revocation::{Revocation, Revocations, Target};
use crate::store::Store;
use crate::token::Verifier;

const NOW: UnixTime = UnixTime(1_700_000_000);
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn at(seconds: u64) -> Now {
    Now { monotonic: Monotonic(seconds * 1_000_000_000), unix: UnixTime(NOW.0 + seconds) }
}

/// A store's directory, and what lies beside the store in it.
fn directory() -> TempDir {
    Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

fn config(more: &str) -> Config {
    let server =
        "[authorization_server]\nissuer = \"https://edge.example/auth\"\naudience = \"https://api.example\"";
    let text = format!("{}\n{server}\n{more}", crate::config::tests::MINIMAL);
    Config::parse(&text, Path::new("edge.toml")).unwrap()
}

impl From<Infallible> for Refusal {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Revokes in memory alone.
#[derive(Default)]
struct FakeRevoke {
    fails: Mutex<bool>,
    revocations: Arc<Revocations>,
}

impl RevokeToken for FakeRevoke {
    fn revoke_token(&self, token: &Identity, now: UnixTime) -> Result<(), String> {
        if *self.fails.lock().unwrap() {
            return Err("the disk is full".to_owned());
        }
        let token = token.facts().token.unwrap();
        self.revocations.revoke(&Target::Token { token }, Revocation { before: None, until: None }, now);
        Ok(())
    }
}

/// An authorization server with everything behind it.
struct Site {
    directory: TempDir,
    issuer: Arc<TokenIssuer>,
    ring: Arc<KeyRing>,
    revoke: Arc<FakeRevoke>,
    server: AuthorizationServer,
    verify: Arc<dyn Verify>,
}

impl Site {
    fn open(more: &str) -> Self {
        Self::reopen(directory(), more, NOW).unwrap()
    }

    fn reopen(directory: TempDir, more: &str, now: UnixTime) -> Result<Self, SigningError> {
        let config = config(more);
        let store = Arc::new(Store::open(directory.path(), now)?);
        let pepper = Pepper::open(directory.path(), store.needs_secret()?).unwrap();
        let sealer = Sealer::new(&pepper)?;
        let ring = Arc::new(KeyRing::new(pepper, []));
        let tokens = Arc::new(Verifier::load(&config.issuers, config.sizes.token_bytes.get()).unwrap());
        let server = config.authorization_server.clone().unwrap();
        let issuers = Issuers::open(&config.issuers, directory.path(), Arc::clone(&tokens), now).unwrap();
        let keys = SigningKeys::open(&server, store, sealer, Arc::clone(&tokens), now)?;
        let issuer = Arc::new(TokenIssuer::new(server, keys));
        let revocations = Arc::<Revocations>::default();
        let issuers = Arc::new(issuers);
        let credentials = Credentials::new(issuers, Arc::clone(&ring), Arc::clone(&revocations), tokens);
        // With the cache: what ends a key or a signing key ends what is remembered, too.
        let verify: Arc<dyn Verify> = Arc::new(credentials.remembering(&config.tokens, Arc::default()));
        let revoke = Arc::new(FakeRevoke { revocations, ..FakeRevoke::default() });
        let server = AuthorizationServer::new(
            &config,
            Arc::clone(&issuer),
            Arc::clone(&verify),
            Arc::clone(&revoke) as _,
        );
        Ok(Self { directory, issuer, ring, revoke, server, verify })
    }

    /// Stops; what it stored is left.
    fn close(self) -> TempDir {
        self.directory
    }

    /// A key of `billing` with the scopes read and write.
    fn key(&self, change: impl FnOnce(&mut StoredKey)) -> ApiKey {
        let key = ApiKey::generate().unwrap();
        let mut stored = StoredKey::new(key.id(), self.ring.hash(&key), "billing".into(), UnixTime(1));
        stored.scopes = vec!["read".into(), "write".into()];
        change(&mut stored);
        self.ring.insert(&stored);
        key
    }

    async fn send(
        &self,
        endpoint: Endpoint,
        request: &Parts,
        body: &str,
        now: Now,
    ) -> Result<Answered, EndpointRefused> {
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        self.server.answer(endpoint, request, body, SOURCE, || Ok(now)).await
    }

    /// What is answered to a form with the key as the client.
    async fn post(&self, endpoint: Endpoint, key: &ApiKey, form: &str, now: Now) -> Result<Value, Refusal> {
        let client = format!("client_id={}&client_secret={}", key.id(), key.expose());
        let answered = self.send(endpoint, &posted(&[]), &format!("{client}&{form}"), now).await;
        match answered {
            Ok(answered) => Ok(json_of(answered.response).await),
            Err(refused) => Err(refused.refusal),
        }
    }

    /// A new token for the key.
    async fn token(&self, key: &ApiKey, now: Now) -> String {
        let answer = self.post(Endpoint::Token, key, "grant_type=client_credentials", now).await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn use_token(&self, token: &str, now: Now) -> Result<Arc<Identity>, Refusal> {
        let identity =
            self.verify.token(token, now.unix, &Trail::default()).map_err(|denied| denied.refusal)?;
        self.verify.unrevoked(&identity, now.unix)?;
        Ok(identity)
    }
}

/// The head of a POST of a form.
fn posted(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::post("/auth/oauth2/token");
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

async fn json_of(response: Response<Full<Bytes>>) -> Value {
    use http_body_util::BodyExt;
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}
