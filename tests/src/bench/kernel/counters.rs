//! What a run of packets does besides taking time: instructions and cache misses, where the machine counts them.

use anyhow::{Context, Result};

use crate::bench::system::{Counter, Event};

/// The counters of this thread.
pub struct Counters {
    instructions: Counter,
    cache_misses: Counter,
}

/// What was counted, or by how much it went on.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Instructions.
    pub instructions: f64,
    /// Cache misses.
    pub cache_misses: f64,
}

impl Counters {
    /// Starts them.
    pub fn start() -> Result<Self> {
        let counters = Self {
            instructions: Counter::start(Event::INSTRUCTIONS).context("perf_event_open")?,
            cache_misses: Counter::start(Event::CACHE_MISSES).context("perf_event_open")?,
        };
        // One that the machine has too few registers for starts, and can't be read.
        counters.read().context("a performance counter")?;
        Ok(counters)
    }

    /// The counts so far.
    pub fn read(&self) -> Result<Counts> {
        Ok(Counts {
            instructions: self.instructions.read()? as f64,
            cache_misses: self.cache_misses.read()? as f64,
        })
    }
}

impl Counts {
    /// For each of `packets`, since `before`.
    pub fn per_packet(self, before: Self, packets: f64) -> Self {
        Self {
            instructions: (self.instructions - before.instructions) / packets,
            cache_misses: (self.cache_misses - before.cache_misses) / packets,
        }
    }
}
