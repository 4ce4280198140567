//! How requests get to the ACME server: over verified TLS, one connection each.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::time::timeout;

use crate::https_url::{HttpsUrl, UrlError};
use crate::issuers::{self, FetchError};

/// For one request, from the name to the last byte of the answer: the server may take its time to sign.
const EXCHANGE: Duration = Duration::from_secs(30);
/// Bytes of an answer's body; a chain takes a few thousand.
const BODY_BYTES: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("the server sends a broken answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the server breaks off: {0}")]
    Broken(#[from] hyper::Error),
    #[error(transparent)]
    Connect(#[from] FetchError),
    #[error("the server names an address that can't be asked: {0}")]
    Request(#[from] http::Error),
    #[error("no answer within {} s", EXCHANGE.as_secs())]
    Timeout,
    #[error("the server names an address that {0}")]
    Url(#[from] UrlError),
}

/// Trusts the authorities of a bundle, or those of the host.
pub(super) struct Client {
    pub ca: Option<PathBuf>,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let ca = self.ca.clone();
        Box::pin(async move {
            let answer = timeout(EXCHANGE, exchange(request, ca)).await;
            let answer = answer.unwrap_or(Err(ExchangeError::Timeout));
            answer.map(BytesResponse::from).map_err(|error| Error::Other(Box::new(error)))
        })
    }
}

async fn exchange(
    request: Request<BodyWrapper<Bytes>>,
    ca: Option<PathBuf>,
) -> Result<Response<Full<Bytes>>, ExchangeError> {
    let url = HttpsUrl::parse(&request.uri().to_string())?;
    let stream = issuers::connect(&url, ca).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What goes wrong with it, the request tells; it ends with its sender.
    tokio::spawn(async move { drop(connection.await) });
    let (mut parts, body) = request.into_parts();
    parts.uri = url.target().parse().map_err(http::Error::from)?;
    parts.headers.insert(HOST, HeaderValue::try_from(url.authority()).map_err(http::Error::from)?);
    let (parts, body) = sender.send_request(Request::from_parts(parts, body)).await?.into_parts();
    let body = Limited::new(body, BODY_BYTES).collect().await.map_err(ExchangeError::Body)?;
    Ok(Response::from_parts(parts, Full::new(body.to_bytes())))
}
