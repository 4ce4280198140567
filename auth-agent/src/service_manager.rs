//! What the service manager gives and is told: sockets by sd_listen_fds(3), news by sd_notify(3), unit files.

use std::io;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::serve::{SocketProblem, Sockets};

/// Why a socket of the service manager's can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// It is none to listen on.
    #[error("socket {number} of those that the service manager passed (LISTEN_FDS) {problem}")]
    Socket {
        /// Its place, from 1.
        number: usize,
        /// What is wrong.
        problem: SocketProblem,
    },
    /// Nobody wants it.
    #[error(
        "the service manager passed sockets (LISTEN_FDS) that no [[listener]] has the address of: {0}; write the same \
         addresses in the configuration and in ListenStream="
    )]
    Unwanted(String),
}

/// The sockets that the service manager passed to this process. To be called once, before there are threads: it takes
/// the variables that tell of them out of the environment.
///
/// # Errors
/// [`ActivationError::Socket`].
pub fn sockets() -> Result<Sockets, ActivationError> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    for index in 0..passed.len() {
        let number = index + 1;
        let failed = |problem| ActivationError::Socket { number, problem };
        let socket = passed.take_tcp_listener(index).map_err(|error| failed(other(error)))?;
        if let Some(socket) = socket {
            sockets.add(None, socket).map_err(failed)?;
        }
    }
    Ok(sockets)
}

/// What is no TCP socket at all is found before it is asked whether it listens.
fn other(error: io::Error) -> SocketProblem {
    match error.kind() {
        io::ErrorKind::InvalidInput => SocketProblem::NotListening,
        _ => error.into(),
    }
}

/// Refuses sockets that no listener took.
///
/// # Errors
/// [`ActivationError::Unwanted`].
pub fn refuse_unwanted(sockets: &Sockets) -> Result<(), ActivationError> {
    let left: Vec<_> = sockets.addresses().iter().map(ToString::to_string).collect();
    if left.is_empty() { Ok(()) } else { Err(ActivationError::Unwanted(left.join(", "))) }
}

/// The agent serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The agent takes its configuration anew; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no clock"),
    }
}

/// The agent ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// This process is the service from now on.
pub fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process), NotifyState::Ready]);
}

/// Tells nobody where NOTIFY_SOCKET is not set.
fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
