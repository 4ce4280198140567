//! Coarse deadlines, for what is seldom reached: a request sets several, and they all but never come.
//!
//! A deadline costs no look at a clock and no timer of its own. Those of one thread lie in one list, which a task looks
//! through every [`RESOLUTION`] while there are any; none comes too early, and none later than two steps after its
//! time, unless the thread is busy.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant as TokioInstant;

/// How exact they are.
pub const RESOLUTION: Duration = Duration::from_millis(50);

/// So many steps without a deadline, and the task goes.
const IDLE_STEPS: u64 = 20;

/// Completes when its time is over, counted from when it is first polled.
pub struct Deadline {
    after: Duration,
    place: Option<Place>,
}

impl Deadline {
    /// One that comes `after` this time.
    pub fn after(after: Duration) -> Self {
        Self { after, place: None }
    }

    /// Counts anew from the next poll on.
    pub fn reset(&mut self, after: Duration) {
        self.after = after;
        self.place = None;
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &self.place {
            Some(place) => place.list.lock().poll(place.index, context.waker()),
            None => {
                self.place = Some(List::enter(self.after, context.waker()));
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Deadline").field("after", &self.after).finish_non_exhaustive()
    }
}

impl Sleep for Deadline {}

/// Gives hyper deadlines of this kind.
#[derive(Clone, Copy, Debug)]
pub struct Coarse;

impl Timer for Coarse {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline::after(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        TokioInstant::now().into_std()
    }
}

/// An entry of a list; free again when it is dropped.
struct Place {
    index: usize,
    list: Arc<List>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Not under the lock: whatever ends with the waker may have deadlines, too.
        let waker = self.list.lock().leave(self.index);
        drop(waker);
    }
}

/// The deadlines of one thread. Another thread takes the lock only when a task moves.
#[derive(Default)]
struct List(Mutex<State>);

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    free: Vec<usize>,
    is_stepped: bool,
    /// Steps that have been.
    step: u64,
}

/// A deadline that has come has no waker.
struct Entry {
    /// The step that it was made in.
    made: u64,
    step: u64,
    waker: Option<Waker>,
}

/// The step of a free entry.
const NEVER: u64 = u64::MAX;

thread_local! {
    static LIST: RefCell<Arc<List>> = RefCell::default();
}

impl List {
    fn enter(after: Duration, waker: &Waker) -> Place {
        let list = LIST.with_borrow(Arc::clone);
        let mut state = list.lock();
        let index = state.enter(after, waker);
        let is_stepped = std::mem::replace(&mut state.is_stepped, true);
        drop(state);
        if !is_stepped {
            // A runtime that ends takes the task with it, whatever it was at, or drops it at once.
            let stepper = Stepper { has_ended: false, list: Arc::clone(&list) };
            tokio::spawn(stepper.run());
        }
        Place { index, list }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, after: Duration, waker: &Waker) -> usize {
        let steps = after.as_nanos().div_ceil(RESOLUTION.as_nanos());
        // One more, as the step that is under way is not a whole one.
        let step = self.step.saturating_add(u64::try_from(steps).unwrap_or(NEVER - 2)).saturating_add(1);
        let entry = Entry { made: self.step, step: step.min(NEVER - 1), waker: Some(waker.clone()) };
        match self.free.pop() {
            Some(index) => {
                self.entries[index] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        }
    }

    fn poll(&mut self, index: usize, waker: &Waker) -> Poll<()> {
        match &mut self.entries[index].waker {
            None => Poll::Ready(()),
            Some(waiting) => {
                waiting.clone_from(waker);
                Poll::Pending
            }
        }
    }

    fn leave(&mut self, index: usize) -> Option<Waker> {
        let entry = std::mem::replace(&mut self.entries[index], Entry { made: 0, step: NEVER, waker: None });
        self.free.push(index);
        if self.free.len() == self.entries.len() {
            self.entries.clear();
            self.free.clear();
            // What a burst left behind.
            self.entries.shrink_to(MOST_KEPT);
            self.free.shrink_to(MOST_KEPT);
        }
        entry.waker
    }

    /// Goes on to `step`; gives the wakers of what has come.
    fn advance(&mut self, step: u64) -> Vec<Waker> {
        let (before, now) = (self.step, self.step.max(step));
        self.step = now;
        // While the thread stood still, nothing was made: what is newer than the last step was made after that.
        for entry in self.entries.iter_mut().filter(|entry| entry.made == before && entry.step < NEVER - 1) {
            entry.step = entry.step.saturating_add((now - before).saturating_sub(1)).min(NEVER - 1);
        }
        self.entries
            .iter_mut()
            .filter(|entry| entry.step <= now)
            .filter_map(|entry| entry.waker.take())
            .collect()
    }
}

const MOST_KEPT: usize = 1024;

/// The task that goes through a list.
struct Stepper {
    has_ended: bool,
    list: Arc<List>,
}

impl Stepper {
    async fn run(mut self) {
        let (start, first) = (TokioInstant::now(), self.list.lock().step);
        let mut idle = 0;
        for count in 1.. {
            tokio::time::sleep_until(start + RESOLUTION * u32::try_from(count).unwrap_or(u32::MAX)).await;
            let elapsed = start.elapsed().as_nanos() / RESOLUTION.as_nanos();
            let woken = {
                let mut state = self.list.lock();
                idle = if state.entries.is_empty() { idle + 1 } else { 0 };
                if idle > IDLE_STEPS {
                    state.is_stepped = false;
                    self.has_ended = true;
                    return;
                }
                state.advance(first + u64::try_from(elapsed).unwrap_or(count))
            };
            for waker in woken {
                waker.wake();
            }
        }
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        if !self.has_ended {
            self.list.lock().is_stepped = false;
        }
    }
}

#[cfg(test)]
mod tests;
