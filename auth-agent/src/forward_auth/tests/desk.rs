//! A forward-auth listener with fake credentials, and who asks it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::{BindError, ForwardAuth, Listener};
use crate::api_key::Pepper;
use crate::authenticate::{Denied, Verify};
use crate::authorization_server::{Sealer, SigningKeys};
use crate::clock::{Monotonic, Now, UnixTime};
use crate::config::tests::MINIMAL;
use crate::config::{Config, LocalAddress};
use crate::counters::Counters;
use crate::explain::Trail;
use crate::gateway::Gateway;
use crate::identity::tests::someone;
use crate::identity::{Identity, Method};
use crate::issuers::MissingKey;
use crate::limits::tests::Fake;
use crate::refusal::Refusal;
use crate::store::Store;
use crate::token::TokenError;

pub const GOOD: (&str, &str) = ("authorization", "Bearer good");

const ROUTES: &str = r#"
[[route]]
path = "/"
auth = "required"
upstream = "app"
[[route]]
path = "/admin"
auth = "required"
scopes = ["admin"]
upstream = "app"
[[route]]
path = "/open"
auth = "none"
upstream = "app"
[[route]]
path = "/users/{id}"
match = "template"
methods = ["GET"]
auth = "required"
object = "unchecked"
upstream = "app"
[[route]]
path = "/own/{user_id}"
match = "template"
auth = "required"
bind = { user_id = "sub" }
upstream = "app"
"#;

struct FakeVerify;

impl Verify for FakeVerify {
    fn api_key(&self, key: &str, _: IpAddr, _: Now) -> Result<Arc<Identity>, Denied> {
        match key {
            "ak_good" => Ok(someone(Method::ApiKey, "ci", &["read"])),
            _ => Err(Refusal::ApiKeyInvalid.into()),
        }
    }

    fn missing_key(&self, _: &str, _: Monotonic) -> MissingKey {
        MissingKey::Absent
    }

    fn unrevoked(&self, identity: &Identity, _: UnixTime) -> Result<(), Refusal> {
        if identity.subject() == "revoked" { Err(Refusal::CredentialRevoked) } else { Ok(()) }
    }

    fn token(&self, token: &str, _: UnixTime, _: &Trail) -> Result<Arc<Identity>, Denied> {
        match token {
            "good" => Ok(someone(Method::Jwt, "alice", &["read"])),
            "revoked" => Ok(someone(Method::Jwt, "revoked", &["read"])),
            _ => Err(Refusal::Token(TokenError::Expired).into()),
        }
    }
}

pub struct Desk {
    pub address: Option<SocketAddr>,
    pub debts: Arc<Fake>,
    /// Of the store.
    _directory: TempDir,
    path: Option<PathBuf>,
    running: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

fn config(path: Option<&Path>) -> Config {
    let (before, _) = MINIMAL.split_once("[[route]]").unwrap();
    let before = before.replace("[[upstream]]", "[[upstream]]\nidentity = \"both\"");
    let text = format!("{before}{ROUTES}[internal_token]\n[forward_auth]\nlisten = \"127.0.0.1:9180\"\n");
    let mut config = Config::parse(&text, Path::new("edge.toml")).unwrap();
    let tcp = || LocalAddress::Socket(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listen = path.map_or_else(tcp, |path| LocalAddress::Unix(path.to_owned()));
    config.forward_auth = Some(crate::config::ForwardAuth { listen });
    config
}

impl Desk {
    pub async fn bind(path: Option<&Path>) -> Result<Listener, BindError> {
        Ok(Listener::bind(&config(path)).await?.unwrap())
    }

    pub async fn start(debts: Fake) -> Self {
        Self::at(None, debts).await
    }

    pub async fn at(path: Option<&Path>, debts: Fake) -> Self {
        let (config, debts) = (Arc::new(config(path)), Arc::new(debts));
        let listener = Self::bind(path).await.unwrap();
        let address = listener.address();
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("store");
        let store = Arc::new(Store::open(&folder, UnixTime::now()).unwrap());
        let sealer = Sealer::new(&Pepper::open(&folder, false).unwrap()).unwrap();
        let wanted = config.internal_token.as_ref().unwrap();
        let keys = Arc::new(SigningKeys::open_internal(wanted, store, sealer, UnixTime::now()).unwrap());
        let (verify, counters) = (Arc::new(FakeVerify), Arc::<Counters>::default());
        let gateway = Gateway::new(Arc::clone(&config), verify, Arc::clone(&debts) as _, counters).unwrap();
        let gateway = Arc::new(gateway.with_internal_tokens(Arc::clone(&keys)));
        let forward_auth = Arc::new(ForwardAuth::new(gateway, Some(keys)));
        let (stop, stopped) = oneshot::channel();
        let sizes = config.sizes;
        let running = tokio::spawn(listener.run(forward_auth, move || sizes, async { drop(stopped.await) }));
        Self { address, debts, _directory: directory, path: path.map(Path::to_owned), running, stop }
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }

    /// Status, fields and body of an answer.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &[(String, String)],
    ) -> (u16, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        match &self.path {
            Some(path) => send(TokioIo::new(UnixStream::connect(path).await.unwrap()), request).await,
            None => {
                send(TokioIo::new(TcpStream::connect(self.address.unwrap()).await.unwrap()), request).await
            }
        }
    }

    /// Status and body of the answer to a call by gRPC, and that the call went well where the status says so.
    pub async fn call(&self, path: &str, message: Vec<u8>) -> (u16, Bytes) {
        let stream = TokioIo::new(TcpStream::connect(self.address.unwrap()).await.unwrap());
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::post(format!("http://agent.internal{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(message)))
            .unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap();
        let went_well = body.trailers().is_some_and(|trailers| trailers["grpc-status"] == "0");
        assert_eq!(went_well, parts.status == 200);
        connection.abort();
        (parts.status.as_u16(), body.to_bytes())
    }
}

/// Sends one request on a connection of its own.
pub async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> (u16, HeaderMap, String)
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    connection.abort();
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
}
