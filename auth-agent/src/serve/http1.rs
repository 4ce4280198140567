//! HTTP/1.1 on one connection. One that is idle for a while gives its buffers back: what is left of it is TLS.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::activity::Stuck;
use super::front::Front;
use super::session::Session;
use super::{GOODBYE, Phase, draining, reason_of, tunnel};
use crate::deadline::{Coarse, Deadline};

/// A client that sends its next request sooner finds the buffers of the last one.
const PARK_AFTER: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 2_000 });

/// The least that hyper takes, and more than a TLS record.
const MIN_READ_BUFFER_BYTES: usize = 32 << 10;

fn builder(session: &Session) -> http1::Builder {
    let (sizes, timeouts) = (&session.settings.sizes, &session.settings.timeouts);
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .header_read_timeout(timeouts.headers)
        .keep_alive(true)
        .max_buf_size(sizes.header_bytes.get().max(MIN_READ_BUFFER_BYTES))
        .max_header_size(sizes.header_bytes.get())
        .max_headers(sizes.headers.get())
        .timer(Coarse);
    builder
}

/// Serves the connection to its end; the reason, where that was not its client's.
pub(super) async fn serve(
    mut front: Front,
    session: &Arc<Session>,
    mut phase: watch::Receiver<Phase>,
) -> Option<&'static str> {
    // A client that has said nothing yet has to come with its headers; one that has been served may rest.
    let (mut patience, mut overdue) = (session.settings.timeouts.headers, "headers-timeout");
    loop {
        session.rest(true);
        match parked(&mut front, (patience, overdue), &mut phase).await {
            Parked::Woken => session.rest(false),
            Parked::Ended(reason) => return reason,
        }
        match active(front, session, &mut phase).await {
            Active::Ended(reason) => return reason,
            Active::Idle(idle) => front = idle,
        }
        (patience, overdue) = (session.settings.timeouts.idle.saturating_sub(PARK_AFTER), "idle");
    }
}

enum Parked {
    Ended(Option<&'static str>),
    Woken,
}

/// Waits for the client; for how long, and why it is closed then.
async fn parked(
    front: &mut Front,
    (patience, overdue): (Duration, &'static str),
    phase: &mut watch::Receiver<Phase>,
) -> Parked {
    let drained = async {
        draining(phase).await;
        Deadline::after(GOODBYE).await;
    };
    let reason = tokio::select! {
        woken = front.wakes() => return match woken {
            Ok(true) => Parked::Woken,
            Ok(false) | Err(_) => Parked::Ended(None),
        },
        () = Deadline::after(patience) => overdue,
        () = drained => "drain",
    };
    // So that the client knows that nothing was cut off; it may be gone.
    let _ = timeout(GOODBYE, front.shutdown()).await;
    Parked::Ended(Some(reason))
}

enum Active {
    Ended(Option<&'static str>),
    /// Nothing is on its way in either direction, but for the start of a request.
    Idle(Front),
}

async fn active(front: Front, session: &Arc<Session>, phase: &mut watch::Receiver<Phase>) -> Active {
    let (activity, timeouts) = (&session.activity, &session.settings.timeouts);
    let service = service_fn(|request| Arc::clone(session).answer(request));
    let connection = builder(session).serve_connection(TokioIo::new(front), service).with_upgrades();
    let mut connection = Box::new(connection);
    let served = activity.begun();
    loop {
        let closing = session.is_closing();
        // A body that nobody waits for may still come: what stands in it is no request.
        let stands_between = !activity.has_unsent() && session.has_read_bodies();
        let (begun, rest) = match (closing, stands_between) {
            (true, _) => (None, GOODBYE),
            (false, true) => (Some(served), PARK_AFTER.min(timeouts.headers / 2)),
            (false, false) => (Some(served), timeouts.body_idle),
        };
        tokio::select! {
            biased;
            result = &mut connection => {
                let reason = result.err().and_then(|error| reason_of(&error));
                drop(connection);
                return Active::Ended(match session.next() {
                    Some((tunnel, open)) => tunnel::run(tunnel, open, timeouts.upgraded_idle).await,
                    None => reason,
                });
            }
            // Who is about to send a request gets it answered, and is told then.
            () = draining(phase), if !closing => session.close(),
            stuck = activity.stuck_after(begun, rest, timeouts.body_idle) => match stuck {
                Stuck::Unread => return Active::Ended(Some("unread")),
                Stuck::Idle if closing => {
                    Pin::new(&mut *connection).graceful_shutdown();
                    return Active::Ended(farewell(&mut connection, session).await);
                }
                Stuck::Idle if activity.has_unsent() || !session.has_read_bodies() => {
                    if !stands_between {
                        return Active::Ended(Some(if activity.has_unsent() { "unread" } else { "idle" }));
                    }
                }
                Stuck::Idle => {
                    return match connection.into_parts() {
                        Some(parts) => Active::Idle(parts.io.into_inner().unread(&parts.read_buf)),
                        None => Active::Ended(None),
                    };
                }
            },
        }
    }
}

/// Lets a connection that was told to finish do so.
async fn farewell(
    connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    session: &Session,
) -> Option<&'static str> {
    let unread = session.settings.timeouts.body_idle;
    let idle = session.activity.farewell(GOODBYE, unread);
    tokio::select! {
        biased;
        result = connection => result.err().and_then(|error| reason_of(&error)),
        stuck = session.activity.stuck(idle, unread) => Some(match stuck {
            Stuck::Idle => "drain",
            Stuck::Unread => "unread",
        }),
    }
}
