//! Whether a connection still gets anywhere.
//!
//! HTTP has timeouts for headers and bodies that do not come. This is for the rest: a connection without
//! requests, and a client that does not read its responses.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use crate::connections::{CutOff, OpenRequest};

type BoxError = Box<dyn Error + Send + Sync>;

/// The open exchanges of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    unsent: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Exchanges that there have been.
    begun: u64,
    /// Those that are not over.
    open: usize,
    /// Those in which it is not the client that we wait for.
    ours: usize,
    /// When one of them last began, ended or got further.
    since: Instant,
}

/// How a connection got stuck.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stuck {
    /// No request is open.
    Idle,
    /// Requests are open and every one of them waits for the client to read.
    Unread,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let state = State { begun: 0, open: 0, ours: 0, since: Instant::now() };
        Arc::new(Self { state: Mutex::new(state), unsent: AtomicBool::new(false) })
    }

    /// How many exchanges there have been.
    pub(super) fn begun(&self) -> u64 {
        self.lock().begun
    }

    /// Whether something that was written may not have gone out yet.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent.load(Relaxed)
    }

    /// Notes whether something was written that may not have gone out yet.
    pub(super) fn note_unsent(&self, unsent: bool) {
        self.unsent.store(unsent, Relaxed);
    }

    /// Ends when nothing has moved for `idle` with no request open, or for `unread` with some open that only
    /// the client holds up.
    pub(super) async fn stuck(&self, idle: Duration, unread: Duration) -> Stuck {
        self.stuck_after(None, idle, unread).await
    }

    /// As [`Self::stuck`], but not idle before there have been more exchanges than `begun`.
    pub(super) async fn stuck_after(&self, begun: Option<u64>, idle: Duration, unread: Duration) -> Stuck {
        loop {
            let now = Instant::now();
            // Whatever becomes of the connection after this moment, it is not stuck before this.
            let next = now + idle.min(unread);
            let deadline = match self.lock().deadline(begun, idle, unread) {
                Some((deadline, stuck)) if deadline <= now => return stuck,
                Some((deadline, _)) => deadline.min(next),
                None => next,
            };
            sleep_until(deadline).await;
        }
    }

    /// Notes that a request has come; it is our turn.
    pub(super) fn begin(self: &Arc<Self>) -> Exchange {
        self.update(|state| {
            state.begun += 1;
            state.open += 1;
            state.ours += 1;
        });
        Exchange { activity: Arc::clone(self), ours: true }
    }

    /// How long the connection may be idle in all once its client was told to go: `least` from now on, and `unread`
    /// after its last exchange. That is over for HTTP as soon as the end of the body is buffered, not when the client
    /// has read it.
    pub(super) fn farewell(&self, least: Duration, unread: Duration) -> Duration {
        self.lock().farewell(Instant::now(), least, unread)
    }

    fn update(&self, update: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        update(&mut state);
        state.since = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When this state has lasted too long, and what is the matter then.
    fn deadline(&self, begun: Option<u64>, idle: Duration, unread: Duration) -> Option<(Instant, Stuck)> {
        match (self.open, self.ours) {
            (0, _) if begun.is_some_and(|begun| self.begun <= begun) => None,
            (0, _) => Some((self.since + idle, Stuck::Idle)),
            (_, 0) => Some((self.since + unread, Stuck::Unread)),
            _ => None,
        }
    }

    fn farewell(&self, now: Instant, least: Duration, unread: Duration) -> Duration {
        let least = now.saturating_duration_since(self.since) + least;
        if self.begun > 0 { least.max(unread) } else { least }
    }
}

/// One request and its response; over when dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    activity: Arc<Activity>,
    ours: bool,
}

impl Exchange {
    fn set_ours(&mut self, ours: bool) {
        if self.ours == ours {
            return;
        }
        self.ours = ours;
        self.activity.update(|state| if ours { state.ours += 1 } else { state.ours -= 1 });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.set_ours(false);
        self.activity.update(|state| state.open -= 1);
    }
}

/// A response body that tells when it is the client that does not go on. HTTP polls a body when there is room
/// for more of it: from a frame to the next poll, it is the client's turn. It ends early when its request is cut off.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: B,
    exchange: Exchange,
    /// It was forwarded: a refusal of ours, also for having been cut off, is told to its end.
    forwarded: bool,
    open: Arc<OpenRequest>,
}

impl<B> Watched<B> {
    pub(super) fn new(body: B, exchange: Exchange, open: Arc<OpenRequest>, forwarded: bool) -> Self {
        Self { body, exchange, forwarded, open }
    }
}

impl<B> Body for Watched<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        self.exchange.set_ours(true);
        if self.forwarded
            && let Poll::Ready(why) = self.open.poll_cut_off(context)
        {
            return Poll::Ready(Some(Err(CutOff::new(why).into())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.exchange.set_ours(false);
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);
    const UNREAD: Duration = Duration::from_secs(10);

    /// What is the matter `after` the last move, if anything is.
    fn stuck(activity: &Activity, after: Duration) -> Option<Stuck> {
        let state = activity.lock();
        let (deadline, stuck) = state.deadline(None, IDLE, UNREAD)?;
        (deadline <= state.since + after).then_some(stuck)
    }

    #[test]
    fn a_connection_without_requests_is_idle() {
        let activity = Activity::new();
        drop(activity.begin());
        assert_eq!(stuck(&activity, IDLE), Some(Stuck::Idle));
        assert_eq!(stuck(&activity, IDLE - Duration::from_nanos(1)), None);
    }

    #[test]
    fn who_was_told_to_go_may_still_read_the_end_of_an_answer() {
        const LEAST: Duration = Duration::from_secs(2);
        let activity = Activity::new();
        let farewell = |after| {
            let state = activity.lock();
            state.farewell(state.since + after, LEAST, UNREAD)
        };
        assert_eq!(farewell(Duration::ZERO), LEAST, "there is nothing to read");
        drop(activity.begin());
        assert_eq!(farewell(Duration::ZERO), UNREAD);
        assert_eq!(farewell(UNREAD - LEAST), UNREAD);
        assert_eq!(farewell(UNREAD), UNREAD + LEAST);
    }

    #[test]
    fn a_connection_is_stuck_only_if_the_client_holds_up_every_request() {
        let activity = Activity::new();
        let mut unread = activity.begin();
        let mut served = activity.begin();
        unread.set_ours(false);
        assert_eq!(stuck(&activity, IDLE * 100), None, "the upstream may take its time");
        served.set_ours(false);
        assert_eq!(stuck(&activity, UNREAD - Duration::from_nanos(1)), None);
        assert_eq!(stuck(&activity, UNREAD), Some(Stuck::Unread));
        served.set_ours(true);
        assert_eq!(stuck(&activity, IDLE), None, "the client read on");
    }
}
