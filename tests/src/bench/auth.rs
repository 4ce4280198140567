//! What a request's credential costs: tokens by algorithm, verified and remembered, refused, forged; API keys; revocations;
//! what it is then found to be allowed, and its limits. All cells are measured in turn, so that what disturbs the machine
//! disturbs all of them.

mod authorise;
mod limits;
mod report;
mod subject;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;

pub use self::report::Report;
use self::subject::Subjects;
use super::spread::Spread;

/// What every configuration here begins with: an edge of which nothing is opened.
const EDGE: &str = r#"
[kernel]
interfaces = ["lo"]
[[listener]]
address = "[::]:443"
certificate = "edge.crt"
key = "edge.key"
[[upstream]]
name = "app"
endpoints = ["http://127.0.0.1:8080"]
"#;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Scale {
    /// API keys that one is looked for among.
    pub api_keys: Vec<usize>,
    /// Principals who owe something to limits and quotas.
    pub principals: Vec<usize>,
    /// Revocations that an identity is checked against.
    pub revocations: Vec<usize>,
    /// Times that all cells are measured in turn.
    pub rounds: u32,
    /// How long each measurement takes, at least.
    pub time: Duration,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            api_keys: vec![1_000, 1_000_000],
            principals: vec![1_000_000],
            revocations: vec![0, 1_000, 1_000_000, 10_000_000],
            rounds: 31,
            time: Duration::from_millis(5),
        }
    }
}

/// Something that is measured.
pub struct Cell<'s> {
    name: String,
    /// Does it so often, and says how long that took.
    run: Box<dyn FnMut(u32) -> Duration + 's>,
}

impl<'s> Cell<'s> {
    fn new<T>(name: impl Into<String>, mut once: impl FnMut() -> T + 's) -> Self {
        let run = move |times| {
            let start = Instant::now();
            for _ in 0..times {
                black_box(once());
            }
            start.elapsed()
        };
        Self { name: name.into(), run: Box::new(run) }
    }

    /// As often as fills the time.
    fn times(&mut self, time: Duration) -> u32 {
        let mut times = 1;
        while times < 1 << 24 && (self.run)(times) < time {
            times *= 2;
        }
        times
    }
}

/// Measures every cell.
///
/// # Errors
/// What the subjects are made of can't be had.
pub fn run(scale: &Scale) -> Result<Report> {
    let subjects = Subjects::new(scale)?;
    let mut cells = subjects.cells();
    let times: Vec<_> = cells.iter_mut().map(|cell| cell.times(scale.time)).collect();
    let mut samples = vec![Vec::new(); cells.len()];
    for _ in 0..scale.rounds {
        for ((cell, times), samples) in cells.iter_mut().zip(&times).zip(&mut samples) {
            samples.push((cell.run)(*times).as_nanos() as f64 / f64::from(*times));
        }
    }
    let names = cells.into_iter().map(|cell| cell.name);
    Ok(Report::new(scale, names.zip(samples.into_iter().map(Spread::of)).collect(), subjects.memory()))
}
