//! Forward-auth: another proxy terminates TLS and forwards, and asks here about each request first.
//!
//! What a request is judged by is what the gateway judges its own by ([`Judge`](crate::judge::Judge)). The proxy is trusted
//! with what it says of the request, whose every part it says exactly once; who can reach this listener can ask in any
//! client's name, so it is on a loopback address or a Unix socket.

mod grpc;
mod listener;
mod original;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Body;
use tokio::time::timeout;

pub use self::listener::{BindError, Heirloom, Listener};
pub use self::original::{Dialect, may_have_body};
use crate::authorization_server::{CACHED, SigningKeys};
use crate::clock::Now;
use crate::gateway::Gateway;
use crate::headers::Covered;
use crate::refusal::{self, Refusal};

/// Examples of what to write into the configuration of a proxy, by its name.
pub const EXAMPLES: [(&str, &str); 5] = [
    ("caddy", include_str!("forward_auth/examples/Caddyfile")),
    ("envoy", include_str!("forward_auth/examples/envoy.yaml")),
    ("envoy-grpc", include_str!("forward_auth/examples/envoy-grpc.yaml")),
    ("nginx", include_str!("forward_auth/examples/nginx.conf")),
    ("traefik", include_str!("forward_auth/examples/traefik.yaml")),
];

/// For a question, as far as it is in a body.
const READ: Duration = Duration::from_secs(10);

/// Where upstreams find the keys of internal tokens.
const KEYS: &str = "/.well-known/jwks.json";

/// Answers what proxies ask.
pub struct ForwardAuth {
    gateway: Arc<Gateway>,
    /// What internal tokens are verified with.
    keys: Option<Arc<SigningKeys>>,
}

impl ForwardAuth {
    /// By what the gateway goes by.
    pub fn new(gateway: Arc<Gateway>, keys: Option<Arc<SigningKeys>>) -> Self {
        Self { gateway, keys }
    }

    /// The verdict on the request that the proxy at `peer` asks about.
    pub async fn answer<B>(
        &self,
        peer: Option<IpAddr>,
        request: Request<B>,
        now: Now,
    ) -> Response<Either<Full<Bytes>, grpc::Answer>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (asking, body) = request.into_parts();
        if !grpc::is_check(&asking) {
            // There is nothing to a body: the proxy keeps it.
            return self.verdict(peer, asking, now).await.map(Either::Left);
        }
        let asked = timeout(READ, grpc::question(body)).await.unwrap_or(Err(Refusal::QuestionInvalid));
        let verdict = match asked {
            Ok((original, client)) => {
                let covered = (client, Covered::Everything);
                self.gateway.verify(&original, covered, refusal::respond, now).await
            }
            Err(refusal) => Err(self.gateway.refuse_asking(peer, &asking, refusal)),
        };
        match verdict {
            Ok(identity) => grpc::permitted(&identity).map(Either::Right),
            Err(response) => grpc::denied(response).await.map(Either::Right),
        }
    }

    async fn verdict(&self, peer: IpAddr, request: Parts, now: Now) -> Response<Full<Bytes>> {
        if let Some(keys) = self.keys.as_ref().filter(|_| request.uri.path() == KEYS) {
            return key_set(keys);
        }
        let Some((dialect, target)) = Dialect::of(&request) else {
            return self.gateway.refuse_asking(peer, &request, Refusal::RouteNotFound);
        };
        let (original, client) = match original::request(dialect, target, &request) {
            Ok(original) => original,
            Err(refusal) => return self.gateway.refuse_asking(peer, &request, refusal),
        };
        let respond = match dialect {
            Dialect::Nginx => refusal::respond_to_nginx,
            Dialect::Envoy | Dialect::Forwarded => refusal::respond,
        };
        // Envoy leaves a field of the client's in place that the verdict has none of, and Caddy passes on the name of its
        // own place for it.
        let covered = if dialect == Dialect::Nginx { Covered::Nothing } else { Covered::Identity };
        match self.gateway.verify(&original, (client, covered), respond, now).await {
            Ok(identity) => {
                let mut response = Response::new(Full::default());
                *response.headers_mut() = identity;
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            Err(response) => response,
        }
    }
}

/// Public keys, for as long as they may be cached before the next one signs.
fn key_set(keys: &SigningKeys) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(keys.key_set()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    if let Ok(cached) = HeaderValue::try_from(format!("public, max-age={}", CACHED.as_secs())) {
        headers.insert(CACHE_CONTROL, cached);
    }
    response
}
