//! Where requests go to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::IdentityForm;

/// `[[upstream]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// Which endpoint a request goes to.
    pub balance: Balance,
    /// Requests that may be in flight to one endpoint; over HTTP/1.1, each has a connection of its own.
    pub connections: NonZeroUsize,
    /// When an endpoint that fails is left alone.
    pub ejection: Ejection,
    /// At least one.
    pub endpoints: Vec<Address>,
    /// How endpoints are looked after while nobody asks for them.
    pub health_check: Option<HealthCheck>,
    /// How it is told who sent a request.
    pub identity: IdentityForm,
    /// Connections that are kept open to one endpoint by one thread for requests to come.
    pub idle_connections: usize,
    /// For how long they are kept.
    pub idle_timeout: Duration,
    /// Name that routes refer to.
    pub name: Arc<str>,
    /// What is spoken to the endpoints.
    pub protocol: Protocol,
    /// Requests that may wait while every endpoint has as many as it takes.
    pub queue: usize,
    /// For how long they may wait.
    pub queue_timeout: Duration,
    /// How often names are looked up again.
    pub resolve_every: Duration,
    /// Requests in flight on one HTTP/2 connection.
    pub streams: NonZeroU32,
    /// How `https://` endpoints are connected to.
    pub tls: UpstreamTls,
}

/// `upstream.balance`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Balance {
    /// The one with the fewest requests in flight.
    LeastRequests,
    /// The same one for whoever is the same, as long as it is there; without an identity, by source address.
    PrincipalHash,
    /// Each in turn.
    RoundRobin,
}

/// `upstream.protocol`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// What TLS negotiates, HTTP/2 for `h2c://`, HTTP/1.1 otherwise.
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// `upstream.ejection`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ejection {
    /// Failures in a row; 0: never.
    pub failures: u32,
    /// For how long at first; each time it fails again at once, twice as long.
    pub first: Duration,
    /// For how long at most.
    pub longest: Duration,
}

/// `upstream.health_check`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HealthCheck {
    /// Statuses that are healthy.
    pub expect: RangeInclusive<u16>,
    /// Good answers in a row that bring an endpoint back.
    pub healthy_after: NonZeroU32,
    /// Between two checks of an endpoint.
    pub interval: Duration,
    /// What is asked for.
    pub path: String,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Bad answers in a row that take an endpoint out.
    pub unhealthy_after: NonZeroU32,
}

/// `upstream.ca`, `certificate`, `key`, `server_name`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UpstreamTls {
    /// PEM bundle of the authorities that certificates may come from, in place of the host's own.
    pub ca: Option<PathBuf>,
    /// PEM certificate chain and private key that are shown to endpoints that ask.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The name that certificates must be for, where it is not the endpoint's.
    pub server_name: Option<Arc<str>>,
}

/// Where an endpoint is, and how it is spoken to: `http://host:port`, `https://host:port`, `h2c://host:port` or
/// `unix:/path`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    /// Where.
    pub place: Place,
    /// How.
    pub scheme: Scheme,
}

/// Where an endpoint is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// At each of the addresses that the name has, at this port.
    Name(Arc<str>, u16),
    /// Here.
    Socket(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// HTTP/2 in clear text, without asking first (RFC 9113, 3.3).
    H2c,
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            let right = path.starts_with('/') && path.len() <= MAX_SOCKET_PATH && !path.contains('\0');
            let place = Place::Unix(PathBuf::from(path));
            return if right { Ok(Self { place, scheme: Scheme::Http }) } else { Err(NotAnAddress) };
        }
        let schemes = [("h2c://", Scheme::H2c), ("http://", Scheme::Http), ("https://", Scheme::Https)];
        let (scheme, authority) = schemes
            .into_iter()
            .find_map(|(prefix, scheme)| Some((scheme, text.strip_prefix(prefix)?)))
            .ok_or(NotAnAddress)?;
        Ok(Self { place: place(authority).ok_or(NotAnAddress)?, scheme })
    }
}

/// What the kernel takes, less the zero at its end.
const MAX_SOCKET_PATH: usize = 107;

fn place(authority: &str) -> Option<Place> {
    let (host, port) = authority.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0)?;
    if let Some(ipv6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return Some(Place::Socket(SocketAddr::new(IpAddr::V6(ipv6.parse().ok()?), port)));
    }
    if let Ok(ipv4) = host.parse() {
        return Some(Place::Socket(SocketAddr::new(IpAddr::V4(ipv4), port)));
    }
    (is_host_name(host) && !ends_in_a_number(host)).then(|| Place::Name(Arc::from(host), port))
}

/// RFC 1123, 2.1; an IPv4 address is one too.
pub(super) fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// Such a name is an address that is not whole, and read as one by some resolvers.
fn ends_in_a_number(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::H2c => "h2c",
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        match &self.place {
            Place::Name(name, port) => write!(formatter, "{scheme}://{name}:{port}"),
            Place::Socket(address) => write!(formatter, "{scheme}://{address}"),
            Place::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}
