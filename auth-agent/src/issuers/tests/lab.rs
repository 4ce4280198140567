//! An issuer with its HTTPS server, and an agent's view of it.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{IssuerStatus, Issuers, MissingKey};
use super::server::{Authority, Identity, Server};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Issuer, KeySource, RemoteKeys, RemoteSource};
use crate::https_url::HttpsUrl;
use crate::token::tests::mint::{MAX_BYTES, NOW, Signer, claims, issuer};
use crate::token::{TokenError, Verifier};

pub const KEYS: &str = "/keys";
pub const MAX_AGE: u64 = 86_400;

/// The host that publishes, and the folder of the agent that fetches.
pub struct Lab {
    pub authority: Authority,
    pub directory: TempDir,
    pub server: Server,
}

impl Lab {
    pub async fn new() -> Self {
        let authority = Authority::new();
        let identity = authority.identity("localhost", false);
        Self::with(authority, &identity).await
    }

    pub async fn with(authority: Authority, identity: &Identity) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, directory, server: Server::start(identity).await }
    }

    /// Fetched from `source` and, so that no test waits for it, hardly ever by itself.
    pub fn remote(&self, source: RemoteSource) -> RemoteKeys {
        let hour = Duration::from_secs(3600);
        RemoteKeys {
            ca: Some(self.directory.path().join("ca.pem")),
            max_age: Duration::from_secs(MAX_AGE),
            refetch_interval: hour,
            refresh_default: hour,
            refresh_max: hour,
            refresh_min: hour,
            source,
        }
    }

    pub fn at_keys(&self) -> RemoteKeys {
        self.remote(RemoteSource::Jwks(HttpsUrl::parse(&self.server.url(KEYS)).unwrap()))
    }

    pub fn discovered(&self, path: &str) -> RemoteKeys {
        self.remote(RemoteSource::Discovery(HttpsUrl::parse(&self.server.url(path)).unwrap()))
    }

    /// An agent that starts now.
    pub fn agent(&self, keys: RemoteKeys) -> Agent {
        self.agent_at(keys, UnixTime::now())
    }

    /// An agent that starts at a certain time.
    pub fn agent_at(&self, keys: RemoteKeys, now: UnixTime) -> Agent {
        let iss = match &keys.source {
            RemoteSource::Discovery(url) => url.to_string(),
            RemoteSource::Jwks(_) => "https://issuer.example".to_owned(),
        };
        let config = Issuer {
            issuer: iss,
            keys: KeySource::Remote(keys),
            ..issuer(&[Algorithm::ES256], "none".as_ref())
        };
        let tokens = Arc::new(Verifier::load(std::slice::from_ref(&config), MAX_BYTES).unwrap());
        let issuers =
            Issuers::open(std::slice::from_ref(&config), self.directory.path(), Arc::clone(&tokens), now)
                .unwrap();
        Agent { config, issuers, tokens }
    }
}

/// What an agent makes of the issuer; it fetches once it is told to run.
pub struct Agent {
    pub config: Issuer,
    pub issuers: Issuers,
    pub tokens: Arc<Verifier>,
}

impl Agent {
    pub fn running(self) -> Self {
        self.issuers.keep();
        self
    }

    /// Fetches now.
    pub async fn refresh(&self) -> Result<(), String> {
        self.issuers.refresh("main").await.map_err(|error| error.to_string())
    }

    pub fn status(&self) -> IssuerStatus {
        self.issuers.list(Monotonic::now(), UnixTime::now()).remove(0)
    }

    /// What a request with a token of that key is told, without waiting.
    pub fn refusal(&self, signer: &Signer, id: &str) -> Option<TokenError> {
        self.tokens.verify(&self.token(signer, id), NOW).err().map(|rejected| rejected.error)
    }

    /// What it is told if it waits for keys that may come.
    pub async fn refusal_after_waiting(&self, signer: &Signer, id: &str) -> Option<TokenError> {
        let token = self.token(signer, id);
        if self.tokens.verify(&token, NOW).err().map(|rejected| rejected.error)
            == Some(TokenError::KeyUnknown)
            && let MissingKey::Coming(keys) = self.issuers.missing_key(&token, Monotonic::now())
        {
            keys.await;
        }
        self.tokens.verify(&token, NOW).err().map(|rejected| rejected.error)
    }

    pub fn token(&self, signer: &Signer, id: &str) -> String {
        let header = json!({"alg": signer.algorithm, "typ": "at+jwt", "kid": id}).to_string();
        let mut claims = claims();
        claims["iss"] = json!(self.config.issuer);
        signer.sign(&header, &claims.to_string())
    }
}

/// A key set of these keys.
pub fn set(keys: &[(&str, &Signer)]) -> String {
    let keys: Vec<Value> = keys.iter().map(|(id, signer)| signer.jwk_with(json!({"kid": id}))).collect();
    json!({ "keys": keys }).to_string()
}
