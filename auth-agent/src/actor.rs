//! On whose behalf something is done: known where a request comes in, and asked for where it is written down.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::clock::UnixTime;

/// The process at the other end of a Unix socket, as the kernel tells of it: as it was when it connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its group.
    pub gid: u32,
    /// Its number, if it is known.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: u32,
}

/// Who does something.
#[derive(Clone, Debug)]
pub struct Actor(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Agent,
    Client,
    Operator { has_entry: Arc<AtomicBool>, peer: Peer },
    Stranger(Peer),
}

impl Actor {
    /// The agent by itself.
    pub const AGENT: Self = Self(Kind::Agent);
    /// A client, about what is its own.
    pub const CLIENT: Self = Self(Kind::Client);

    /// Who has sent one request over the control socket.
    pub fn operator(peer: Peer) -> Self {
        Self(Kind::Operator { has_entry: Arc::default(), peer })
    }

    /// Who may not.
    pub fn stranger(peer: Peer) -> Self {
        Self(Kind::Stranger(peer))
    }

    /// On whose behalf this thread, or this task, works: the agent's, unless it was told otherwise.
    pub fn current() -> Self {
        let on_thread = THREAD.with_borrow(Clone::clone);
        on_thread.or_else(|| TASK.try_with(Clone::clone).ok()).unwrap_or(Self::AGENT)
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match &self.0 {
            Kind::Agent => "agent",
            Kind::Client => "client",
            Kind::Operator { .. } => "operator",
            Kind::Stranger(_) => "stranger",
        }
    }

    /// The process, where it came over a socket.
    pub fn peer(&self) -> Option<Peer> {
        match &self.0 {
            Kind::Agent | Kind::Client => None,
            Kind::Operator { peer, .. } | Kind::Stranger(peer) => Some(*peer),
        }
    }

    /// Notes that it is written down what was done.
    pub fn note_entry(&self) {
        if let Kind::Operator { has_entry, .. } = &self.0 {
            has_entry.store(true, Relaxed);
        }
    }

    /// Whether it is written down.
    pub fn has_entry(&self) -> bool {
        matches!(&self.0, Kind::Operator { has_entry, .. } if has_entry.load(Relaxed))
    }
}

thread_local! {
    static THREAD: RefCell<Option<Actor>> = const { RefCell::new(None) };
}

tokio::task_local! {
    static TASK: Actor;
}

/// Does `work` on behalf of `actor`, on this thread.
pub fn run_as<T>(actor: &Actor, work: impl FnOnce() -> T) -> T {
    /// Puts it back, also if `work` panics: threads are used again.
    struct Before(Option<Actor>);
    impl Drop for Before {
        fn drop(&mut self) {
            THREAD.set(self.0.take());
        }
    }
    let _before = Before(THREAD.replace(Some(actor.clone())));
    work()
}

/// The same for a task.
pub async fn act_as<F: Future>(actor: Actor, work: F) -> F::Output {
    TASK.scope(actor, work).await
}

/// `work`, to be done on another thread on behalf of whom this one works for.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let actor = Actor::current();
    move || run_as(&actor, work)
}

/// So many things of one kind are written down in a minute; of the others, how many there were.
#[derive(Debug)]
pub struct PerMinute {
    left: u32,
    most: u32,
    passed_over: u64,
    since: UnixTime,
}

impl PerMinute {
    /// So many.
    pub fn new(most: u32) -> Self {
        Self { left: most, most, passed_over: 0, since: UnixTime(0) }
    }

    /// Whether one more is to be written down now; with how many were passed over since the last one that was.
    pub fn take(&mut self, now: UnixTime) -> Option<u64> {
        if self.is_over(now) {
            (self.left, self.since) = (self.most, now);
        }
        if self.left == 0 {
            self.passed_over += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.passed_over))
    }

    /// Whether the minute is.
    fn is_over(&self, now: UnixTime) -> bool {
        now.0.abs_diff(self.since.0) >= 60
    }
}

/// The same for each user by itself; where there are many at a time, for some of them together.
#[derive(Debug)]
pub struct PerMinuteEach {
    most: u32,
    others: PerMinute,
    users: HashMap<u32, PerMinute>,
}

impl PerMinuteEach {
    /// Users that are told apart at a time.
    const USERS: usize = 64;

    /// So many of each.
    pub fn new(most: u32) -> Self {
        Self { most, others: PerMinute::new(most), users: HashMap::new() }
    }

    /// [`PerMinute::take`] of this user.
    pub fn take(&mut self, uid: u32, now: UnixTime) -> Option<u64> {
        if self.users.len() == Self::USERS && !self.users.contains_key(&uid) {
            let others = &mut self.others;
            self.users.retain(|_, user| {
                let is_over = user.is_over(now);
                if is_over {
                    others.passed_over += user.passed_over;
                }
                !is_over
            });
        }
        let is_known = self.users.len() < Self::USERS || self.users.contains_key(&uid);
        let of = if is_known {
            self.users.entry(uid).or_insert_with(|| PerMinute::new(self.most))
        } else {
            &mut self.others
        };
        of.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_acts_goes_with_the_task_and_is_carried_to_other_threads() {
        assert_eq!(Actor::current().name(), "agent");
        let peer = Peer { gid: 2, pid: Some(3), uid: 1 };
        let told = act_as(Actor::operator(peer), async {
            let here = Actor::current().peer();
            let there = tokio::task::spawn_blocking(carried(|| {
                Actor::current().note_entry();
                Actor::current().peer()
            }));
            (here, there.await.unwrap(), Actor::current().has_entry())
        });
        assert_eq!(told.await, (Some(peer), Some(peer), true));
        let after = tokio::task::spawn_blocking(|| Actor::current().name());
        assert_eq!(after.await.unwrap(), "agent", "threads are used again");
    }

    #[test]
    fn so_many_a_minute_and_then_the_number_of_the_others() {
        let mut entries = PerMinute::new(2);
        let taken: Vec<_> = [100, 101, 102, 103, 159, 160, 161].map(|now| entries.take(UnixTime(now))).into();
        assert_eq!(taken, [Some(0), Some(0), None, None, None, Some(3), Some(0)]);
    }

    #[test]
    fn one_user_takes_nothing_from_another_and_no_number_of_them_takes_more_memory() {
        let mut entries = PerMinuteEach::new(1);
        let now = UnixTime(100);
        assert_eq!([7, 7, 7, 8, 8].map(|uid| entries.take(uid, now)), [Some(0), None, None, Some(0), None]);
        let many: Vec<_> = (100..300).map(|uid| entries.take(uid, now)).collect();
        assert_eq!(many.iter().flatten().count(), 63, "62 by themselves, and one of the others");
        assert_eq!(entries.users.len(), PerMinuteEach::USERS);
        assert_eq!(entries.take(8, UnixTime(160)), Some(1));
        // The places of those whose minute is over are free, and how many were passed over is not lost.
        assert_eq!(entries.take(300, UnixTime(160)), Some(0));
        assert_eq!((entries.users.len(), entries.others.passed_over), (2, 137 + 2));
    }
}
