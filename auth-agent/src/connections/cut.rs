//! Ending one request from outside, whatever it is doing.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::End;

/// Where a request learns that it is over. One task at a time waits.
#[derive(Debug, Default)]
pub(super) struct Cut(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Option<Waker>,
    why: Option<(End, Instant)>,
}

impl Cut {
    pub fn cut(&self, why: End) {
        let mut state = self.lock();
        state.why.get_or_insert((why, Instant::now()));
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// How long ago it was cut, if it was.
    pub fn age(&self) -> Option<Duration> {
        self.lock().why.map(|(_, when)| when.elapsed())
    }

    pub fn poll(&self, context: &mut Context<'_>) -> Poll<End> {
        let mut state = self.lock();
        match state.why {
            Some((why, _)) => Poll::Ready(why),
            None => {
                match &mut state.waiting {
                    Some(waiting) => waiting.clone_from(context.waker()),
                    waiting => *waiting = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error that a response ends with when it is cut off. HTTP/2 resets its stream with CANCEL: INTERNAL_ERROR would
/// blame us, and REFUSED_STREAM would have the client try again (RFC 9113, 7 and 8.7).
#[derive(Debug)]
pub struct CutOff {
    reset: h2::Error,
    why: End,
}

impl CutOff {
    /// For this reason.
    pub fn new(why: End) -> Self {
        Self { reset: h2::Reason::CANCEL.into(), why }
    }
}

impl fmt::Display for CutOff {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cut off: {}", self.why.name())
    }
}

impl Error for CutOff {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.reset)
    }
}
