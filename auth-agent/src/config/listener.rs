//! Where clients connect.

use std::net::SocketAddr;
use std::path::PathBuf;

/// `[[listener]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Address and port; `[::]:443` takes IPv4 too.
    pub address: SocketAddr,
    /// PEM certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// Whether every connection starts with a header of the PROXY protocol, from a trusted proxy.
    pub proxy_protocol: bool,
}
