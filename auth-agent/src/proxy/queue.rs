//! Requests that wait while every endpoint has as many as it takes: bounded in number and in time, first come, first
//! served.

use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::endpoint::Ticket;
use super::group::{Group, Pick};
use crate::refusal::Refusal;

/// Those of one upstream.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    count: AtomicUsize,
    room: Notify,
}

impl Waiting {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// To be called after a request has ended.
    pub fn made_room(&self) {
        if self.count() > 0 {
            self.room.notify_one();
        }
    }

    /// To be called when endpoints come and go: those that wait may find another, or none.
    pub fn changed(&self) {
        self.room.notify_waiters();
    }

    fn enter(&self, most: usize) -> Option<Place<'_>> {
        let before = self.count.fetch_add(1, SeqCst);
        let place = Place { before, waiting: self };
        (before < most).then_some(place)
    }
}

/// A place in the queue; free again when dropped.
struct Place<'w> {
    before: usize,
    waiting: &'w Waiting,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.count.fetch_sub(1, SeqCst);
    }
}

/// Waits for room at an endpoint that was not `tried`.
pub(super) async fn wait(group: &Group, tried: &[u64], key: u64) -> Result<Ticket, Refusal> {
    let upstream = &group.settings.upstream;
    let full = Refusal::UpstreamFull { retry_after: upstream.queue_timeout };
    let place = group.settings.waiting.enter(upstream.queue).ok_or(full)?;
    timeout(upstream.queue_timeout, serve(group, &place, tried, key)).await.unwrap_or(Err(full))
}

async fn serve(group: &Group, place: &Place<'_>, tried: &[u64], key: u64) -> Result<Ticket, Refusal> {
    let mut is_next = place.before == 0;
    loop {
        let mut room = pin!(place.waiting.room.notified());
        // Before the look, so that no room is missed that is made after it.
        room.as_mut().enable();
        if is_next {
            match group.pick(tried, key) {
                Pick::Down(retry_after) => return Err(Refusal::UpstreamDown { retry_after }),
                Pick::Full => {}
                Pick::Picked(ticket) => return Ok(ticket),
            }
        }
        room.await;
        is_next = true;
    }
}
