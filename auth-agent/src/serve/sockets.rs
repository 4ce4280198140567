//! Listening sockets that are there already: an earlier agent's, or the service manager's.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{SockRef, Type};

use super::listen;

/// Sockets by the address that a configuration names them by.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(SocketAddr, TcpListener)>);

/// Why a socket can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketProblem {
    /// It is something else.
    #[error("is no TCP socket that listens (for systemd: ListenStream= with Accept=no)")]
    NotListening,
    /// What the system says.
    #[error("can't be used: {0}")]
    Other(#[from] io::Error),
}

impl Sockets {
    /// Takes in a socket that listens, and that a configuration calls `address`; its own, where that is not said.
    ///
    /// # Errors
    /// [`SocketProblem`].
    pub fn add(&mut self, address: Option<SocketAddr>, socket: TcpListener) -> Result<(), SocketProblem> {
        let view = SockRef::from(&socket);
        if view.r#type()? != Type::STREAM || !view.is_listener()? {
            return Err(SocketProblem::NotListening);
        }
        listen::set_up(&view)?;
        let address = address.map_or_else(|| socket.local_addr(), Ok)?;
        self.0.push((address, socket));
        Ok(())
    }

    /// The one for an address, which is then no longer here.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let found = self.0.iter().position(|(name, _)| *name == address)?;
        Some(self.0.swap_remove(found).1)
    }

    /// Those that are here.
    pub(super) fn all(&self) -> Vec<&TcpListener> {
        self.0.iter().map(|(_, socket)| socket).collect()
    }

    /// The addresses of those that are here.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;

    use socket2::{Domain, Socket};

    use super::*;

    #[test]
    fn a_socket_is_taken_once_by_its_own_address_or_the_one_it_was_given_by() {
        let mut sockets = Sockets::default();
        let bound = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, given) = (bound(), bound());
        let own_address = own.local_addr().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        sockets.add(None, own).unwrap();
        sockets.add(Some(any), given).unwrap();
        assert_eq!(sockets.addresses(), [own_address, any]);
        assert_eq!(sockets.take(own_address).unwrap().local_addr().unwrap(), own_address);
        assert!(sockets.take(own_address).is_none());
        assert!(SockRef::from(&sockets.take(any).unwrap()).tcp_nodelay().unwrap());
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let unconnected = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        for socket in [OwnedFd::from(unconnected), OwnedFd::from(datagrams)] {
            let error = Sockets::default().add(None, socket.into()).unwrap_err();
            assert!(matches!(error, SocketProblem::NotListening), "{error}");
        }
    }
}
