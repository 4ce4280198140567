//! Accepting connections, whatever happens to the last one.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::unconstrained;
use tokio::time::sleep;
use tracing::{debug, error, warn};

use super::listen::BACKLOG;
use super::{Phase, Shared, connection, draining};
use crate::clock::UnixTime;
use crate::counters;
use crate::tls::TlsListener;

/// Without file descriptors or memory, trying again at once would only burn the CPU that could free some.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the server drains or the listener is `stopped`; closing the socket then lets the kernel refuse newcomers.
pub(super) async fn run(
    socket: StdListener,
    tls: Arc<ArcSwap<TlsListener>>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
    mut stopped: oneshot::Receiver<()>,
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return error!(%error, "can't accept connections"),
    };
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = draining(&mut phase) => return,
            told = &mut stopped => {
                // Who waits here would be reset with the socket.
                let most = if told.is_ok() { BACKLOG } else { 0 };
                for _ in 0..most {
                    let Some((stream, address)) = unconstrained(waiting(&socket)).await else { return };
                    admit(stream, address, tls.load_full(), &shared, &phase);
                }
                return;
            }
        };
        match accepted {
            Ok((stream, address)) => {
                failing = false;
                admit(stream, address, tls.load_full(), &shared, &phase);
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

/// A connection that is there already.
async fn waiting(socket: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    poll_fn(|context| match socket.poll_accept(context) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn admit(
    stream: TcpStream,
    address: SocketAddr,
    tls: Arc<TlsListener>,
    shared: &Arc<Shared>,
    phase: &watch::Receiver<Phase>,
) {
    let source = address.ip().to_canonical();
    let counters = shared.gateway.counters();
    counters::count(&counters.connections);
    let is_proxy = shared.settings.load().proxied.trusts(source);
    match if is_proxy { shared.admission.admit_proxy() } else { shared.admission.admit(source) } {
        Ok(slot) => {
            // getsockname(2) does not fail on a socket that was just accepted.
            let Ok(local) = stream.local_addr() else { return };
            let entry = shared.connections.enter(local, address, UnixTime::now());
            let Some(seat) = shared.places.seat() else { return };
            let (shared, phase) = (Arc::clone(shared), phase.clone());
            if seat.is_here() {
                return seat.spawn(connection::serve(stream, entry, slot, tls, shared, phase));
            }
            // A socket belongs to the runtime whose poll it is in.
            let Ok(stream) = stream.into_std() else { return };
            seat.spawn(async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => connection::serve(stream, entry, slot, tls, shared, phase).await,
                    Err(error) => warn!(%error, "a connection was lost"),
                }
            });
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
