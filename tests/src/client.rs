//! An HTTPS client that can choose its source address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::netns::Namespace;
use crate::websocket;

/// How long a client waits for anything. Dropped packets show as this running out.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Someone who talks to the edge.
#[derive(Clone)]
pub struct Client {
    authority: String,
    edge: SocketAddr,
    source: IpAddr,
    tls: Arc<ClientConfig>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The body, as JSON; null where it is not.
    pub body: serde_json::Value,
    /// The header fields.
    pub headers: http::HeaderMap,
    /// The status.
    pub status: StatusCode,
}

impl Answer {
    /// A header field as text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The problem's reason, or the empty string.
    pub fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }
}

/// An open connection.
pub enum Session {
    /// HTTP/1.1.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// HTTP/2.
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// A client at `source` that trusts `authority` (PEM) and talks to `edge` under the name `localhost`.
    ///
    /// # Errors
    /// If the certificate can't be read.
    pub fn new(source: IpAddr, edge: SocketAddr, authority: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let authority = format!("localhost:{}", edge.port());
        Ok(Self { authority, edge, source, tls: Arc::new(tls) })
    }

    /// The same client of another port of the edge.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Self {
        Self { edge: SocketAddr::new(self.edge.ip(), port), ..self.clone() }
    }

    /// Its address.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Opens a TCP connection from this port, if anyone answers within [`PATIENCE`], and resets it, so that the port
    /// is free again.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn knock(&self, port: u16) -> Result<bool> {
        let socket = self.socket(port)?;
        socket.set_zero_linger()?;
        Ok(matches!(timeout(PATIENCE, socket.connect(self.edge)).await, Ok(Ok(_))))
    }

    fn socket(&self, port: u16) -> Result<TcpSocket> {
        let socket = match self.source {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.bind(SocketAddr::new(self.source, port))?;
        Ok(socket)
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Refused, or not answered within [`PATIENCE`].
    pub async fn connect(&self) -> Result<Session> {
        let stream = self.handshake(b"http/1.1").await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(Session::Http1(sender))
    }

    /// Opens an HTTP/2 connection.
    ///
    /// # Errors
    /// Refused, or not answered within [`PATIENCE`].
    pub async fn connect_http2(&self) -> Result<Session> {
        let stream = self.handshake(b"h2").await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Session::Http2(sender))
    }

    /// Opens a TLS connection that offers one protocol, and leaves what is said on it to the caller.
    ///
    /// # Errors
    /// Refused, or not answered within [`PATIENCE`].
    pub async fn handshake(
        &self,
        protocol: &[u8],
    ) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        let socket = self.socket(0)?;
        let stream = timeout(PATIENCE, socket.connect(self.edge)).await;
        self.secure(stream.context("no answer to the connection")??, protocol).await
    }

    /// Begins TLS on a connection, and offers one protocol.
    ///
    /// # Errors
    /// Refused, or not answered within [`PATIENCE`].
    pub async fn secure(
        &self,
        stream: tokio::net::TcpStream,
        protocol: &[u8],
    ) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("localhost")?;
        let handshake = TlsConnector::from(Arc::new(tls)).connect(name, stream);
        Ok(timeout(PATIENCE, handshake).await.context("no answer to the handshake")??)
    }

    /// One GET on a connection of its own.
    ///
    /// # Errors
    /// Refused, or not answered within [`PATIENCE`].
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.connect().await?.get(self, path, headers).await
    }

    /// [`Self::get`] from inside a namespace.
    ///
    /// # Errors
    /// As there.
    pub fn get_from(&self, namespace: &Namespace, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        inside(namespace, async || self.get(path, headers).await)
    }
}

impl Session {
    /// One GET.
    ///
    /// # Errors
    /// The connection broke, or was not answered within [`PATIENCE`].
    pub async fn get(&mut self, client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.send(self.request(client, path, headers)?).await
    }

    /// One GET whose response goes on.
    ///
    /// # Errors
    /// The connection broke, or was not answered within [`PATIENCE`].
    pub async fn stream(
        &mut self,
        client: &Client,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>> {
        let request = self.request(client, path, headers)?;
        timeout(PATIENCE, self.begin(request)).await.context("no answer to the request")?
    }

    /// One GET that switches an HTTP/1.1 connection to WebSocket. What comes back carries frames.
    ///
    /// # Errors
    /// The connection broke, was not answered within [`PATIENCE`], or not with a switch.
    pub async fn websocket(
        &mut self,
        client: &Client,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<TokioIo<Upgraded>> {
        const SWITCH: [(&str, &str); 4] = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", websocket::KEY),
        ];
        let response = self.stream(client, path, &[&SWITCH, headers].concat()).await?;
        ensure!(response.status() == StatusCode::SWITCHING_PROTOCOLS, "answered {}", response.status());
        let accept = response.headers().get("sec-websocket-accept").map(http::HeaderValue::as_bytes);
        ensure!(accept == Some(websocket::ACCEPT.as_bytes()), "another key was accepted");
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    }

    fn request(&self, client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<Request<Full<Bytes>>> {
        let mut request = match self {
            Self::Http1(_) => Request::get(path).header("host", &client.authority),
            Self::Http2(_) => Request::get(format!("https://{}{path}", client.authority)),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(Full::default())?)
    }

    /// One request.
    ///
    /// # Errors
    /// The connection broke, or was not answered within [`PATIENCE`].
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        timeout(PATIENCE, async { answer(self.begin(request).await?).await })
            .await
            .context("no answer to the request")?
    }

    async fn begin(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        Ok(match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }
}

async fn answer(response: Response<Incoming>) -> Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Ok(Answer { body, headers: head.headers, status: head.status })
}

/// Runs asynchronous work inside a namespace.
///
/// # Errors
/// Whatever the work returns.
pub fn inside<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work())
    })
}
