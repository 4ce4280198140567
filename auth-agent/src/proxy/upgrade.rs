//! Switching a connection to another protocol: one that the route lists, WebSocket (RFC 6455) where it says nothing.
//!
//! Other offers are not passed on: a server may ignore them (RFC 9110, 7.8), and one that takes `h2c` would have the
//! client speak to it unseen. The first byte to the upstream is one that the client sent after its offer, and the first
//! that the upstream sees after it took the offer. What follows one that is not taken reaches nobody: the connection is
//! closed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Stream;
use super::endpoint::Ticket;

/// RFC 9110, 15.2.2.
pub(super) const SWITCHING_PROTOCOLS: u16 = 101;
const WEBSOCKET: &str = "websocket";

/// The client's side of an offer to switch.
#[derive(Debug)]
pub(super) struct Offer {
    /// What accepts it, where that can be told: for WebSocket.
    accept: Option<String>,
    client: OnUpgrade,
    protocol: HeaderValue,
}

impl Offer {
    /// Takes the offer out of a request, if it is for one of `protocols`.
    pub fn take(request: &mut Parts, protocols: &[String]) -> Option<Self> {
        let client = request.extensions.remove::<OnUpgrade>()?;
        let offered = protocols.iter().find(|protocol| is_for(&request.headers, protocol))?;
        let is_websocket = offered == WEBSOCKET;
        let plain = request.method == Method::GET || request.method == Method::POST && !is_websocket;
        if !plain || request.version != Version::HTTP_11 {
            return None;
        }
        let accept = if is_websocket { Some(accept(sole_key(&request.headers)?)) } else { None };
        Some(Self { accept, client, protocol: HeaderValue::try_from(offered).ok()? })
    }

    /// Passes it on; to be called when hop-by-hop fields are gone.
    pub fn pass_on(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Whether the upstream took the offer.
    pub fn is_taken<B>(&self, response: &Response<B>) -> bool {
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        response.status() == SWITCHING_PROTOCOLS
            && self.protocol.to_str().is_ok_and(|protocol| is_for(response.headers(), protocol))
            && self.accept.as_ref().is_none_or(|accept| accepted == Some(accept.as_bytes()))
    }

    /// The tunnel to be.
    pub fn tunnel(self, upstream: UpstreamEnd) -> Tunnel {
        Tunnel { client: self.client, upstream: Arc::new(Mutex::new(Some(upstream))) }
    }
}

fn sole_key(headers: &HeaderMap) -> Option<&[u8]> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) => Some(key.as_bytes()),
        _ => None,
    }
}

/// RFC 6455, 4.2.2: only who has read the key as one can know it, so that no echo passes for a switch.
fn accept(key: &[u8]) -> String {
    const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat());
    STANDARD.encode(hash)
}

/// Exactly this protocol is offered, and it is nominated as concerning this connection.
fn is_for(headers: &HeaderMap, protocol: &str) -> bool {
    let mut offers = headers.get_all(UPGRADE).iter();
    let offer = (offers.next(), offers.next());
    let mut nominations = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    matches!(offer, (Some(offer), None) if offer.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
        && nominations.any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")))
}

/// Two connections that are being switched: the client's and the upstream's.
#[derive(Clone, Debug)]
pub struct Tunnel {
    client: OnUpgrade,
    /// Taken once; extensions of a response have to be cloneable.
    upstream: Arc<Mutex<Option<UpstreamEnd>>>,
}

impl Tunnel {
    /// Both ends, once HTTP has let go of them.
    ///
    /// # Errors
    /// One of them ended before.
    pub async fn ends(self) -> io::Result<(TokioIo<Upgraded>, UpstreamEnd)> {
        let client = self.client.await.map_err(io::Error::other)?;
        let upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok((TokioIo::new(client), upstream.ok_or(io::ErrorKind::NotConnected)?))
    }
}

/// The upstream's end: what was read of it together with the response comes first.
#[derive(Debug)]
pub struct UpstreamEnd {
    read: Bytes,
    stream: Stream,
    /// It is in flight as a request is.
    _ticket: Ticket,
}

impl UpstreamEnd {
    pub(super) fn new((stream, read): (Stream, Bytes), ticket: Ticket) -> Self {
        Self { read, stream, _ticket: ticket }
    }
}

impl AsyncRead for UpstreamEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamEnd {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
