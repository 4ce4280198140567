//! What a packet costs in the filter, in a textbook limiter and in xdp-filter.
//!
//! All columns are measured once in each round, so that what the machine does meanwhile hits them alike. A cost
//! is the CPU time of a run of `BPF_PROG_TEST_RUN` by the number of its packets (the kernel's own figure is
//! cut off to whole nanoseconds), less that of a program that does nothing in the same round.

mod column;
mod counters;
mod memory;
mod report;
mod subject;
mod xdp_filter;

use anyhow::{Context, Result, ensure};
use auth_common::sequence::ALL;
use auth_common::verdict::Reason;

use crate::system;
use column::{COLUMNS, Column, LISTED, Outcome};
use report::Measured;
pub use report::Report;
use subject::{Run, Sample, Subjects};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Entries of the block list.
    pub block_list: u32,
    /// Packets of one measurement.
    pub packets: u32,
    /// Measurements of each column.
    pub rounds: u32,
    /// Lines of the source table, a power of two; entries of the baseline's map.
    pub sources: u32,
}

impl Default for Scale {
    fn default() -> Self {
        Self { block_list: 100_000, packets: 1 << 19, rounds: 15, sources: 1 << 20 }
    }
}

impl Scale {
    /// How many sources send a column's packets.
    fn sources_of(&self, column: &Column) -> u64 {
        let listed = 1 << self.block_list.max(1).ilog2();
        if column.sources == LISTED && column.outcome == Outcome::Reason(Reason::Banned) {
            return LISTED.min(listed);
        }
        column.sources
    }
}

/// Packets before a measurement, for columns of few sources.
const WARM_UP: u64 = 1 << 16;

/// The share of packets with the expected outcome below which a column does not measure what it is named after.
const EXPECTED: f64 = 0.9;

/// Measures; `object` is the benchmark's own BPF object. Says on standard error how far it is.
///
/// # Errors
/// What the kernel says, or if packets did not get the verdict that their column is about.
pub fn run(scale: &Scale, object: &[u8]) -> Result<Report> {
    system::stay_on_this_cpu().context("sched_setaffinity")?;
    let mut subjects = Subjects::new(scale, object)?;
    let mut measured: Vec<_> = COLUMNS.iter().map(|_| Measured::default()).collect();
    for round in 1..=scale.rounds {
        eprintln!("round {round} of {}", scale.rounds);
        for (column, measured) in COLUMNS.iter().zip(&mut measured) {
            if let Some(sample) = measure(column, scale, &mut subjects, &mut measured.next)? {
                measured.samples.push(sample);
            }
        }
    }
    report::build(&subjects, measured)
}

/// What a packet costs; nothing if the subject is not installed.
fn measure(
    column: &Column,
    scale: &Scale,
    subjects: &mut Subjects,
    next: &mut u64,
) -> Result<Option<Sample>> {
    let packets = u64::from(scale.packets);
    let sources = scale.sources_of(column);
    // Each source once, so that a table that other columns have used is this one's again.
    let warm_up = if sources == ALL { WARM_UP } else { sources.max(WARM_UP) }.min(2 * packets);
    // Floods start behind the sources that are on the block list.
    let first = if sources == ALL { ALL / 2 } else { 0 };
    let run = |packets, next: u64| Run { column, next: first + next, packets, sources };
    if subjects.run(&run(warm_up, *next))?.is_none() {
        return Ok(None);
    }
    let Some(outcome) = subjects.run(&run(packets, *next + warm_up))? else { return Ok(None) };
    *next += warm_up + packets;
    ensure!(
        outcome.expected >= EXPECTED,
        "{}: only {:.0} % of the packets had the outcome that the column is about",
        column.name,
        outcome.expected * 100.0
    );
    Ok(Some(outcome.sample))
}
