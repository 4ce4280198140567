//! Connections to endpoints: TCP, TLS over it, or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Finds endpoints that are gone without a word.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where a connection goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Socket(SocketAddr),
    Unix(PathBuf),
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The time went by behind others that connected.
    #[error("not within timeouts.connect, as others connected first")]
    Late,
    /// HTTP/2 was asked for, and TLS did not agree to it.
    #[error("does not speak HTTP/2; set the upstream's `protocol`")]
    Protocol,
    #[error("{0}")]
    Refused(#[from] io::Error),
    #[error("not within timeouts.connect")]
    Timeout,
}

impl ConnectError {
    /// Whether it is time that was lacking.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Protocol => false,
            Self::Refused(error) => error.kind() == io::ErrorKind::TimedOut,
            Self::Late | Self::Timeout => true,
        }
    }
}

/// Connects, within the time that there is for it; counted among the `opened` from the start.
pub(super) async fn connect(
    target: &Target,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    limit: Duration,
    opened: &Opened,
) -> Result<Stream, ConnectError> {
    let _open = Open::new(opened);
    let stream = async {
        let kind = match (target, tls) {
            (Target::Socket(address), Some((tls, name))) => {
                let stream = tls.connect(name, tcp(*address).await?).await?;
                Kind::Tls(Box::new(stream))
            }
            (Target::Socket(address), None) => Kind::Tcp(tcp(*address).await?),
            (Target::Unix(path), _) => Kind::Unix(UnixStream::connect(path).await?),
        };
        Ok(Stream { kind, _open })
    };
    timeout(limit, stream).await.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Refused)
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(stream)
}

/// A connection to an endpoint, counted while it is open.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
    _open: Open,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Open connections.
pub(super) type Opened = Arc<AtomicUsize>;

#[derive(Debug)]
struct Open(Opened);

impl Open {
    fn new(opened: &Opened) -> Self {
        opened.fetch_add(1, Relaxed);
        Self(Arc::clone(opened))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Stream {
    /// Whether TLS has agreed to HTTP/2; nothing without TLS.
    pub fn agreed_to_http2(&self) -> Option<bool> {
        match &self.kind {
            Kind::Tls(stream) => Some(stream.get_ref().1.alpn_protocol() == Some(b"h2")),
            Kind::Tcp(_) | Kind::Unix(_) => None,
        }
    }
}

/// The same, done by whichever stream it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $do:expr) => {
        match &mut $stream.get_mut().kind {
            Kind::Tcp($inner) => $do,
            Kind::Tls($inner) => $do,
            Kind::Unix($inner) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
            Kind::Unix(stream) => stream.is_write_vectored(),
        }
    }
}
