//! What a flood leaves of a client's requests: behind the filter, behind a ruleset of nftables, and behind neither.
//!
//! The generator has a CPU of its own; client, agent, upstream and the receive path share another. Before and after
//! each flood, and so close to it, the same is measured without one: the generator makes its packets then, too, but
//! keeps them. The variants take turns in each round, and each begins one of three rounds.

mod attack;
mod field;
mod generator;
mod load;
mod report;
mod ruleset;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::attack::{ATTACKS, Attack, UNDISTURBED, Variant};
use self::field::Field;
use self::generator::Generator;
use self::load::Load;
use self::report::Cells;
pub use self::report::Report;
use super::system;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Packets of a flood in a second.
    pub rate: u32,
    /// Times that all variants are measured in turn.
    pub rounds: u32,
    /// How long a measurement takes.
    pub time: Duration,
}

impl Default for Scale {
    fn default() -> Self {
        Self { rate: 100_000, rounds: 5, time: Duration::from_millis(500) }
    }
}

/// From the beginning of a flood until it is measured: until bursts are used up and queues are as long as they get.
const SETTLE: Duration = Duration::from_millis(250);
/// What a flood lasts longer than its measurement.
const MARGIN: Duration = Duration::from_millis(50);
/// From the end of a flood until what it brought is counted: the receiver's queue holds less than this.
const DRAIN: Duration = Duration::from_millis(20);

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// CPUs that the agent used.
    agent: f64,
    /// Packets that were dropped on purpose, per second.
    dropped: f64,
    /// Requests and connections that were not answered.
    failed: u64,
    /// Packets that were sent, per second.
    offered: f64,
    /// CPUs that receiving from the attacker used.
    receive: f64,
    /// Packets that the edge received of them, per second; for the rest, its queue was full.
    received: f64,
    /// Answers per second.
    requests: f64,
}

/// Measures; `object` is the benchmark's own BPF object. Says on standard error how far it is.
///
/// # Errors
/// What does not come up.
pub fn run(scale: &Scale, object: &[u8]) -> Result<Report> {
    let cpus = system::cpus()?;
    let (first, last) = cpus.first().zip(cpus.last()).context("no CPU")?;
    ensure!(first != last, "the generator needs a CPU of its own, and there is but one");
    let mut generator = Generator::new(object, *first, scale.rate)?;
    let skipped = ruleset::missing();
    let mut variants = Variant::ALL.to_vec();
    variants.retain(|variant| *variant != Variant::Nftables || skipped.is_none());
    let mut field = Field::new(*last)?;
    let mut cells = Cells::default();
    for round in 1..=scale.rounds {
        eprintln!("round {round} of {}", scale.rounds);
        for variant in &variants {
            field.guard(*variant)?;
            let (client, token) = field.asker()?;
            load::during(&field.client, &client, &token, |load| {
                measure(scale, &field, &mut generator, load, &mut cells, *variant)
            })
            .with_context(|| variant.name())?;
        }
        variants.rotate_left(1);
    }
    Ok(Report::new(scale, cells, skipped))
}

/// All floods, and before, between and after them none.
fn measure(
    scale: &Scale,
    field: &Field,
    generator: &mut Generator,
    load: &Load,
    cells: &mut Cells,
    variant: Variant,
) -> Result<()> {
    let mut none = |attack: &Attack, generator: &mut Generator| {
        let sample = sample(scale, field, generator, load, attack, false)?;
        cells.add(UNDISTURBED, variant, sample, None);
        anyhow::Ok(sample.requests)
    };
    let mut shares = Vec::new();
    let mut before = none(&ATTACKS[0], generator)?;
    for attack in &ATTACKS {
        let sample = sample(scale, field, generator, load, attack, true)?;
        let after = none(attack, generator)?;
        shares.push((attack.name, sample, 2.0 * sample.requests / (before + after)));
        before = after;
    }
    for (name, sample, share) in shares {
        cells.add(name, variant, sample, Some(share));
    }
    Ok(())
}

fn sample(
    scale: &Scale,
    field: &Field,
    generator: &mut Generator,
    load: &Load,
    attack: &Attack,
    sent: bool,
) -> Result<Sample> {
    let ((received, dropped), receive, start) = (field.received()?, field.receive_time()?, Instant::now());
    let time = SETTLE + scale.time + MARGIN;
    let mut sample = generator.during(attack, field, sent, time, |generator| {
        thread::sleep(SETTLE);
        let reading = || {
            let (answered, failed) = (load.answered(), load.failed());
            anyhow::Ok((Instant::now(), answered, failed, generator.sent()?, field.agent_time()?))
        };
        let before = reading()?;
        thread::sleep(scale.time);
        let after = reading()?;
        let seconds = (after.0 - before.0).as_secs_f64();
        Ok(Sample {
            agent: (after.4 - before.4).as_secs_f64() / seconds,
            dropped: 0.0,
            failed: after.2 - before.2,
            offered: if sent { (after.3 - before.3) as f64 / seconds } else { 0.0 },
            receive: 0.0,
            received: 0.0,
            requests: (after.1 - before.1) as f64 / seconds,
        })
    })?;
    let seconds = start.elapsed().as_secs_f64();
    thread::sleep(DRAIN);
    let (received_after, dropped_after) = field.received()?;
    sample.received = (received_after - received) as f64 / seconds;
    sample.dropped = (dropped_after - dropped) as f64 / seconds;
    sample.receive = (field.receive_time()? - receive).as_secs_f64() / seconds;
    Ok(sample)
}
