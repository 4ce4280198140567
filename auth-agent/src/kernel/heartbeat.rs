//! The agent's sign of life, for a filter that is to let packets pass when nobody tends it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use auth_common::layout;
use aya::maps::{Array, MapData};

use super::budgets::nanoseconds;
use super::error::FilterError;
use crate::clock::Monotonic;

/// Beats before the agent counts as gone.
const BEATS: u32 = 4;

/// The word in the kernel.
pub struct Heartbeat {
    gone_after: Duration,
    map: Mutex<Array<MapData, u64>>,
}

impl Heartbeat {
    /// The heartbeat of an agent that counts as gone after so long without one.
    pub fn new(map: Array<MapData, u64>, gone_after: Duration) -> Self {
        Self { gone_after, map: Mutex::new(map) }
    }

    /// Between two beats.
    pub fn interval(&self) -> Duration {
        self.gone_after / BEATS
    }

    /// Alive at `now`.
    ///
    /// # Errors
    /// [`FilterError::Map`].
    pub fn beat(&self, now: Monotonic) -> Result<(), FilterError> {
        let until = now.0.saturating_add(nanoseconds(self.gone_after));
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        map.set(0, until, 0).map_err(|error| FilterError::map(layout::HEARTBEAT, error))
    }
}
