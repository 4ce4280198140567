//! The subscriptions, and the one switch in the kernel that follows from them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auth_common::gcra::{self, Limit};
use auth_common::verdict::Reason;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Sample, Subscription, Wanted};
use crate::edge::EdgeError;

/// Listeners at a time.
pub const MAX_SUBSCRIPTIONS: usize = 16;
/// Samples that wait for a slow reader: a burst at the highest rate.
const QUEUE: usize = super::MAX_RATE as usize;

/// Turns sampling on and off in the kernel.
pub trait Switch: Send + Sync + 'static {
    /// From now on, samples packets of these reasons (see `auth_common::event::bit`; 0: none) within `limit`.
    fn set(&self, reasons: u64, limit: Limit) -> Result<(), EdgeError>;
}

/// Why there is no subscription.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SubscribeError {
    /// The kernel half failed.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// Too many listen.
    #[error("{MAX_SUBSCRIPTIONS} listeners is the most there can be at a time: end one of them first")]
    Full,
}

/// Gives each sample to whoever wants it.
pub struct Hub {
    state: Mutex<State>,
    switch: Box<dyn Switch>,
}

#[derive(Default)]
struct State {
    next: u64,
    subscribers: Vec<Subscriber>,
}

impl State {
    /// The limit of the highest rate that anybody asked for.
    fn widest(&self) -> Option<Limit> {
        self.subscribers.iter().map(|subscriber| subscriber.wanted.limit).min_by_key(|limit| limit.increment)
    }
}

struct Subscriber {
    /// Theoretical arrival time of its samples, on the kernel's clock.
    arrival: AtomicU64,
    dropped: Arc<AtomicU64>,
    id: u64,
    queue: mpsc::Sender<Arc<Sample>>,
    wanted: Wanted,
}

impl Hub {
    /// A hub that nobody listens to; the switch must be off.
    pub fn new(switch: impl Switch) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), switch: Box::new(switch) })
    }

    /// From now on, what is wanted waits in the subscription. Its drop ends it.
    ///
    /// # Errors
    /// [`SubscribeError`]; nothing has changed then.
    pub fn subscribe(self: &Arc<Self>, wanted: Wanted) -> Result<Subscription, SubscribeError> {
        let mut state = self.state();
        if state.subscribers.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::Full);
        }
        let (queue, samples) = mpsc::channel(QUEUE);
        let (dropped, id) = (Arc::<AtomicU64>::default(), state.next);
        state.next += 1;
        let arrival = AtomicU64::default();
        state.subscribers.push(Subscriber { arrival, dropped: Arc::clone(&dropped), id, queue, wanted });
        if let Err(error) = self.switch(&state) {
            state.subscribers.pop();
            return Err(error.into());
        }
        Ok(Subscription::new(dropped, Arc::clone(self), id, samples))
    }

    /// Gives a sample of `reason`, taken at `time` on the kernel's clock, to whoever wants it.
    pub fn publish(&self, sample: Sample, reason: Reason, time: u64) {
        let sample = Arc::new(sample);
        let state = self.state();
        let widest = state.widest();
        for Subscriber { arrival, dropped, queue, wanted, .. } in &state.subscribers {
            // The kernel keeps to the widest limit, on a clock of its own.
            let due = || widest == Some(wanted.limit) || gcra::charge_once(arrival, time, wanted.limit);
            if !wanted.wants(reason, sample.source) || !due() {
                continue;
            }
            if let Err(TrySendError::Full(_)) = queue.try_send(Arc::clone(&sample)) {
                dropped.fetch_add(1, Relaxed);
            }
        }
    }

    /// Ends every subscription: their readers find the end after what already waits for them.
    pub fn close(&self) {
        self.remove(|_| true);
    }

    pub(super) fn leave(&self, id: u64) {
        self.remove(|subscriber| subscriber.id == id);
    }

    fn remove(&self, gone: impl Fn(&Subscriber) -> bool) {
        let mut state = self.state();
        let before = state.subscribers.len();
        state.subscribers.retain(|subscriber| !gone(subscriber));
        if state.subscribers.len() == before {
            return;
        }
        if let Err(error) = self.switch(&state) {
            tracing::warn!(%error, "packets are still sampled that nobody listens for");
        }
    }

    /// Under the lock, so that the switch ends up as the last change wants it.
    fn switch(&self, state: &State) -> Result<(), EdgeError> {
        let reasons = state.subscribers.iter().fold(0, |all, subscriber| all | subscriber.wanted.reasons);
        let nothing = Limit { increment: u64::MAX, tolerance: 0 };
        self.switch.set(reasons, state.widest().unwrap_or(nothing))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
