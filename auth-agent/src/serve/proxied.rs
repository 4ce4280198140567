//! Connections that a proxy passes on, and says whose they are before the TLS handshake.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;
use tracing::debug;

use crate::client_address::{self, ProxyProtocolError, Said, TrustedProxies};
use crate::config::Config;

/// Where the PROXY protocol is spoken, and who may.
#[derive(Debug)]
pub(super) struct Proxied {
    listeners: Vec<SocketAddr>,
    trusted: TrustedProxies,
}

impl Proxied {
    pub(super) fn new(config: &Config) -> Self {
        let proxied = config.listeners.iter().filter(|listener| listener.proxy_protocol);
        let listeners = proxied.map(|listener| listener.address).collect();
        Self { listeners, trusted: TrustedProxies::new(&config.proxies) }
    }

    /// Whether there is a trusted proxy at `peer`, whose connections are many clients'.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.contains(peer)
    }

    /// Whether a connection to `local` starts with a header.
    pub(super) fn expects(&self, local: SocketAddr) -> bool {
        let ip = local.ip().to_canonical();
        let is_there =
            |listener: &SocketAddr| listener.ip().is_unspecified() || listener.ip().to_canonical() == ip;
        // Port 0 is whichever the system chose.
        let is_at = |listener: &&SocketAddr| listener.port() == local.port() || listener.port() == 0;
        self.listeners.iter().filter(is_at).any(is_there)
    }

    /// The client's address, off the start of a connection that `peer` made; or why the connection is closed.
    pub(super) async fn client(&self, stream: &mut TcpStream, peer: IpAddr) -> Result<IpAddr, &'static str> {
        if !self.trusts(peer) {
            return Err("proxy-untrusted");
        }
        match client_address::read(stream).await {
            Ok(Said::Client(address)) => Ok(address.ip().to_canonical()),
            Ok(Said::Own) => Ok(peer),
            Err(ProxyProtocolError::Invalid) => Err("proxy-header-invalid"),
            Err(error @ ProxyProtocolError::Io(_)) => {
                debug!(%error, "a proxy's connection was lost");
                Err("proxy-header-invalid")
            }
        }
    }
}
