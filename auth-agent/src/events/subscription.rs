//! The reader's end of a subscription.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use super::{Hub, Line, Sample};

/// Samples as they come. Dropping it ends the subscription.
pub struct Subscription {
    dropped: Arc<AtomicU64>,
    hub: Arc<Hub>,
    id: u64,
    samples: mpsc::Receiver<Arc<Sample>>,
}

impl Subscription {
    pub(super) fn new(
        dropped: Arc<AtomicU64>,
        hub: Arc<Hub>,
        id: u64,
        samples: mpsc::Receiver<Arc<Sample>>,
    ) -> Self {
        Self { dropped, hub, id, samples }
    }

    /// The next line; a reader that was too slow is first told how much it lost. `None`: the agent has ended it.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Line>> {
        match self.dropped.swap(0, Relaxed) {
            0 => self
                .samples
                .poll_recv(context)
                .map(|sample| Some(Line::Sample(Arc::unwrap_or_clone(sample?)))),
            dropped => Poll::Ready(Some(Line::Dropped { dropped })),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}
