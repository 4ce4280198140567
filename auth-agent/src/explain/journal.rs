//! Where serving threads put what became of each request: into a ring that the next requests write over, and, where it
//! is to be logged, into a queue for the thread that writes.
//!
//! Each thread has its own; the locks on them are taken by others only to look for a request and to fetch what is to be
//! written, for moments.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thread_local::ThreadLocal;
use tracing::{Level, enabled};

use super::entry::{Came, Entry, Outcome};
use super::line::Line;
use super::log::{Log, LogError};
use super::writer::{Bell, Writer};
use super::{RequestId, Trail};
use crate::clock::Monotonic;
use crate::config::{AccessLog, Config, LogTarget};
use crate::counters::count;

/// Lines that wait to be written, per thread: a fraction of a second's requests.
const QUEUE: usize = 4096;

/// What is told of requests, by one configuration.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Whether forwarded requests are logged, and of how many one.
    answered: Option<u32>,
    remembered: usize,
}

impl Recording {
    /// By this configuration.
    pub fn new(config: &Config) -> Self {
        let AccessLog { sample, to, .. } = &config.access_log;
        Self {
            answered: (*to != LogTarget::Off).then_some(sample.get()),
            remembered: config.explain.remembered as usize,
        }
    }
}

/// What became of the requests.
pub struct Journal {
    shared: Arc<Shared>,
    /// Dropped, it writes what is left.
    writer: Writer,
}

/// What serving threads and the writing one share.
#[derive(Default)]
pub(super) struct Shared {
    pub bell: Bell,
    /// Lines that there was no room for, or that could not be written.
    pub dropped: Arc<AtomicU64>,
    lanes: ThreadLocal<Mutex<Lane>>,
}

#[derive(Default)]
struct Lane {
    answered: Ring,
    /// Forwarded requests that were not logged since the last one that was.
    passed_over: u32,
    queue: Batch,
    refused: Ring,
}

/// The last requests, at most as many as are to be remembered.
#[derive(Default)]
struct Ring {
    entries: Vec<Entry>,
    /// When the last one came that was written over.
    lost: Option<Monotonic>,
    /// The next to be written over.
    next: usize,
}

impl Ring {
    /// The place for the next entry.
    fn next(&mut self, most: usize) -> Option<&mut Entry> {
        if self.entries.len() > most {
            // Another configuration wants less: the oldest go.
            self.entries.rotate_left(self.next);
            let gone = self.entries.drain(..self.entries.len() - most);
            self.lost = gone.last().map(|entry| entry.at).or(self.lost);
            self.next = 0;
        }
        if self.entries.len() < most {
            // Those that were written first are at the start, wherever the next one is.
            self.entries.rotate_left(self.next);
            self.next = 0;
            self.entries.push(Entry::default());
            return self.entries.last_mut();
        }
        let place = self.next;
        self.next = if place + 1 < most { place + 1 } else { 0 };
        let entry = self.entries.get_mut(place)?;
        self.lost = Some(entry.at);
        Some(entry)
    }
}

/// Lines, in places that are used again.
#[derive(Default)]
pub(super) struct Batch {
    lines: Vec<Line>,
    used: usize,
}

impl Batch {
    /// The place for one more, if there is any.
    fn next(&mut self) -> Option<&mut Line> {
        if self.used == QUEUE {
            return None;
        }
        if self.lines.len() == self.used {
            self.lines.push(Line::default());
        }
        self.used += 1;
        self.lines.get_mut(self.used - 1)
    }

    /// All of them, oldest first.
    pub fn lines(&self) -> &[Line] {
        &self.lines[..self.used]
    }

    /// Forgets them, and keeps their places.
    pub fn clear(&mut self) {
        self.lines[..self.used].iter_mut().for_each(Line::let_go);
        self.used = 0;
    }
}

/// How far back the journal reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reach {
    /// When the last answered request came that was forgotten; `None`: none was.
    pub answered: Option<Monotonic>,
    /// The same of refused ones.
    pub refused: Option<Monotonic>,
}

impl Journal {
    /// Remembers and logs as the configuration says.
    ///
    /// # Errors
    /// The log can't be opened, or the system gives no thread.
    pub fn start(config: &Config) -> Result<Self, LogError> {
        let shared = Arc::<Shared>::default();
        let writer = Writer::start(&config.access_log, Arc::clone(&shared))?;
        Ok(Self { shared, writer })
    }

    /// Opens what another configuration wants logged to; [`Self::change`] changes over.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn prepare(&self, config: &Config) -> Result<Log, LogError> {
        Log::open(&config.access_log)
    }

    /// Logs to another place from now on.
    pub fn change(&self, log: Log) {
        self.writer.change(log);
    }

    /// Opens the log's file again, which may have been moved away.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Where it is counted what could not be logged.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.dropped)
    }

    /// Notes a request that was refused, or given up by its client, or answered by this agent itself.
    pub fn settled(&self, how: &Recording, came: Came<'_>, trail: &Trail, outcome: Outcome, bytes: u64) {
        let now = Monotonic::now();
        let mut lane = self.shared.lane();
        let lane = &mut *lane;
        let refused = outcome.refusal.is_some() || outcome.is_client_gone;
        let wanted = match outcome.refusal {
            // Nobody would be told.
            Some(refusal) if how.answered.is_none() => refusal.is_notable() || enabled!(Level::DEBUG),
            Some(_) => true,
            None if outcome.is_client_gone => how.answered.is_some(),
            None => wants(how, &mut lane.passed_over),
        };
        let ring = if refused { &mut lane.refused } else { &mut lane.answered };
        let mut spare = Entry::default();
        let entry = ring.next(how.remembered).unwrap_or(&mut spare);
        entry.fill(came, trail, outcome, now);
        if wanted {
            self.shared.push(&mut lane.queue, |line| line.fill(entry, bytes));
        }
    }

    /// Notes a request that its upstream has begun to answer. What comes back is its line in the log, for the end of the
    /// answer, where it is to be logged.
    pub fn answered(&self, how: &Recording, came: Came<'_>, trail: &Trail, status: u16) -> Option<Logged> {
        let now = Monotonic::now();
        let mut lane = self.shared.lane();
        let lane = &mut *lane;
        let wanted = wants(how, &mut lane.passed_over);
        let mut spare = Entry::default();
        let entry = match lane.answered.next(how.remembered) {
            Some(entry) => entry,
            None if wanted => &mut spare,
            None => return None,
        };
        entry.fill(came, trail, Outcome::answered(status), now);
        wanted.then(|| {
            let mut line = Box::<Line>::default();
            line.fill(entry, 0);
            Logged { line, shared: Arc::clone(&self.shared) }
        })
    }

    /// Gives the request of this id to `tell`, if it is remembered: the last one, where several had it.
    pub fn find<T>(&self, id: &RequestId, tell: impl Fn(&Entry) -> T) -> Option<T> {
        let mut found: Option<(Monotonic, T)> = None;
        for lane in &self.shared.lanes {
            let rings: [fn(&Lane) -> &Ring; 2] = [|lane| &lane.answered, |lane| &lane.refused];
            for of in rings {
                look_through(lane, of, |entry| {
                    let newer = found.as_ref().is_none_or(|(at, _)| *at <= entry.at);
                    if newer && entry.is(id) {
                        found = Some((entry.at, tell(entry)));
                    }
                });
            }
        }
        found.map(|(_, told)| told)
    }

    /// How far back it reaches.
    pub fn reach(&self) -> Reach {
        let lost =
            |of: fn(&Lane) -> &Ring| self.shared.lanes.iter().filter_map(|lane| of(&locked(lane)).lost).max();
        Reach { answered: lost(|lane| &lane.answered), refused: lost(|lane| &lane.refused) }
    }

    /// Waits until everything that was noted before is written, or could not be. Blocks.
    pub fn settle(&self) {
        self.writer.settle();
    }
}

/// Entries that are looked at before whoever serves on that thread may go on.
const LOOKED_AT: usize = 256;

fn look_through(lane: &Mutex<Lane>, of: fn(&Lane) -> &Ring, mut look: impl FnMut(&Entry)) {
    let mut start = 0;
    loop {
        let lane = locked(lane);
        let entries = &of(&lane).entries;
        let Some(rest) = entries.get(start..).filter(|rest| !rest.is_empty()) else { return };
        rest.iter().take(LOOKED_AT).for_each(&mut look);
        start += LOOKED_AT;
    }
}

/// Whether a forwarded request's turn has come.
fn wants(how: &Recording, passed_over: &mut u32) -> bool {
    let Some(sample) = how.answered else { return false };
    *passed_over += 1;
    let wanted = *passed_over >= sample;
    if wanted {
        *passed_over = 0;
    }
    wanted
}

impl Shared {
    fn lane(&self) -> MutexGuard<'_, Lane> {
        locked(self.lanes.get_or_default())
    }

    fn push(&self, queue: &mut Batch, fill: impl FnOnce(&mut Line)) {
        match queue.next() {
            Some(line) => {
                fill(line);
                self.bell.ring(queue.used == QUEUE / 2);
            }
            None => count(&self.dropped),
        }
    }

    /// Has as many lines wait as this thread has room for: so many.
    #[cfg(test)]
    pub fn fill(&self) -> usize {
        let mut lane = self.lane();
        for _ in 0..QUEUE {
            self.push(&mut lane.queue, |line| line.path = "/x".repeat(super::entry::MAX_PATH_BYTES / 2));
        }
        QUEUE
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| locked(lane).queue.used == 0)
    }

    /// Takes what waits to be written out of each lane, in exchange for the places of `batch`, which is empty.
    pub fn collect(&self, batch: &mut Batch, mut each: impl FnMut(&Batch)) {
        for lane in &self.lanes {
            if locked(lane).queue.used == 0 {
                continue;
            }
            std::mem::swap(&mut locked(lane).queue, batch);
            each(batch);
            batch.clear();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The line of a request whose answer is under way: it is logged when it is dropped.
pub struct Logged {
    line: Box<Line>,
    shared: Arc<Shared>,
}

impl Logged {
    /// Notes so many bytes of the answer's body.
    pub fn sent(&mut self, bytes: u64) {
        self.line.bytes_out += bytes;
    }

    /// Notes that the answer did not come to its end.
    pub fn broke_off(&mut self) {
        self.line.whole = false;
    }

    /// Notes that it did.
    pub fn ended(&mut self) {
        self.line.whole = true;
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.line.took = super::entry::since(self.line.at, Monotonic::now());
        let mut lane = self.shared.lane();
        self.shared.push(&mut lane.queue, |line| std::mem::swap(line, &mut self.line));
    }
}
