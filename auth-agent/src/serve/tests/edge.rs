//! The agent's public side with an upstream behind it, and clients for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, Version};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::Server;
use super::upstream::Upstream;
use crate::allowlist::Allowlist;
use crate::authenticate::{Denied, Guess, Verify};
use crate::clock::{Monotonic, Now, UnixTime};
use crate::config::Upstream as Group;
use crate::config::*;
use crate::connections::Connections;
use crate::counters::{Counters, Snapshot};
use crate::explain::Trail;
use crate::gateway::Gateway;
use crate::identity::tests::someone;
use crate::identity::{Facts, Identity, Method as By};
use crate::issuers::MissingKey;
use crate::limits::tests::Fake;
use crate::proxy::UpstreamStatus;
use crate::refusal::Refusal;
use crate::revocation::Revocations;
use crate::thumbprint::Thumbprint;
use crate::token::TokenError;

pub const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const GOOD: (&str, &str) = ("authorization", "Bearer good");

/// Long enough that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// When the credential of the subject `short` is over.
pub const SHORT_UNTIL: u64 = 2_000_000_000;

/// Knows the key of the token `rotated` once somebody waited for it, and that of `unknown` never.
#[derive(Default)]
pub struct FakeVerify {
    came: Arc<AtomicBool>,
    revocations: Arc<Revocations>,
}

impl Verify for FakeVerify {
    fn api_key(&self, key: &str, _: IpAddr, _: Now) -> Result<Arc<Identity>, Denied> {
        match key {
            "ak_good" => Ok(someone(By::ApiKey, "ci", &["read"])),
            "ak_expired" => Err(Refusal::ApiKeyExpired.into()),
            "ak_network" => Err(Refusal::ApiKeyNetwork.into()),
            "ak_revoked" => Err(Refusal::ApiKeyRevoked.into()),
            "ak_guess" => Err(Denied { guess: Some(Guess(1)), refusal: Refusal::ApiKeyInvalid }),
            _ => Err(Refusal::ApiKeyInvalid.into()),
        }
    }

    fn missing_key(&self, token: &str, _: Monotonic) -> MissingKey {
        let came = Arc::clone(&self.came);
        let wait = async move {
            tokio::task::yield_now().await;
            came.store(true, Relaxed);
        };
        match token {
            "pending" => MissingKey::NotNow,
            "rotated" => MissingKey::Coming(Box::pin(wait)),
            _ => MissingKey::Absent,
        }
    }

    fn unrevoked(&self, identity: &Identity, now: UnixTime) -> Result<(), Refusal> {
        if self.revocations.is_revoked(identity, now) { Err(Refusal::CredentialRevoked) } else { Ok(()) }
    }

    fn token(&self, token: &str, _: UnixTime, _: &Trail) -> Result<Arc<Identity>, Denied> {
        if let Some(subject) = token.strip_prefix("good-") {
            let expires = (subject == "short").then_some(UnixTime(SHORT_UNTIL));
            return Ok(Identity::verified(Facts { expires, ..Facts::new(By::Jwt, subject) }));
        }
        if let Some(thumbprint) = token.strip_prefix("bound-") {
            let certificate = Thumbprint::parse(thumbprint);
            return Ok(Identity::verified(Facts { certificate, ..Facts::new(By::Jwt, "bound") }));
        }
        let scopes: &[&str] = match token {
            "good" => &["read"],
            "admin" => &["read", "admin"],
            "rotated" if self.came.load(Relaxed) => &["read"],
            "pending" | "rotated" | "unknown" => return Err(Refusal::Token(TokenError::KeyUnknown).into()),
            "unavailable" => return Err(Refusal::Token(TokenError::KeysUnavailable).into()),
            _ => return Err(Refusal::Token(TokenError::Expired).into()),
        };
        Ok(someone(By::Jwt, "alice", scopes))
    }
}

pub struct Edge {
    pub address: SocketAddr,
    pub config: Arc<Config>,
    pub connections: Arc<Connections>,
    pub debts: Arc<Fake>,
    pub gateway: Arc<Gateway>,
    /// What each connection starts with, before TLS.
    pub prelude: Vec<u8>,
    pub revocations: Arc<Revocations>,
    pub server: JoinHandle<()>,
    pub upstream: Upstream,
    certificate: CertificateDer<'static>,
    counters: Arc<Counters>,
    shutdown: Option<oneshot::Sender<()>>,
}

impl Edge {
    pub async fn start() -> Self {
        Self::with(Fake::new(1_000_000, 1_000_000), |_| ()).await
    }

    pub async fn with(debts: Fake, change: impl FnOnce(&mut Config)) -> Self {
        let revocations = Arc::<Revocations>::default();
        let verify = Arc::new(FakeVerify { came: Arc::default(), revocations: Arc::clone(&revocations) });
        let edge = Self::verifying(verify, debts, change, |gateway| gateway).await;
        Self { revocations, ..edge }
    }

    /// With credentials of the test's own, and what it adds to the gateway.
    pub async fn verifying(
        verify: Arc<dyn Verify>,
        debts: Fake,
        change: impl FnOnce(&mut Config),
        add: impl FnOnce(Gateway) -> Gateway,
    ) -> Self {
        let upstream = Upstream::start().await;
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();

        let mut config = config(&upstream, files);
        change(&mut config);
        inherit(&mut config);
        let server = Server::bind(&config).unwrap();
        let (address, connections) = (server.addresses().unwrap()[0], server.connections());
        let (counters, debts) = (Arc::<Counters>::default(), Arc::new(debts));
        let config = Arc::new(config);
        let gateway =
            Gateway::new(Arc::clone(&config), verify, Arc::clone(&debts) as _, Arc::clone(&counters))
                .unwrap();
        let gateway = Arc::new(add(gateway));
        let (shutdown, receiver) = oneshot::channel::<()>();
        let (served, by) = (Arc::clone(&gateway), Arc::clone(&config));
        let server = tokio::spawn(async move {
            let stop = async { drop(receiver.await) };
            let allowlist = Arc::new(Allowlist::new(Vec::new()));
            let serving = server.start(&by, served, allowlist);
            stop.await;
            serving.drain(by.timeouts.drain).await;
        });
        let certificate = certificate.der().clone();
        Self {
            address,
            config,
            connections,
            debts,
            gateway,
            prelude: Vec::new(),
            revocations: Arc::default(),
            server,
            upstream,
            certificate,
            counters,
            shutdown: Some(shutdown),
        }
    }

    pub fn counts(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// How the upstreams are doing.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.counters.upstreams.get().unwrap().upstreams()
    }

    /// Waits until `reason` ended `count` connections.
    pub async fn closed(&self, reason: &str, count: u64) {
        let reached = async {
            while self.counts().closed.get(reason) != Some(&count) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, reached).await.is_ok(), "{reason} {count}: {:?}", self.counts());
    }

    pub fn stop(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// What a client trusts.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    pub async fn connect(
        &self,
        server_name: Option<&str>,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.enable_sni = server_name.is_some();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(server_name.unwrap_or("localhost").to_owned()).unwrap();
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(&self.prelude).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// An HTTP client on a connection of its own.
    pub async fn client<B>(&self, version: Version) -> Client<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        if version == Version::HTTP_2 {
            let stream = TokioIo::new(self.connect(Some("localhost"), &["h2"]).await.unwrap());
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            Client::Http2(sender)
        } else {
            let stream = TokioIo::new(self.connect(Some("localhost"), &["http/1.1"]).await.unwrap());
            let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            Client::Http1(sender)
        }
    }

    /// Sends one request on a connection of its own and collects the response.
    pub async fn send(&self, version: Version, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let response = self.client(version).await.send(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// Sends `bytes` over TLS and reads until the edge closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect(Some("localhost"), &[]).await.unwrap();
        // Who refuses the start of a request need not take the rest.
        let _ = stream.write_all(bytes).await;
        let mut response = Vec::new();
        // An end without close_notify is an end all the same.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut response)).await.expect("the edge does not close");
        String::from_utf8_lossy(&response).into_owned()
    }
}

pub enum Client<B> {
    Http1(hyper::client::conn::http1::SendRequest<B>),
    Http2(hyper::client::conn::http2::SendRequest<B>),
}

impl<B: Body<Data = Bytes> + Send + 'static> Client<B> {
    pub async fn send(&mut self, request: Request<B>) -> hyper::Result<Response<Incoming>> {
        let response = async {
            match self {
                Self::Http1(sender) => sender.send_request(request).await,
                Self::Http2(sender) => sender.send_request(request).await,
            }
        };
        timeout(PATIENCE, response).await.expect("the edge does not answer")
    }
}

/// A request as each version writes it: HTTP/2 has its authority in the target, HTTP/1.1 in `Host`.
pub fn request(
    version: Version,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap());
    request = if version == Version::HTTP_2 {
        request.version(version).uri(format!("https://localhost{target}"))
    } else {
        request.uri(target).header("host", "localhost")
    };
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

pub fn get(version: Version, target: &str) -> Request<Full<Bytes>> {
    request(version, "GET", target, &[GOOD], "")
}

/// Routes that say nothing have the limits of all.
fn inherit(config: &mut Config) {
    let Config { routes, sizes, timeouts, .. } = config;
    for route in routes {
        if route.body_bytes == Sizes::default().body_bytes {
            route.body_bytes = sizes.body_bytes;
        }
        if route.timeouts == RouteTimeouts::within(&Timeouts::default()) {
            route.timeouts = RouteTimeouts::within(timeouts);
        }
    }
}

fn config(upstream: &Upstream, (certificate, key): (PathBuf, PathBuf)) -> Config {
    let some = |number| NonZeroUsize::new(number).unwrap();
    let rate = Rate { burst: NonZeroU32::MIN, events: NonZeroU32::MIN, period: Duration::from_secs(1) };
    let http = HttpLimit { drop_after: NonZeroU32::MIN, drop_for: Duration::from_secs(1), rate };
    let route = |auth, path, scopes, upstream| Route::under(path, auth, scopes, upstream);
    let live: Address = format!("http://{}", upstream.address).parse().unwrap();
    // Reserved: nothing listens there.
    let dead: Address = "http://127.0.0.1:1".parse().unwrap();
    Config {
        access_log: AccessLog::default(),
        audit: Audit::default(),
        explain: Explain::default(),
        acme: None,
        api_keys: ApiKeys { allow_browsers: false, header: HeaderName::from_static("x-api-key") },
        authorization_server: None,
        classes: vec![],
        control: Control { allow_uids: vec![], socket: PathBuf::new() },
        forward_auth: None,
        identity_headers: IdentityHeaders {
            issuer: HeaderName::from_static("x-auth-issuer"),
            method: HeaderName::from_static("x-auth-method"),
            scopes: HeaderName::from_static("x-auth-scopes"),
            subject: HeaderName::from_static("x-auth-subject"),
            tenant: HeaderName::from_static("x-auth-tenant"),
            client: HeaderName::from_static("x-auth-client"),
        },
        internal_token: None,
        issuers: vec![],
        kernel: Kernel::default(),
        ladder: Ladder::default(),
        policies: vec![],
        request_limits: vec![],
        limits: Limits {
            source: SourceLimits {
                auth_failures: http,
                connections: rate,
                packets: rate,
                requests: http,
                ..SourceLimits::default()
            },
            ..Limits::default()
        },
        listeners: vec![Listener::new(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            CertificateFiles { certificate, key },
        )],
        proxies: Proxies::default(),
        routes: vec![
            route(Auth::Required, "/api", &[], 0),
            route(Auth::Required, "/admin", &["read", "admin"], 0),
            route(Auth::None, "/open", &[], 0),
            route(Auth::Required, "/down", &[], 1),
            route(Auth::Required, "/half", &[], 2),
        ],
        sizes: Sizes {
            body_bytes: 128 << 20,
            connections: some(100),
            connections_per_source: some(100),
            handshakes: some(100),
            header_bytes: some(16 << 10),
            headers: some(64),
            streams: NonZeroU32::new(64).unwrap(),
            token_bytes: some(4096),
            uri_bytes: some(4096),
            workers: NonZeroUsize::new(2),
            ..Sizes::default()
        },
        store: Store { directory: PathBuf::new() },
        timeouts: Timeouts {
            body_idle: Duration::from_secs(10),
            connect: Duration::from_secs(2),
            credential_grace: Duration::ZERO,
            drain: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            response: Duration::from_secs(10),
            upgraded_idle: Duration::from_secs(10),
            ..Timeouts::default()
        },
        tokens: Tokens::default(),
        upstreams: vec![
            Group::new("live", vec![live.clone()]),
            Group::new("down", vec![dead.clone(), dead.clone()]),
            Group::new("half", vec![dead, live]),
        ],
    }
}
