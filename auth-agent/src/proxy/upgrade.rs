//! Switching a connection to another protocol, which is WebSocket (RFC 6455) or nothing.
//!
//! Other offers are not passed on: a server may ignore them (RFC 9110, 7.8), and one that takes `h2c` would have the
//! client speak to it unseen. The first byte to the upstream is one that the client sent after its offer, and the first
//! that the upstream sees after it took the offer. What follows one that is not taken reaches nobody: the connection is
//! closed.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

/// RFC 9110, 15.2.2.
pub(super) const SWITCHING_PROTOCOLS: u16 = 101;
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// The client's side of an offer to switch.
#[derive(Debug)]
pub(super) struct Offer {
    /// What accepts it.
    accept: String,
    client: OnUpgrade,
}

impl Offer {
    /// Takes the offer out of a request, if it is for WebSocket.
    pub fn take(request: &mut Parts) -> Option<Self> {
        let client = request.extensions.remove::<OnUpgrade>()?;
        let plain = request.method == Method::GET && request.version == Version::HTTP_11;
        let mut keys = request.headers.get_all(SEC_WEBSOCKET_KEY).iter();
        let (Some(key), None) = (keys.next(), keys.next()) else { return None };
        (plain && is_websocket(&request.headers)).then(|| Self { accept: accept(key.as_bytes()), client })
    }

    /// Passes it on; to be called when hop-by-hop fields are gone.
    pub fn pass_on(headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
    }

    /// The tunnel to be, where the upstream took the offer.
    pub fn taken<B>(self, response: &mut Response<B>) -> Option<Tunnel> {
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        let switches = response.status() == SWITCHING_PROTOCOLS
            && is_websocket(response.headers())
            && accepted.is_some_and(|accepted| accepted.as_bytes() == self.accept.as_bytes());
        let upstream = switches.then(|| hyper::upgrade::on(response))?;
        Some(Tunnel { client: self.client, upstream })
    }
}

/// RFC 6455, 4.2.2: only who has read the key as one can know it, so that no echo passes for a switch.
fn accept(key: &[u8]) -> String {
    const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat());
    STANDARD.encode(hash)
}

/// Exactly one protocol is offered, and it is nominated as concerning this connection.
fn is_websocket(headers: &HeaderMap) -> bool {
    let mut offers = headers.get_all(UPGRADE).iter();
    let offer = (offers.next(), offers.next());
    let mut nominations = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    matches!(offer, (Some(offer), None) if offer.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
        && nominations.any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")))
}

/// Two connections that are being switched: the client's and the upstream's.
#[derive(Clone, Debug)]
pub struct Tunnel {
    client: OnUpgrade,
    upstream: OnUpgrade,
}

impl Tunnel {
    /// Both ends, once HTTP has let go of them.
    ///
    /// # Errors
    /// One of them ended before.
    pub async fn ends(self) -> hyper::Result<(TokioIo<Upgraded>, TokioIo<Upgraded>)> {
        Ok((TokioIo::new(self.client.await?), TokioIo::new(self.upstream.await?)))
    }
}
