//! One connection: the TLS handshake, then HTTP by what was negotiated, until either side has had enough.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

use super::admission::{Full, Slot};
use super::front::Front;
use super::session::Session;
use super::socket::Socket;
use super::{Phase, Settings, Shared, http1, http2};
use crate::connections::{Connection, Entry, Protocol};
use crate::deadline::Deadline;
use crate::gateway::Peer;
use crate::ladder::Offence;
use crate::tls::{Accepted, TlsListener};

/// What ends a connection that its client abused.
const HTTP2_FLOOD: &str = "http2-flood";
const HTTP_INVALID: &str = "http-invalid";

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
        // Whoever ended it is counted, also where its client goes at the same moment.
        biased;
        end = entry.ended() => Some(end.name()),
        end = exchange(stream, connection, tls, &shared, phase.clone()) => end,
        _ = phase.wait_for(|phase| *phase == Phase::Ended) => Some("drain-timeout"),
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
    let settings = shared.settings.load_full();
    let mut stream = stream;
    let (source, _slot, fields_name_clients) = match client(&mut stream, &connection, &settings, shared).await
    {
        Ok(client) => client,
        Err(reason) => return Some(reason),
    };
    let stream = Socket::new(stream, Arc::clone(&connection));
    // Boxed, as everything that is over before the connection is: this future is as large as its largest state.
    let accepted = tls.accept(stream, settings.timeouts.handshake, shared.gateway.counters());
    let Accepted { certificate, stream } = match Box::pin(accepted).await {
        Ok(accepted) => accepted,
        Err(failure) => {
            if failure.is_garbage() {
                let in_plaintext = connection.was_in_plaintext();
                let offence = if in_plaintext { Offence::Plaintext } else { Offence::Protocol };
                shared.gateway.offended(source, offence);
            }
            return Some(failure.name());
        }
    };
    certificate.into_iter().for_each(|certificate| connection.shows(certificate));
    let tls = stream.get_ref().1;
    let is_http2 = tls.alpn_protocol() == Some(b"h2");
    connection.speaks(if is_http2 { Protocol::Http2 } else { Protocol::Http1 });
    let server_name = tls.server_name().map(Arc::from);
    let peer = Peer { connection, fields_name_clients, server_name, source };
    let session = Session::new(peer, settings, Arc::clone(shared));
    let front = Front::new(stream, Arc::clone(&session.activity));
    let end = if is_http2 {
        Box::pin(http2::serve(front, &session, phase)).await
    } else {
        http1::serve(front, &session, phase).await
    };
    if matches!(end, Some(HTTP2_FLOOD | HTTP_INVALID)) {
        shared.gateway.offended(source, Offence::Protocol);
    }
    end
}

/// Whose connection it is, with a slot for a client behind a proxy, and whether header fields may name others; or why it
/// is closed.
async fn client(
    stream: &mut TcpStream,
    connection: &Connection,
    settings: &Settings,
    shared: &Shared,
) -> Result<(IpAddr, Option<Slot>, bool), &'static str> {
    let peer = connection.peer.ip();
    if !settings.proxied.expects(connection.local) {
        return Ok((peer, None, true));
    }
    let client = tokio::select! {
        biased;
        client = settings.proxied.client(stream, peer) => client?,
        () = Deadline::after(settings.timeouts.handshake) => return Err("proxy-header-timeout"),
    };
    if client == peer {
        // A proxy that only passes bytes on: what the fields say is its client's word.
        return Ok((peer, None, false));
    }
    connection.is_for(client);
    let slot = shared.admission.admit_behind(client).map_err(Full::name)?;
    Ok((client, Some(slot), true))
}

/// The name under which a failed connection is counted; none for a client that just went.
pub(super) fn reason_of(error: &hyper::Error) -> Option<&'static str> {
    debug!(%error, "connection failed");
    if let Some(error) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) {
        // Else it was the client's own decision, or the network's.
        return error.is_library().then(|| match error.reason() {
            Some(h2::Reason::ENHANCE_YOUR_CALM) => HTTP2_FLOOD,
            _ => HTTP_INVALID,
        });
    }
    if error.is_timeout() {
        Some("headers-timeout")
    } else if error.is_parse_too_large() {
        Some("headers-too-large")
    } else if error.is_parse() {
        Some(HTTP_INVALID)
    } else {
        None
    }
}
