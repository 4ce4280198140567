//! The thread that writes: everything that is told of requests goes through it, and it alone waits for disks.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use super::journal::{Batch, Shared};
use super::log::{Log, LogError};
use super::told::Told;
use crate::clock::{Monotonic, since_epoch};
use crate::config::AccessLog;
use crate::counters::count;

/// How long lines gather while some come: one write for many of them.
const GATHER: Duration = Duration::from_millis(20);
/// Between two looks at whether the file is still the one of its name.
const FOLLOW_EVERY: u64 = 1_000_000_000;
/// A disk that hangs keeps nobody from ending the agent for longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Wakes the thread.
#[derive(Debug, Default)]
pub(super) struct Bell {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Bell {
    /// There is something to write, and `hurry`: soon there will be no room. To be called with the lock that it lies
    /// under.
    pub fn ring(&self, hurry: bool) {
        if hurry || self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
            self.thread.get().inspect(|thread| thread.unpark());
        }
    }
}

/// The thread, while it is wanted.
pub(super) struct Writer {
    shared: Arc<Shared>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Orders {
    log: Mutex<Option<Log>>,
    reopen: AtomicBool,
    rounds: Mutex<Rounds>,
    round_over: Condvar,
    stop: AtomicBool,
}

/// Looks at what there is to write.
#[derive(Clone, Copy, Default)]
struct Rounds {
    begun: u64,
    over: u64,
}

impl Writer {
    pub fn start(config: &AccessLog, shared: Arc<Shared>) -> Result<Self, LogError> {
        let log = Log::open(config)?;
        let orders = Arc::<Orders>::default();
        let mut desk = Desk::new(log, Arc::clone(&orders), Arc::clone(&shared));
        // What a test listens to on its thread is said on this one.
        #[cfg(test)]
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            #[cfg(test)]
            let _dispatch = tracing::dispatcher::set_default(&dispatch);
            desk.run();
        });
        let thread = thread.map_err(LogError::Thread)?;
        // There is one thread.
        let _ = shared.bell.thread.set(thread.thread().clone());
        Ok(Self { shared, orders, thread: Some(thread) })
    }

    /// Writes to another log from now on.
    pub fn change(&self, log: Log) {
        *self.orders.log.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
        self.shared.bell.ring(true);
    }

    /// Looks now whether the file was moved away.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Relaxed);
        self.shared.bell.ring(true);
    }

    /// Waits until what there is now is written; not for ever. Says whether it is.
    pub fn settle(&self) -> bool {
        let wanted = self.orders.rounds().begun + 1;
        self.shared.bell.ring(true);
        let rounds = self.orders.rounds();
        let waited =
            self.orders.round_over.wait_timeout_while(rounds, PATIENCE, |rounds| rounds.over < wanted);
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders.stop.store(true, SeqCst);
        let settled = self.settle();
        if let Some(thread) = self.thread.take().filter(|_| settled) {
            // What panicked there was its own affair.
            let _ = thread.join();
        }
    }
}

impl Orders {
    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread has on its hands.
struct Desk {
    batch: Batch,
    followed: u64,
    log: Log,
    orders: Arc<Orders>,
    shared: Arc<Shared>,
    told: Told,
}

impl Desk {
    fn new(log: Log, orders: Arc<Orders>, shared: Arc<Shared>) -> Self {
        Self { batch: Batch::default(), followed: 0, log, orders, shared, told: Told::default() }
    }

    fn run(&mut self) {
        loop {
            let stop = self.orders.stop.load(SeqCst);
            self.orders.rounds().begun += 1;
            let (some, behind) = self.round(Monotonic::now());
            {
                let mut rounds = self.orders.rounds();
                rounds.over = rounds.begun;
            }
            self.orders.round_over.notify_all();
            if stop {
                return;
            }
            self.wait(some, behind);
        }
    }

    /// Until there is something to do.
    fn wait(&self, some: bool, behind: bool) {
        if some {
            return thread::park_timeout(GATHER);
        }
        self.shared.bell.asleep.store(true, SeqCst);
        // Whoever adds a line after this look finds the bell set, as both are done with the line's lock.
        if self.shared.is_empty() {
            if behind { thread::park_timeout(Duration::from_millis(250)) } else { thread::park() }
        }
        self.shared.bell.asleep.store(false, SeqCst);
    }

    /// Writes what there is: whether there was anything, and whether there is more to do although nothing comes.
    fn round(&mut self, now: Monotonic) -> (bool, bool) {
        let next = self.orders.log.lock().unwrap_or_else(PoisonError::into_inner).take();
        let due = now.0.saturating_sub(self.followed) >= FOLLOW_EVERY;
        if self.orders.reopen.swap(false, Relaxed) || due {
            self.followed = now.0;
            let lost = self.log.follow();
            self.lost(lost);
        }
        let some = self.write(now);
        if let Some(next) = next {
            let lost = self.log.change(next);
            self.lost(lost);
        }
        (some, self.told.pass(now) || self.log.is_behind())
    }

    fn lost(&self, lines: u64) {
        self.shared.dropped.fetch_add(lines, Relaxed);
    }

    fn write(&mut self, now: Monotonic) -> bool {
        let Self { batch, log, shared, told, .. } = self;
        let clock = since_epoch().saturating_sub(Duration::from_nanos(now.0));
        let (mut some, mut full) = (false, false);
        shared.collect(batch, |batch| {
            some = true;
            for line in batch.lines() {
                if !log.is_on() {
                    told.tell(line);
                    continue;
                }
                if !full && log.room().is_none() {
                    // More may have come than there is room for, and the disk has nothing to do.
                    log.write();
                    full = log.room().is_none();
                }
                let principals = log.principals;
                match log.room() {
                    Some(text) => line.render(text, clock, principals),
                    None => count(&shared.dropped),
                }
            }
        });
        if some || log.is_behind() {
            log.write();
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Barrier;

    use super::*;
    use crate::config::LogTarget;

    #[test]
    fn nothing_is_dropped_for_want_of_room_while_the_disk_is_idle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let to = LogTarget::File(path.clone());
        let log = Log::open(&AccessLog { principals: true, sample: NonZeroU32::MIN, to }).unwrap();
        let shared = Arc::<Shared>::default();
        let mut desk = Desk::new(log, Arc::default(), Arc::clone(&shared));
        // Several times what may wait.
        let threads = 4;
        let all = Barrier::new(threads);
        let count = thread::scope(|scope| {
            let fill = |_| {
                scope.spawn(|| {
                    let lines = shared.fill();
                    // A thread that has ended leaves its lane to the next one.
                    all.wait();
                    lines
                })
            };
            let filled: Vec<_> = (0..threads).map(fill).collect();
            filled.into_iter().map(|lines| lines.join().unwrap()).sum::<usize>()
        });
        desk.round(Monotonic(1));
        assert_eq!(shared.dropped.load(Relaxed), 0);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() > 3 << 20 && text.lines().count() == count, "{} {count}", text.len());
    }
}
