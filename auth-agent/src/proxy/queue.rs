//! Requests that wait while every endpoint has as many as it takes: bounded in number and in time, first come, first
//! served.
//!
//! Invariant: where there is room, somebody who could take it has been told, or is about to look. Room is told of to one
//! only; whoever leaves the queue tells the next, who may find more.

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
    /// Those that any endpoint will do for.
    first_come: Line,
    /// Those that have tried an endpoint. They are few, and what is of no use to one may be to another: they look at
    /// whatever room there is, and keep it from nobody.
    picky: Line,
}

#[derive(Debug, Default)]
struct Line {
    count: AtomicUsize,
    room: Notify,
}

impl Waiting {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.first_come.count() + self.picky.count()
    }

    /// Whether one that has `tried` these is to wait behind others.
    pub fn is_taken(&self, tried: &[u64]) -> bool {
        tried.is_empty() && self.first_come.count() > 0
    }

    /// To be called when there may be room: after a request has ended, or an ejection.
    pub fn made_room(&self) {
        if self.first_come.count() > 0 {
            self.first_come.room.notify_one();
        }
        if self.picky.count() > 0 {
            self.picky.room.notify_waiters();
        }
    }

    /// To be called when endpoints come and go: those that wait may find another, or none.
    pub fn changed(&self) {
        self.first_come.room.notify_waiters();
        self.picky.room.notify_waiters();
    }

    fn enter(&self, most: usize, tried: &[u64]) -> Option<Place<'_>> {
        let is_picky = !tried.is_empty();
        let (line, other) =
            if is_picky { (&self.picky, &self.first_come) } else { (&self.first_come, &self.picky) };
        let more = |count| (count + other.count() < most).then_some(count + 1);
        let before = line.count.fetch_update(SeqCst, SeqCst, more).ok()?;
        Some(Place { is_next: is_picky || before == 0, line })
    }
}

impl Line {
    fn count(&self) -> usize {
        self.count.load(SeqCst)
    }
}

/// A place in the queue; free again when dropped.
struct Place<'w> {
    is_next: bool,
    line: &'w Line,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.line.count.fetch_sub(1, SeqCst) > 1 {
            self.line.room.notify_one();
        }
    }
}

/// Waits for room at an endpoint that was not `tried`.
pub(super) async fn wait(group: &Group, tried: &[u64], key: u64) -> Result<Ticket, Refusal> {
    let upstream = &group.settings.upstream;
    let full = Refusal::UpstreamFull { retry_after: upstream.queue_timeout };
    let place = group.settings.waiting.enter(upstream.queue, tried).ok_or(full)?;
    timeout(upstream.queue_timeout, serve(group, &place, tried, key)).await.unwrap_or(Err(full))
}

async fn serve(group: &Group, place: &Place<'_>, tried: &[u64], key: u64) -> Result<Ticket, Refusal> {
    let mut is_next = place.is_next;
    loop {
        let mut room = pin!(place.line.room.notified());
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::super::Proxy;
    use super::super::balance::Candidate;
    use super::super::ejection::Failure;
    use super::super::tests::{PATIENCE, config};
    use super::*;

    /// Two endpoints that take `connections` each, and are ejected at once for `ejection`.
    fn group(connections: usize, ejection: Duration) -> (Proxy, Arc<Group>) {
        let mut config = config(&["http://127.0.0.1:1", "http://127.0.0.1:2"], "");
        let upstream = &mut config.upstreams[0];
        upstream.connections = NonZeroUsize::new(connections).unwrap();
        upstream.queue_timeout = PATIENCE;
        upstream.ejection.failures = 1;
        upstream.ejection.first = ejection;
        let proxy = Proxy::new(&config).unwrap();
        let group = Arc::clone(&proxy.upstreams[0].group);
        (proxy, group)
    }

    fn take_all(group: &Group) -> Vec<Ticket> {
        std::iter::from_fn(|| match group.pick(&[], 0) {
            Pick::Picked(ticket) => Some(ticket),
            _ => None,
        })
        .collect()
    }

    /// One more that waits.
    async fn waiter(group: &Arc<Group>, tried: Vec<u64>) -> JoinHandle<Result<Ticket, Refusal>> {
        let before = group.settings.waiting.count();
        let waiting = Arc::clone(group);
        let waiter = tokio::spawn(async move { waiting.admit(&tried, 0).await });
        while group.settings.waiting.count() == before {
            sleep(Duration::from_millis(1)).await;
        }
        waiter
    }

    async fn served(waiter: JoinHandle<Result<Ticket, Refusal>>) -> Ticket {
        timeout(PATIENCE / 2, waiter).await.expect("nobody tells it of the room").unwrap().unwrap()
    }

    #[tokio::test]
    async fn all_room_that_an_ejected_endpoint_brings_back_is_taken() {
        for by_itself in [true, false] {
            let (_proxy, group) = group(3, if by_itself { Duration::from_secs(1) } else { PATIENCE });
            let ejected = Arc::clone(&group.members()[0]);
            group.failed(&ejected, Failure::Connect, "test".to_owned());
            let held = take_all(&group);
            assert_eq!((held.len(), ejected.in_flight()), (3, 0));
            let mut waiters = Vec::new();
            for _ in 0..3 {
                waiters.push(waiter(&group, Vec::new()).await);
            }
            if !by_itself {
                ejected.succeeded();
            }
            let mut tickets = Vec::new();
            for waiter in waiters {
                tickets.push(served(waiter).await);
            }
            assert!(tickets.iter().all(|ticket| Arc::ptr_eq(ticket.endpoint(), &ejected)), "{by_itself}");
        }
    }

    #[tokio::test]
    async fn room_that_is_of_no_use_to_one_is_left_to_the_next() {
        let (_proxy, group) = group(1, PATIENCE);
        let mut held = take_all(&group);
        let (kept, freed) = (held.pop().unwrap(), held.pop().unwrap());
        let mark = freed.endpoint().mark();
        let picky = waiter(&group, vec![mark]).await;
        let other = waiter(&group, Vec::new()).await;
        drop(freed);
        let other = served(other).await;
        assert_eq!(other.endpoint().mark(), mark);
        drop(other);
        // Nor does it keep those who come from it.
        assert!(matches!(timeout(PATIENCE / 2, group.admit(&[], 0)).await, Ok(Ok(_))));
        drop(kept);
        assert_ne!(served(picky).await.endpoint().mark(), mark);
        assert_eq!(group.settings.waiting.count(), 0);
    }
}
