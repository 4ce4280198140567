//! One connection: the TLS handshake, then HTTP by what was negotiated, until either side has had enough.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

use super::activity::{Activity, Stuck, Watched};
use super::admission::Slot;
use super::socket::Socket;
use super::{Phase, Shared, tunnel};
use crate::connections::{Connection, Entry, Protocol};
use crate::gateway::{AnswerBody, Now, Peer};
use crate::tls::{Accepted, TlsListener};

/// What a client that was told to go may take at least to do so.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    mut entry: Entry,
    slot: Slot,
    tls: Arc<TlsListener>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    let connection = Arc::clone(entry.connection());
    let source = connection.peer.ip();
    let end = tokio::select! {
        end = exchange(stream, connection, tls, &shared, phase.clone()) => end,
        _ = phase.wait_for(|phase| *phase == Phase::Ended) => Some("drain-timeout"),
        end = entry.ended() => Some(end.name()),
    };
    drop((entry, slot));
    if let Some(reason) = end {
        debug!(%source, reason, "connection closed");
        shared.gateway.counters().closed.count(reason);
    }
}

/// The reason why the connection was ended before the client was done with it, if it was.
async fn exchange(
    stream: TcpStream,
    connection: Arc<Connection>,
    tls: Arc<TlsListener>,
    shared: &Arc<Shared>,
    phase: watch::Receiver<Phase>,
) -> Option<&'static str> {
    let stream = Socket::new(stream, Arc::clone(&connection));
    let Accepted { certificate, stream } =
        match tls.accept(stream, shared.timeouts.handshake, shared.gateway.counters()).await {
            Ok(accepted) => accepted,
            Err(failure) => return Some(failure.name()),
        };
    certificate.into_iter().for_each(|certificate| connection.shows(certificate));
    let session = stream.get_ref().1;
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    connection.speaks(if is_http2 { Protocol::Http2 } else { Protocol::Http1 });
    let source = connection.peer.ip();
    let server_name = session.server_name().map(Arc::from);
    let peer = Arc::new(Peer { connection, server_name, source });
    let activity = Activity::new();
    let next = Arc::new(tunnel::Next::default());
    let service = service_fn(|request| {
        let (shared, peer, activity) = (Arc::clone(shared), Arc::clone(&peer), Arc::clone(&activity));
        answer(shared, peer, activity, Arc::clone(&next), request)
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let connection = shared.http2.serve_connection(io, service);
        drive(connection, http2::Connection::graceful_shutdown, &activity, shared, phase).await
    } else {
        let connection = shared.http1.serve_connection(io, service).with_upgrades();
        let finish = http1::UpgradeableConnection::graceful_shutdown;
        let reason = drive(connection, finish, &activity, shared, phase).await;
        let next = next.lock().unwrap_or_else(PoisonError::into_inner).take();
        match next {
            Some((tunnel, open)) => tunnel::run(tunnel, open, shared.timeouts.upgraded_idle).await,
            None => reason,
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    activity: Arc<Activity>,
    next: Arc<tunnel::Next>,
    request: Request<Incoming>,
) -> Result<Response<Watched<AnswerBody>>, Infallible> {
    let open = Arc::new(peer.connection.begin());
    let exchange = activity.begin();
    let mut response = shared.gateway.answer(&peer, &open, request, Now::read()).await;
    if let Some(tunnel) = response.extensions_mut().remove() {
        *next.lock().unwrap_or_else(PoisonError::into_inner) = Some((tunnel, Arc::clone(&open)));
    }
    let forwarded = matches!(response.body(), Either::Right(_));
    Ok(response.map(|body| Watched::new(body, exchange, open, forwarded)))
}

/// Runs the connection; tells it to `finish` when the server drains or it has nothing to do, and drops it when
/// the client does not take what it asked for.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    finish: fn(Pin<&mut C>),
    activity: &Activity,
    shared: &Shared,
    mut phase: watch::Receiver<Phase>,
) -> Option<&'static str> {
    let mut connection = pin!(connection);
    let timeouts = &shared.timeouts;
    let reason = tokio::select! {
        result = connection.as_mut() => return result.err().and_then(|error| reason_of(&error)),
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => "drain",
        stuck = activity.stuck(timeouts.headers, timeouts.body_idle) => match stuck {
            Stuck::Idle => "idle",
            Stuck::Unread => return Some("unread"),
        },
    };
    finish(connection.as_mut());
    let idle = activity.farewell(GOODBYE, timeouts.body_idle);
    tokio::select! {
        result = connection => result.err().and_then(|error| reason_of(&error)),
        stuck = activity.stuck(idle, timeouts.body_idle) => match stuck {
            Stuck::Idle => Some(reason),
            Stuck::Unread => Some("unread"),
        },
    }
}

/// The name under which a failed connection is counted; none for a client that just went.
fn reason_of(error: &hyper::Error) -> Option<&'static str> {
    debug!(%error, "connection failed");
    if let Some(error) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) {
        // Else it was the client's own decision, or the network's.
        return error.is_library().then(|| match error.reason() {
            Some(h2::Reason::ENHANCE_YOUR_CALM) => "http2-flood",
            _ => "http-invalid",
        });
    }
    if error.is_timeout() {
        Some("headers-timeout")
    } else if error.is_parse_too_large() {
        Some("headers-too-large")
    } else if error.is_parse() {
        Some("http-invalid")
    } else {
        None
    }
}
