//! One health check: a GET over a connection of its own, made as for a request.

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Uri, Version};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;

use super::RequestBody;
use super::endpoint::{Endpoint, Speaks};
use super::error_chain;
use crate::config::HealthCheck;

/// Whether the endpoint is fit, or what is wrong.
pub(super) async fn check(endpoint: &Endpoint, check: &HealthCheck) -> Result<(), String> {
    let status = timeout(check.timeout, ask(endpoint, &check.path)).await;
    let status = status.map_err(|_| format!("no answer within {} ms", check.timeout.as_millis()))??;
    if check.expect.contains(&status) { Ok(()) } else { Err(format!("answered {status}")) }
}

async fn ask(endpoint: &Endpoint, path: &str) -> Result<u16, String> {
    let stream = endpoint
        .connect(endpoint.speaks, endpoint.settings.connect)
        .await
        .map_err(|error| error.to_string())?;
    let http2 = stream.agreed_to_http2().unwrap_or(endpoint.speaks == Speaks::Http2);
    let broken = |error: hyper::Error| error_chain(&error);
    let host = endpoint.host.as_str();
    let mut request = Request::new(RequestBody::empty());
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("auth-agent health check"));
    let response = if http2 {
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() =
            format!("http://{host}{path}").parse::<Uri>().map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with the sender.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)?
    } else {
        *request.uri_mut() = path.parse::<Uri>().map_err(|error| error.to_string())?;
        let host = HeaderValue::try_from(host).map_err(|error| error.to_string())?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)?
    };
    let status = response.status().as_u16();
    // Some of the body, so that a server that has just one to give need not see it cut off.
    let _ = response.into_body().frame().await;
    Ok(status)
}
