//! As much of WebSocket (RFC 6455) as it takes to see what becomes of one: the handshake, and frames that come back as
//! they are.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

/// The key of section 1.3, the only one that is sent.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What accepts it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A text frame of a server: "ping".
pub const FRAME: &[u8] = b"\x81\x04ping";

/// Switches, and sends back what comes; without an offer to switch, 426.
pub fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if request.headers().get("sec-websocket-key").is_none_or(|key| key != KEY) {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", ACCEPT)]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        // Either side may go at any time.
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    response
}
