//! The Unix socket: made with care, and open to its own users only.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::response::IntoResponse;
use axum::serve::{IncomingStream, Listener};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time;

use super::Control;
use super::problem::Problem;
use crate::actor::Peer;

/// How many strangers may be told at a time why they are refused; more are just closed.
const REFUSALS: usize = 16;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Out of file descriptors: accepting at once again would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the control socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A file operation failed.
    #[error("{}: can't {action} the control socket: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket or its directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody answers there.
    #[error("{}: another agent is running{}: stop it first, or set control.socket to another path", path.display(), pid_text(*.pid))]
    Live {
        /// Its process id, if it is known.
        pid: Option<i32>,
        /// The socket.
        path: PathBuf,
    },
    /// Something else is in its place.
    #[error("{}: is not a socket: move it away, or set control.socket to another path", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
}

fn pid_text(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// The control socket, listening. Dropping it removes the file.
pub struct ControlSocket {
    guard: Guard,
    listener: UnixListener,
    path: PathBuf,
    /// Where it is to be.
    place: Option<PathBuf>,
    /// Inode of our file: a successor may have put its own there.
    inode: u64,
}

#[derive(Clone)]
struct Guard {
    allow_uids: Arc<[u32]>,
    refusals: Arc<Semaphore>,
    /// Where it is written down who was refused.
    report: Option<Arc<Control>>,
}

impl ControlSocket {
    /// Listens at `path` for root, this process's own user, and `allow_uids`.
    pub async fn bind(path: &Path, allow_uids: &[u32]) -> Result<Self, SocketError> {
        let failed = |action| move |source| SocketError::Io { action, path: path.to_owned(), source };
        make_directory(path, allow_uids).map_err(failed("make the directory of"))?;
        clear_stale(path).await?;
        Self::make(path, None, allow_uids)
    }

    /// Listens for a new agent in the place of the one that has the file with inode `old`: beside that file, until
    /// [`Self::take_place`]. At once in place where that file is another one.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn succeed(path: &Path, allow_uids: &[u32], old: Option<u64>) -> Result<Self, SocketError> {
        let present = fs::symlink_metadata(path).ok().map(|file| file.ino());
        if present.is_none() || present != old {
            return Self::bind(path, allow_uids).await;
        }
        let beside = PathBuf::from(format!("{}.next", path.display()));
        // Of an agent that was killed before it took over.
        clear_stale(&beside).await?;
        Self::make(&beside, Some(path), allow_uids)
    }

    /// Has it written down there who is refused.
    pub(super) fn reporting(mut self, control: &Arc<Control>) -> Self {
        self.guard.report = Some(Arc::clone(control));
        self
    }

    /// Puts the socket's file in its place, over the old agent's.
    ///
    /// # Errors
    /// [`SocketError::Io`].
    pub fn take_place(&mut self) -> Result<(), SocketError> {
        let Some(place) = self.place.take() else { return Ok(()) };
        fs::rename(&self.path, &place).map_err(|source| SocketError::Io {
            action: "put in its place",
            path: place.clone(),
            source,
        })?;
        self.path = place;
        Ok(())
    }

    fn make(path: &Path, place: Option<&Path>, allow_uids: &[u32]) -> Result<Self, SocketError> {
        let failed = |action| move |source| SocketError::Io { action, path: path.to_owned(), source };
        let listener = UnixListener::bind(path).map_err(failed("make"))?;
        // Other users can only be let in by the socket's mode; whom of them, the peer's uid decides.
        let mode = if allow_uids.is_empty() { 0o600 } else { 0o666 };
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set the mode of"))?;
        let inode = fs::symlink_metadata(path).map_err(failed("find"))?.ino();
        let own_uid = own_uid().map_err(failed("learn the user of"))?;
        let allow_uids = allow_uids.iter().copied().chain([0, own_uid]).collect();
        let guard = Guard { allow_uids, refusals: Arc::new(Semaphore::new(REFUSALS)), report: None };
        Ok(Self { guard, inode, listener, path: path.to_owned(), place: place.map(Path::to_owned) })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            // If it stays, the next start finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener for ControlSocket {
    type Addr = Peer;
    type Io = UnixStream;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "control socket: can't accept");
                    time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(found) => {
                    let peer = peer(found);
                    if self.guard.allow_uids.contains(&peer.uid) {
                        return (stream, peer);
                    }
                    self.guard.refuse(stream, peer);
                }
                Err(error) => tracing::warn!(%error, "control socket: can't learn the peer's user"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(peer(UnixStream::pair()?.0.peer_cred()?))
    }
}

impl Connected<IncomingStream<'_, ControlSocket>> for Peer {
    fn connect_info(stream: IncomingStream<'_, ControlSocket>) -> Self {
        *stream.remote_addr()
    }
}

impl Guard {
    /// Answers one request with 403 and closes, without keeping anyone else waiting.
    fn refuse(&self, stream: UnixStream, peer: Peer) {
        let uid = peer.uid;
        tracing::warn!(uid, "control socket: user refused");
        self.report.iter().for_each(|control| control.audit_stranger(peer));
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        let answer =
            service_fn(move |_| async move { Ok::<_, Infallible>(Problem::Peer { uid }.into_response()) });
        tokio::spawn(async move {
            let _permit = permit;
            let connection =
                http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer);
            // Whether the stranger got the answer is up to him.
            let _ = time::timeout(REFUSAL_TIMEOUT, connection).await;
        });
    }
}

fn make_directory(path: &Path, allow_uids: &[u32]) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() && !directory.exists() => {
            let mode = if allow_uids.is_empty() { 0o750 } else { 0o755 };
            DirBuilder::new().recursive(true).mode(mode).create(directory)
        }
        _ => Ok(()),
    }
}

/// Removes the socket of an agent that is gone; refuses to touch anything else.
async fn clear_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |action| move |source| SocketError::Io { action, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look for")(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            Err(SocketError::Live { path: path.to_owned(), pid })
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("replace the stale file of"))
        }
        Err(error) => Err(failed("probe")(error)),
    }
}

fn peer(found: UCred) -> Peer {
    Peer { gid: found.gid(), pid: found.pid(), uid: found.uid() }
}

/// What the kernel would tell a peer of this process.
fn own_uid() -> io::Result<u32> {
    Ok(UnixStream::pair()?.0.peer_cred()?.uid())
}
