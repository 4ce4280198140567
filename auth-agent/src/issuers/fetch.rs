//! Fetching what an issuer publishes: small, over verified TLS, within a few seconds, from exactly that address.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::cache_control::freshness;
use super::discovery::{self, MetadataError};
use super::trust::{self, TrustError};
use crate::config::{Issuer, RemoteKeys, RemoteSource};
use crate::https_url::HttpsUrl;
use crate::token::KeyFault;

/// From the name to the last byte of one response.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Bytes of a response's body: a set of a hundred keys with their certificates stays below.
const BODY_BYTES: usize = 256 << 10;
/// Bytes of a response's head; hyper keeps to it within its own read-ahead.
const HEAD_BYTES: usize = 64 << 10;
/// What is quoted of what the server says.
const QUOTED_CHARACTERS: usize = 200;

const AGENT: &str = concat!("auth-agent/", env!("CARGO_PKG_VERSION"));

/// A key set as it was published.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// For how long the server says that it need not be asked again, where it does.
    pub freshness: Option<Duration>,
    /// The set.
    pub text: Bytes,
    /// Where it was.
    pub url: HttpsUrl,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Compressed, though nobody asked for it.
    #[error("{url}: the answer is encoded ({encoding}), which was not asked for; check the server")]
    Encoding {
        /// `Content-Encoding`.
        encoding: String,
        /// What was fetched.
        url: HttpsUrl,
    },
    /// The answer broke off, or is no HTTP.
    #[error("{url}: the answer broke off or is not HTTP/1.1: {reason}")]
    Http {
        /// What is wrong.
        reason: String,
        /// What was fetched.
        url: HttpsUrl,
    },
    /// Not the keys that are expected.
    #[error("{url}: {fault}")]
    Keys {
        /// What is wrong.
        fault: KeyFault,
        /// What was fetched.
        url: HttpsUrl,
    },
    /// Not the metadata that is expected.
    #[error("{url}: {fault}")]
    Metadata {
        /// What is wrong.
        fault: MetadataError,
        /// What was fetched.
        url: HttpsUrl,
    },
    /// It points elsewhere.
    #[error(
        "{url}: redirects to {location:?}, and redirects are not followed; write the address that holds the keys"
    )]
    Redirect {
        /// Where to.
        location: String,
        /// What was fetched.
        url: HttpsUrl,
    },
    /// Any other status than 200.
    #[error("{url}: answered with status {status}; check the address, and the server's log")]
    Status {
        /// The status.
        status: u16,
        /// What was fetched.
        url: HttpsUrl,
    },
    /// Too slow.
    #[error("{url}: no {awaited} within {} s; check the address, and the way to the server", EXCHANGE.as_secs())]
    Timeout {
        /// What did not come.
        awaited: &'static str,
        /// What was fetched.
        url: HttpsUrl,
    },
    /// Too long.
    #[error("{url}: longer than {BODY_BYTES} bytes, which no key set is; check the address")]
    TooLong {
        /// What was fetched.
        url: HttpsUrl,
    },
    /// The certificate, most likely.
    #[error("{url}: TLS failed: {source}; check the server's certificate, and `ca`")]
    Tls {
        /// What TLS says.
        source: io::Error,
        /// What was fetched.
        url: HttpsUrl,
    },
    /// No authorities to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No connection.
    #[error(
        "{url}: can't be reached: {reason}; check the address, name resolution and the way to the server"
    )]
    Unreachable {
        /// What the system says.
        reason: String,
        /// What was fetched.
        url: HttpsUrl,
    },
}

impl FetchError {
    /// Whether the metadata may be in the other place: there is nothing in this one, or something for browsers.
    fn may_be_elsewhere(&self) -> bool {
        match self {
            Self::Status { status, .. } => (400..500).contains(status),
            Self::Metadata { fault, .. } => matches!(fault, MetadataError::Json(_)),
            Self::Redirect { .. } => true,
            _ => false,
        }
    }
}

/// Fetches the key set of an issuer, wherever it is. It is not looked at yet.
pub(super) async fn key_set(issuer: &Issuer, remote: &RemoteKeys) -> Result<Fetched, FetchError> {
    let url = match &remote.source {
        RemoteSource::Discovery(at) => discover(at, &issuer.issuer, remote.ca.clone()).await?,
        RemoteSource::Jwks(url) => url.clone(),
    };
    let (headers, text) = body_of(&url, remote.ca.clone()).await?;
    Ok(Fetched { freshness: freshness(&headers, SystemTime::now()), text, url })
}

/// What the first place has to say is what the operator gets to read.
async fn discover(at: &HttpsUrl, issuer: &str, ca: Option<PathBuf>) -> Result<HttpsUrl, FetchError> {
    let mut first = None;
    for url in discovery::metadata_urls(at) {
        let metadata = body_of(&url, ca.clone()).await;
        let found = metadata.and_then(|(_, text)| {
            discovery::keys_url(&text, issuer).map_err(|fault| FetchError::Metadata { fault, url })
        });
        match found {
            Err(error) if error.may_be_elsewhere() => {
                first.get_or_insert(error);
            }
            found => return found,
        }
    }
    Err(first.unwrap_or(FetchError::Unreachable { reason: "no place to look".into(), url: at.clone() }))
}

async fn body_of(url: &HttpsUrl, ca: Option<PathBuf>) -> Result<(HeaderMap, Bytes), FetchError> {
    let deadline = Instant::now() + EXCHANGE;
    let late = |awaited| move |_| FetchError::Timeout { awaited, url: url.clone() };

    let stream = timeout_at(deadline, connect(url)).await.map_err(late("connection"))??;
    let stream = timeout_at(deadline, handshake(url, stream, ca)).await.map_err(late("TLS handshake"))??;
    let answer = timeout_at(deadline, exchange(url, stream)).await.map_err(late("response head"))?;
    let (response, _connection) = answer?;
    let (head, body) = accepted(url, response)?.into_parts();
    let body = Limited::new(body, BODY_BYTES).collect();
    let body = timeout_at(deadline, body).await.map_err(late("end of the response"))?;
    Ok((head.headers, body.map_err(|error| unread(url, error))?.to_bytes()))
}

/// A verified TLS connection to where an address leads. For others than issuers, too.
pub(crate) async fn connect_tls(
    url: &HttpsUrl,
    ca: Option<PathBuf>,
) -> Result<TlsStream<TcpStream>, FetchError> {
    handshake(url, connect(url).await?, ca).await
}

async fn connect(url: &HttpsUrl) -> Result<TcpStream, FetchError> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(EXCHANGE));
    let stream = connector.call(url.uri().clone()).await;
    stream
        .map(TokioIo::into_inner)
        .map_err(|error| FetchError::Unreachable { reason: causes(&error), url: url.clone() })
}

async fn handshake(
    url: &HttpsUrl,
    stream: TcpStream,
    ca: Option<PathBuf>,
) -> Result<TlsStream<TcpStream>, FetchError> {
    let config = spawn_blocking(move || trust::client_config(ca.as_deref())).await;
    let config = config.map_err(|error| unreachable(url, &error))??;
    let name = url.server_name().ok_or_else(|| unreachable(url, &"no host"))?;
    let connected = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await;
    connected.map_err(|source| FetchError::Tls { source, url: url.clone() })
}

fn unreachable(url: &HttpsUrl, reason: &dyn ToString) -> FetchError {
    FetchError::Unreachable { reason: reason.to_string(), url: url.clone() }
}

/// Ends with what it holds: a fetch that is given up leaves no connection behind.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(
    url: &HttpsUrl,
    stream: TlsStream<TcpStream>,
) -> Result<(Response<Incoming>, Connection), FetchError> {
    let failed = |error: hyper::Error| FetchError::Http { reason: causes(&error), url: url.clone() };
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let connection = Connection(tokio::spawn(async move {
        // What goes wrong with it, the request tells.
        let _ = connection.await;
    }));
    let request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| unreachable(url, &error))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    Ok((response, connection))
}

/// Only a plain 200 counts: OpenID Connect Discovery 1.0 section 4.2.
fn accepted(url: &HttpsUrl, response: Response<Incoming>) -> Result<Response<Incoming>, FetchError> {
    let url = || url.clone();
    let status = response.status();
    let header = |name| response.headers().get(name).map(|value| quoted(value.as_bytes()));
    if status.is_redirection() {
        let location = header(LOCATION).unwrap_or_default();
        return Err(FetchError::Redirect { location, url: url() });
    }
    if status.as_u16() != 200 {
        return Err(FetchError::Status { status: status.as_u16(), url: url() });
    }
    match header(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        Some(encoding) => Err(FetchError::Encoding { encoding, url: url() }),
        None => Ok(response),
    }
}

fn unread(url: &HttpsUrl, error: Box<dyn std::error::Error + Send + Sync>) -> FetchError {
    let url = url.clone();
    match error.downcast::<hyper::Error>() {
        Ok(error) => FetchError::Http { reason: causes(&*error), url },
        Err(error) if error.is::<LengthLimitError>() => FetchError::TooLong { url },
        Err(error) => FetchError::Unreachable { reason: error.to_string(), url },
    }
}

/// Safe to print.
fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(QUOTED_CHARACTERS).flat_map(char::escape_default).collect()
}

/// The error with its causes: the outermost alone says only that something failed.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
