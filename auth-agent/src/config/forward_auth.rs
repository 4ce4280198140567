//! The listener for proxies that forward requests themselves.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[forward_auth]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForwardAuth {
    /// Where it listens; not on the network, unless the operator wrote that it may.
    pub listen: LocalAddress,
}

/// `"127.0.0.1:9180"` or `"unix:/run/auth-agent/forward-auth.sock"`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LocalAddress {
    /// TCP.
    Socket(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}
