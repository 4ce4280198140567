//! Where proxies ask: plain HTTP/1 or, with prior knowledge, HTTP/2 on a loopback address or a Unix socket.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join, split};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time;
use tracing::{debug, warn};

use super::ForwardAuth;
use crate::clock::Now;
use crate::config::{Config, LocalAddress, Sizes};
use crate::serve::guarded;

/// Connections of proxies that are open at a time; more wait to be accepted.
const CONNECTIONS: usize = 4096;
/// For the header fields of a question.
const HEADERS: Duration = Duration::from_secs(10);
/// What is being answered may take so long when the agent ends.
const GOODBYE: Duration = Duration::from_secs(2);
/// Without file descriptors, trying again at once would only burn the CPU.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the listener can't be had.
#[derive(Debug, thiserror::Error)]
#[error("forward_auth.listen: can't listen at {address}: {source}; free it, or choose another")]
pub struct BindError {
    address: LocalAddress,
    source: io::Error,
}

/// A socket that listens.
pub struct Listener(Socket);

enum Socket {
    Tcp(TcpListener),
    Unix { file: File, listener: UnixListener },
}

/// The file of a Unix socket; removed with it, unless another agent serves there.
struct File {
    inode: u64,
    /// It is another agent's: the one before this one does not end yet, or the one after it serves.
    left: Arc<AtomicBool>,
    path: PathBuf,
}

impl File {
    fn of(path: &Path, left: bool) -> io::Result<Self> {
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(Self { inode, left: Arc::new(left.into()), path: path.to_owned() })
    }
}

/// The same socket, for the agent that comes after this one.
pub struct Heirloom {
    left: Arc<AtomicBool>,
    socket: OwnedFd,
}

impl Heirloom {
    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Leaves the socket's file to the other agent.
    pub fn leave(&self) {
        self.left.store(true, SeqCst);
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.left.load(SeqCst) {
            return;
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // If it stays, the next start finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Listens where the configuration says, if it does.
    ///
    /// # Errors
    /// The address is taken, or may not be used.
    pub async fn bind(config: &Config) -> Result<Option<Self>, BindError> {
        Self::bind_or_take(config, None).await
    }

    /// The same with the socket that an earlier agent handed over, where that listens there.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn bind_or_take(config: &Config, handed: Option<OwnedFd>) -> Result<Option<Self>, BindError> {
        let Some(forward_auth) = &config.forward_auth else { return Ok(None) };
        let handed = handed.and_then(|handed| taken(handed, &forward_auth.listen).ok().flatten());
        let socket = match (handed, &forward_auth.listen) {
            (Some(socket), _) => Ok(socket),
            (None, LocalAddress::Socket(address)) => TcpListener::bind(address).await.map(Socket::Tcp),
            (None, LocalAddress::Unix(path)) => unix(path).await,
        };
        let failed = |source| BindError { address: forward_auth.listen.clone(), source };
        Ok(Some(Self(socket.map_err(failed)?)))
    }

    /// Makes the file of a socket that was handed over this agent's. Until then it is the earlier agent's, who serves on
    /// if this one fails.
    pub fn take_place(&self) {
        if let Socket::Unix { file, .. } = &self.0 {
            file.left.store(false, SeqCst);
        }
    }

    /// The same socket, for the agent that comes after this one.
    ///
    /// # Errors
    /// What the system says.
    pub fn heirloom(&self) -> io::Result<Heirloom> {
        let (socket, left) = match &self.0 {
            Socket::Tcp(listener) => (listener.as_fd(), Arc::default()),
            Socket::Unix { file, listener } => (listener.as_fd(), Arc::clone(&file.left)),
        };
        Ok(Heirloom { left, socket: socket.try_clone_to_owned()? })
    }

    /// The address, of a TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix { .. } => None,
        }
    }

    /// Answers until `stop`; a connection by the `sizes` at its beginning.
    pub async fn run(
        self,
        forward_auth: Arc<ForwardAuth>,
        sizes: impl Fn() -> Sizes,
        stop: impl Future<Output = ()>,
    ) {
        let server = Server {
            forward_auth,
            graceful: GracefulShutdown::new(),
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            sizes,
            stopping: watch::Sender::new(()),
        };
        tokio::select! {
            () = server.accept(&self.0) => {}
            () = stop => {}
        }
        drop((self.0, server.stopping));
        let _ = time::timeout(GOODBYE, server.graceful.shutdown()).await;
    }
}

/// Whoever gets to the file may ask: that is for the folder that it lies in to decide.
async fn unix(path: &Path) -> io::Result<Socket> {
    let stale = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path)
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if stale {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(Socket::Unix { file: File::of(path, false)?, listener })
}

/// A socket that listens there already; nothing where it is another one.
fn taken(handed: OwnedFd, address: &LocalAddress) -> io::Result<Option<Socket>> {
    match address {
        LocalAddress::Socket(address) => {
            let listener = std::net::TcpListener::from(handed);
            if listener.local_addr()? != *address {
                return Ok(None);
            }
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(|listener| Some(Socket::Tcp(listener)))
        }
        LocalAddress::Unix(path) => {
            let listener = std::os::unix::net::UnixListener::from(handed);
            if listener.local_addr()?.as_pathname() != Some(path) {
                return Ok(None);
            }
            listener.set_nonblocking(true)?;
            let (file, listener) = (File::of(path, true)?, UnixListener::from_std(listener)?);
            Ok(Some(Socket::Unix { file, listener }))
        }
    }
}

struct Server<F> {
    forward_auth: Arc<ForwardAuth>,
    graceful: GracefulShutdown,
    places: Arc<Semaphore>,
    sizes: F,
    /// Goes when the agent ends.
    stopping: watch::Sender<()>,
}

impl<F: Fn() -> Sizes> Server<F> {
    async fn accept(&self, socket: &Socket) {
        while let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
            let accepted = match socket {
                Socket::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    // A small answer is not to wait for another.
                    let _ = stream.set_nodelay(true);
                    self.serve(stream, Some(peer.ip().to_canonical()), place);
                }),
                Socket::Unix { listener, .. } => {
                    listener.accept().await.map(|(stream, _)| self.serve(stream, None, place))
                }
            };
            if let Err(error) = accepted {
                warn!(%error, "can't accept a proxy's connection; trying on");
                time::sleep(PAUSE).await;
            }
        }
    }

    fn serve<S>(&self, stream: S, peer: Option<IpAddr>, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let forward_auth = Arc::clone(&self.forward_auth);
        let service = service_fn(move |request: Request<Incoming>| {
            let forward_auth = Arc::clone(&forward_auth);
            async move { Ok::<_, Infallible>(forward_auth.answer(peer, request, Now::read()).await) }
        });
        let (sizes, watcher) = ((self.sizes)(), self.graceful.watcher());
        let mut stopping = self.stopping.subscribe();
        let header_bytes = sizes.header_bytes.get().max(8 << 10);
        tokio::spawn(async move {
            let mut stream = stream;
            let begun = tokio::select! {
                begun = time::timeout(HEADERS, version(&mut stream)) => begun,
                _ = stopping.changed() => return,
            };
            let Ok(Ok((is_http2, head))) = begun else { return };
            let (read, write) = split(stream);
            let stream = TokioIo::new(join(head.chain(read), write));
            if is_http2 {
                let connection = guarded(TokioExecutor::new(), &sizes)
                    .timer(TokioTimer::new())
                    .serve_connection(stream, service);
                watched(watcher, connection).await;
            } else {
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS)
                    .max_buf_size(header_bytes)
                    .max_headers(sizes.headers.get() + EXTRA_HEADERS)
                    .serve_connection(stream, service);
                watched(watcher, connection).await;
            }
            drop(place);
        });
    }
}

/// Until the connection is over, or has been told to end and has.
async fn watched<C: GracefulConnection<Error = hyper::Error>>(watcher: Watcher, connection: C) {
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "a proxy's connection failed");
    }
}

/// Whether a connection begins as HTTP/2 does, and what was read to know that.
async fn version(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(bool, io::Cursor<Vec<u8>>)> {
    let (mut head, mut read) = ([0; PREFACE.len()], 0);
    while read < PREFACE.len() && head[..read] == PREFACE[..read] {
        match stream.read(&mut head[read..]).await? {
            0 => break,
            more => read += more,
        }
    }
    Ok((head[..read] == PREFACE[..], io::Cursor::new(head[..read].to_vec())))
}

/// What HTTP/2 begins with (RFC 9113, 3.4), and HTTP/1 never does.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What proxies add to the fields of a request.
const EXTRA_HEADERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    async fn handed_on(address: LocalAddress, elsewhere: LocalAddress) -> Listener {
        let socket = match &address {
            LocalAddress::Socket(address) => TcpListener::bind(address).await.map(Socket::Tcp),
            LocalAddress::Unix(path) => unix(path).await,
        };
        let old = Listener(socket.unwrap());
        let address = old.address().map_or(address, LocalAddress::Socket);
        let heirloom = old.heirloom().unwrap();
        let copy = || heirloom.socket().try_clone_to_owned().unwrap();
        assert!(!matches!(taken(copy(), &elsewhere), Ok(Some(_))), "another address");
        let failed = Listener(taken(copy(), &address).unwrap().unwrap());
        drop(failed);
        if let LocalAddress::Unix(path) = &address {
            UnixStream::connect(path).await.expect("one that fails leaves the file to the old agent");
        }
        let new = Listener(taken(copy(), &address).unwrap().unwrap());
        new.take_place();
        heirloom.leave();
        drop((old, heirloom));
        new
    }

    #[tokio::test]
    async fn a_socket_and_its_file_go_over_to_the_next_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ask.sock");
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let elsewhere = LocalAddress::Unix(directory.path().join("other.sock"));
        let tcp = handed_on(LocalAddress::Socket(any), elsewhere).await;
        TcpStream::connect(tcp.address().unwrap()).await.unwrap();
        let unix = handed_on(LocalAddress::Unix(path.clone()), LocalAddress::Socket(any)).await;
        UnixStream::connect(&path).await.unwrap();
        drop(unix);
        assert!(!path.exists(), "the last one removes it");
    }
}
