//! Accepting connections, whatever happens to the last one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::{Phase, Shared, connection};
use crate::clock::UnixTime;
use crate::counters;
use crate::tls::TlsListener;

/// Without file descriptors or memory, trying again at once would only burn the CPU that could free some.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the server drains; closing the socket then lets the kernel refuse newcomers.
pub(super) async fn run(
    socket: TcpListener,
    tls: Arc<TlsListener>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                failing = false;
                admit(stream, address, &tls, &shared, &phase);
            }
            Err(error) if is_about_the_connection(&error) => {
                debug!(%error, "connection lost before it was accepted");
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "can't accept connections; trying on (raise the open file limit if it is that)");
                }
                failing = true;
                sleep(PAUSE).await;
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    address: SocketAddr,
    tls: &Arc<TlsListener>,
    shared: &Arc<Shared>,
    phase: &watch::Receiver<Phase>,
) {
    let source = address.ip().to_canonical();
    let counters = shared.gateway.counters();
    counters::count(&counters.connections);
    match shared.admission.admit(source) {
        Ok(slot) => {
            // getsockname(2) does not fail on a socket that was just accepted.
            let Ok(local) = stream.local_addr() else { return };
            let entry = shared.connections.enter(local, address, UnixTime::now());
            let (tls, shared, phase) = (Arc::clone(tls), Arc::clone(shared), phase.clone());
            tokio::spawn(connection::serve(stream, entry, slot, tls, shared, phase));
        }
        Err(full) => {
            debug!(%source, reason = full.name(), "connection closed");
            counters.closed.count(full.name());
        }
    }
}

/// accept(2) reports errors of the connection it was about to give; they say nothing about the next.
fn is_about_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable
    )
}
