//! Switching a connection to another protocol: one that the route lists, WebSocket (RFC 6455) where it says nothing.
//!
//! Other offers are not passed on: a server may ignore them (RFC 9110, 7.8), and one that takes `h2c` would have the
//! client speak to it unseen. The first byte to the upstream is one that the client sent after its offer, and the first
//! that the upstream sees after it took the offer. What follows one that is not taken reaches nobody: the connection is
//! closed.
//!
//! Over HTTP/2 it is one stream that is switched, and only to WebSocket (RFC 8441). Either side may speak either version.

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::refusal::Refusal;

mod tunnel;

pub(super) use tunnel::Upstream;
pub use tunnel::{Tunnel, UpstreamEnd};

/// RFC 9110, 15.2.2.
pub(super) const SWITCHING_PROTOCOLS: u16 = 101;
const WEBSOCKET: &str = "websocket";

/// Marks a request whose stream is to become a WebSocket.
#[derive(Clone, Copy, Debug)]
struct Extended;

/// Makes of CONNECT to `websocket` the GET that it would be over HTTP/1.1, to be judged by the routes as such
/// (RFC 8441, 5). Every other CONNECT stays what it is.
pub fn unfold(request: &mut Parts) {
    if request.method != Method::CONNECT {
        return;
    }
    let protocol = request.extensions.remove::<Protocol>();
    if request.version == Version::HTTP_2 && protocol.is_some_and(|protocol| protocol.as_str() == WEBSOCKET) {
        request.method = Method::GET;
        request.extensions.insert(Extended);
    }
}

/// Whether its stream is to become a WebSocket.
pub fn is_extended(request: &Parts) -> bool {
    request.extensions.get::<Extended>().is_some()
}

/// The client's side of an offer to switch.
#[derive(Debug)]
pub(super) struct Offer {
    client: OnUpgrade,
    /// It is a stream of HTTP/2 that the client offers.
    is_stream: bool,
    protocol: HeaderValue,
    /// Where it is for WebSocket.
    websocket: Option<Handshake>,
}

/// RFC 6455, 1.3.
#[derive(Debug)]
struct Handshake {
    /// What only who has read the key can know, so that no echo passes for a switch.
    accept: HeaderValue,
    key: HeaderValue,
}

impl Offer {
    /// Takes the offer out of a request, if it is for one of `protocols`.
    ///
    /// # Errors
    /// It is for none of them, and can't be ignored: there is nothing else to a CONNECT.
    pub fn take(request: &mut Parts, protocols: &[String]) -> Result<Option<Self>, Refusal> {
        if request.extensions.remove::<Extended>().is_some() {
            return Self::of_stream(request, protocols).map(Some).ok_or(Refusal::UpgradeNotAllowed);
        }
        Ok(Self::of_connection(request, protocols))
    }

    fn of_connection(request: &mut Parts, protocols: &[String]) -> Option<Self> {
        let client = request.extensions.remove::<OnUpgrade>()?;
        let offered = protocols.iter().find(|protocol| is_for(&request.headers, protocol))?;
        let is_websocket = offered == WEBSOCKET;
        let plain = request.method == Method::GET || request.method == Method::POST && !is_websocket;
        if !plain || request.version != Version::HTTP_11 {
            return None;
        }
        let websocket = if is_websocket { Some(Handshake::by(sole_key(&request.headers)?)?) } else { None };
        Some(Self { client, is_stream: false, protocol: HeaderValue::try_from(offered).ok()?, websocket })
    }

    fn of_stream(request: &mut Parts, protocols: &[String]) -> Option<Self> {
        let client = request.extensions.remove::<OnUpgrade>()?;
        let offered = protocols.iter().find(|protocol| *protocol == WEBSOCKET)?;
        let websocket = Some(Handshake::new()?);
        Some(Self { client, is_stream: true, protocol: HeaderValue::try_from(offered).ok()?, websocket })
    }

    /// Whether it is a stream of HTTP/2 that the client offers: there is no other answer to it than yes or no.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether it can be passed on over HTTP/2.
    pub fn is_for_websocket(&self) -> bool {
        self.websocket.is_some()
    }

    /// Passes it on over HTTP/1.1; to be called when hop-by-hop fields are gone.
    pub fn pass_on(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
        if let Some(Handshake { key, .. }) = &self.websocket {
            headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        }
    }

    /// Passes it on over HTTP/2 (RFC 8441, 5).
    pub fn extend<B>(&self, request: &mut Request<B>) {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
        // There is neither a body nor an end of one.
        for name in [CONTENT_LENGTH, SEC_WEBSOCKET_KEY] {
            request.headers_mut().remove(name);
        }
    }

    /// Undoes that, where it was done for another endpoint.
    pub fn fold<B>(&self, request: &mut Request<B>) {
        if self.is_for_websocket() {
            *request.method_mut() = Method::GET;
            request.extensions_mut().remove::<Protocol>();
        }
    }

    /// Whether the upstream took the offer.
    pub fn is_taken<B>(&self, response: &Response<B>) -> bool {
        if response.version() == Version::HTTP_2 {
            return self.is_for_websocket() && response.extensions().get::<OnUpgrade>().is_some();
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        response.status() == SWITCHING_PROTOCOLS
            && self.protocol.to_str().is_ok_and(|protocol| is_for(response.headers(), protocol))
            && self.websocket.as_ref().is_none_or(|handshake| accepted == Some(&handshake.accept))
    }

    /// Tells the client that it is taken, in the way of its version; to be called when hop-by-hop fields are gone.
    ///
    /// # Errors
    /// None: 101 is a status.
    pub fn accept<B>(&self, response: &mut Response<B>) -> Result<(), Refusal> {
        if self.is_stream {
            // 200 (RFC 8441, 5).
            *response.status_mut() = <_>::default();
            response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
            return Ok(());
        }
        *response.status_mut() = SWITCHING_PROTOCOLS.try_into().map_err(|_| Refusal::UpstreamInvalid)?;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
        if let Some(Handshake { accept, .. }) = &self.websocket {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
        }
        Ok(())
    }

    /// The tunnel to be.
    pub fn tunnel(self, upstream: Upstream) -> Tunnel {
        Tunnel::new(self.client, upstream)
    }
}

impl Handshake {
    /// With a key of ours: sixteen bytes that nobody can guess (RFC 6455, 4.1).
    fn new() -> Option<Self> {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).ok()?;
        Self::by(STANDARD.encode(nonce).as_bytes())
    }

    /// With this key.
    fn by(key: &[u8]) -> Option<Self> {
        let accept = HeaderValue::try_from(accept(key)).ok()?;
        Some(Self { accept, key: HeaderValue::from_bytes(key).ok()? })
    }
}

fn sole_key(headers: &HeaderMap) -> Option<&[u8]> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) => Some(key.as_bytes()),
        _ => None,
    }
}

/// RFC 6455, 4.2.2.
pub(crate) fn accept(key: &[u8]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that is to become a WebSocket, as hyper has it.
    fn stream(protocol: &'static str) -> Parts {
        let request = Request::builder().method(Method::CONNECT).version(Version::HTTP_2);
        let mut request = request.uri("https://localhost/x").body(()).unwrap();
        request.extensions_mut().insert(Protocol::from_static(protocol));
        let upgrade = hyper::upgrade::on(Request::new(()));
        request.extensions_mut().insert(upgrade);
        request.into_parts().0
    }

    #[test]
    fn only_a_stream_for_websocket_is_judged_as_its_handshake() {
        for (protocol, method) in [("websocket", Method::GET), ("WebSocket", Method::CONNECT)] {
            let mut parts = stream(protocol);
            unfold(&mut parts);
            assert_eq!((&parts.method, is_extended(&parts)), (&method, method == Method::GET));
        }
        let mut plain = stream("websocket");
        plain.extensions.remove::<Protocol>();
        unfold(&mut plain);
        assert!(plain.method == Method::CONNECT && !is_extended(&plain));
    }

    #[test]
    fn each_has_a_key_of_its_own() {
        let offer = || {
            let mut parts = stream("websocket");
            unfold(&mut parts);
            Offer::take(&mut parts, &["websocket".to_owned()]).unwrap().unwrap().websocket.unwrap()
        };
        let (one, other) = (offer(), offer());
        assert_ne!(one.key, other.key);
        assert_eq!(one.accept, accept(one.key.as_bytes()));
    }

    #[test]
    fn what_was_made_for_one_version_can_be_sent_by_the_other() {
        let mut parts = stream("websocket");
        unfold(&mut parts);
        let offer = Offer::take(&mut parts, &["websocket".to_owned()]).unwrap().unwrap();
        let mut request = Request::from_parts(parts, ());
        offer.extend(&mut request);
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert!(!request.headers().contains_key(SEC_WEBSOCKET_KEY));
        // A copy for another try has no extensions.
        request.extensions_mut().remove::<Protocol>();
        offer.fold(&mut request);
        offer.pass_on(request.headers_mut());
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.headers()[UPGRADE], "websocket");
        assert!(request.headers().contains_key(SEC_WEBSOCKET_KEY));
        assert!(Offer::take(&mut stream("websocket"), &[]).unwrap().is_none(), "it was not unfolded");
    }
}
