//! Opening a listening socket.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that the kernel may hold ready for us; it caps this at `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is taken.
    #[error(
        "can't listen on {address}: another process does; stop it (`ss -ltnp` names it) or change the listener's address"
    )]
    InUse {
        /// As configured.
        address: SocketAddr,
    },
    /// The address is not this host's.
    #[error("can't listen on {address}: no interface has this address; see `ip address`, or listen on [::]:{}", address.port())]
    NotAvailable {
        /// As configured.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("can't listen on {address}: {source}")]
    Other {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The port is reserved.
    #[error(
        "can't listen on {address}: permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    )]
    Permission {
        /// As configured.
        address: SocketAddr,
    },
}

/// Listens on `address`; on `[::]`, for IPv4 too, whatever `net.ipv6.bindv6only` says. Sockets that are `leaving`, as they
/// are no longer configured, may still be open on the same port.
pub(super) fn bind(address: SocketAddr, leaving: &[&TcpListener]) -> Result<TcpListener, BindError> {
    let port = |socket: &TcpListener| socket.local_addr().map(|address| address.port()).ok();
    let leaving: Vec<_> =
        leaving.iter().filter(|socket| port(socket) == Some(address.port())).map(SockRef::from).collect();
    let opened = match open(address, false) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !leaving.is_empty() => {
            open_beside(address, &leaving)
        }
        opened => opened,
    };
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        io::ErrorKind::AddrNotAvailable => BindError::NotAvailable { address },
        io::ErrorKind::PermissionDenied => BindError::Permission { address },
        _ => BindError::Other { address, source },
    })
}

/// Shares the port with sockets of our own. What has SO_REUSEPORT shares with the same user's processes alone; and a program
/// that does not set it itself, as another agent, still finds the port taken.
fn open_beside(address: SocketAddr, leaving: &[SockRef<'_>]) -> io::Result<TcpListener> {
    let share = |shared| leaving.iter().try_for_each(|socket| socket.set_reuse_port(shared));
    let opened = share(true).and_then(|()| open(address, true));
    share(false)?;
    let opened = opened?;
    SockRef::from(&opened).set_reuse_port(false)?;
    Ok(opened)
}

fn open(address: SocketAddr, shares: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for the last process's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if shares {
        socket.set_reuse_port(true)?;
    }
    set_up(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Has a listening socket do what its connections need: Linux hands these options down to them.
pub(super) fn set_up(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    socket.set_nonblocking(true)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn a_taken_port_and_a_foreign_address_are_named_with_their_cure() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), &[]).unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind(taken, &[]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("can't listen on {taken}: another process does")), "{error}");
        let error = bind(SocketAddr::from(([192, 0, 2, 1], 443)), &[]).unwrap_err().to_string();
        assert!(error.starts_with("can't listen on 192.0.2.1:443: no interface has this address"), "{error}");
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let Ok(listener) = bind("[::]:0".parse().unwrap(), &[]) else { return };
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_canonical(), Ipv4Addr::LOCALHOST);
        assert!(accepted.nodelay().unwrap());
    }

    #[test]
    fn a_socket_that_leaves_shares_its_port_with_its_successor_and_not_with_another_agent() {
        let old = bind(SocketAddr::from(([0, 0, 0, 0], 0)), &[]).unwrap();
        let port = old.local_addr().unwrap().port();
        let local = SocketAddr::from(([127, 0, 0, 1], port));
        let stranger = bind(SocketAddr::from(([127, 0, 0, 1], 0)), &[]).unwrap();
        let error = bind(local, &[&stranger]).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        let new = bind(local, &[&stranger, &old]).unwrap();
        for socket in [&old, &new, &stranger] {
            assert!(!SockRef::from(socket).reuse_port().unwrap());
        }
        assert!(matches!(bind(local, &[]).unwrap_err(), BindError::InUse { .. }));
        drop(old);
        let _client = TcpStream::connect(local).unwrap();
        new.set_nonblocking(false).unwrap();
        new.accept().unwrap();
    }
}
