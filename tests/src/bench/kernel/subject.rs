//! What is measured: the programs, loaded over tables that are set up as an agent would.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use auth_agent::config::{ByteRate, Kernel, Limits, Rate, SourceLimits, XdpMode};
use auth_agent::edge::{Action, Rule};
use auth_common::sequence::{ALL, Sequence};
use auth_common::verdict::Verdict;
use aya::Ebpf;
use aya::maps::{Array, MapData};
use aya::programs::{TestRun, TestRunOptions, Xdp};

use super::Scale;
use super::column::{BANNED, BASE, Bed, Column, Outcome, Packet, Program};
use super::counters::{Counters, Counts};
use super::xdp_filter::XdpFilter;
use crate::frames::{ACK, Ip, SYN, tcp};
use crate::kernel::FilterUnderTest;
use crate::system;

const HTTPS: u16 = 443;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// The baseline's map.
pub const BUCKETS: &str = "BUCKETS";

/// Everything that is loaded.
pub struct Subjects {
    /// With a long block list.
    pub listed: Tables,
    /// With one ban.
    pub plain: Tables,
    spoofed: Tables,
    /// xdp-filter, or why it is missing.
    pub xdp_filter: Result<XdpFilter>,
    /// What counts instructions and cache misses, or why nothing does.
    pub counters: Result<Counters>,
}

/// A filter, and the benchmark's programs over its maps.
pub struct Tables {
    /// The filter.
    pub filter: FilterUnderTest,
    /// The benchmark's object.
    pub bench: Ebpf,
    sequence: Array<MapData, [u64; 4]>,
}

/// A run of packets.
pub struct Run<'a> {
    /// Of which column.
    pub column: &'a Column,
    /// Number of the first packet.
    pub next: u64,
    /// How many.
    pub packets: u64,
    /// How many sources they come from.
    pub sources: u64,
}

/// What packets cost, each.
pub struct Sample {
    /// CPU time.
    pub nanoseconds: f64,
    /// What else was counted.
    pub counts: Option<Counts>,
}

/// What came of a run.
pub struct Ran {
    /// What it cost.
    pub sample: Sample,
    /// Share of packets that had the column's outcome.
    pub expected: f64,
}

impl Subjects {
    /// Loads everything.
    pub fn new(scale: &Scale, object: &[u8]) -> Result<Self> {
        let banned = [ban(BANNED)];
        let list = Sequence::new(BASE, ALL);
        let listed: Vec<_> = (0..u64::from(scale.block_list)).map(|entry| ban(list.address(entry))).collect();
        Ok(Self {
            listed: Tables::new(scale, object, Bed::Listed, &listed)?,
            plain: Tables::new(scale, object, Bed::Plain, &banned)?,
            spoofed: Tables::new(scale, object, Bed::Spoofed, &banned)?,
            xdp_filter: XdpFilter::load(Ipv4Addr::from(BANNED)),
            counters: Counters::start(),
        })
    }

    /// Runs packets through a column's program; nothing if it is not installed.
    pub fn run(&mut self, run: &Run<'_>) -> Result<Option<Ran>> {
        let test = Test { counters: self.counters.as_ref().ok(), frame: frame(run.column), run };
        Ok(Some(match run.column.program {
            Program::Bench(Bed::Listed, program) => self.listed.bench(&test, program)?,
            Program::Bench(Bed::Plain, program) => self.plain.bench(&test, program)?,
            Program::Bench(Bed::Spoofed, program) => self.spoofed.bench(&test, program)?,
            Program::Shipped => self.plain.counted(run, |tables| test.of(tables.filter.program()))?,
            Program::XdpFilter => match &self.xdp_filter {
                Ok(xdp_filter) => judged(run, test.of(xdp_filter.program())?),
                Err(_) => return Ok(None),
            },
        }))
    }
}

impl Tables {
    fn new(scale: &Scale, object: &[u8], bed: Bed, rules: &[Rule]) -> Result<Self> {
        let filter = FilterUnderTest::start(kernel(scale)?, &limits(), &[HTTPS], rules)?;
        let mut bench = filter.load_beside(object, &bed.programs(), [(BUCKETS, scale.sources)])?;
        let sequence = bench.take_map("SEQUENCE").context("the object has no map SEQUENCE")?;
        Ok(Self { filter, bench, sequence: sequence.try_into()? })
    }

    fn bench(&mut self, test: &Test<'_>, program: &str) -> Result<Ran> {
        let run = test.run;
        let sequence = Sequence { next: run.next, ..Sequence::new(run.column.base, run.sources) };
        self.sequence.set(0, sequence.words(), 0)?;
        let ran = self.counted(run, |tables| {
            let program = tables.bench.program(program).with_context(|| format!("no program {program}"))?;
            test.of(program.try_into()?)
        })?;
        let [_, _, next, _] = self.sequence.get(&0, 0)?;
        let written = if program == "bench_still" { 0 } else { run.packets };
        ensure!(next == run.next + written, "{}: {next} packets were run", run.column.name);
        Ok(ran)
    }

    /// Runs, and looks what the filter counted meanwhile.
    fn counted(&self, run: &Run<'_>, test: impl FnOnce(&Self) -> Result<(Sample, u32)>) -> Result<Ran> {
        let Outcome::Reason(reason) = run.column.outcome else {
            return Ok(judged(run, test(self)?));
        };
        let count = |tables: &Self| -> Result<u64> {
            Ok(tables.filter.counts()?.get(&(reason as usize)).copied().unwrap_or_default())
        };
        let before = count(self)?;
        let (sample, _) = test(self)?;
        let expected = (count(self)? - before) as f64 / run.packets as f64;
        Ok(Ran { sample, expected })
    }
}

/// By the verdict of the last packet alone.
fn judged(run: &Run<'_>, (sample, verdict): (Sample, u32)) -> Ran {
    let expected = match run.column.outcome {
        Outcome::Drop => XDP_DROP,
        Outcome::Pass => XDP_PASS,
        Outcome::Reason(reason) => match reason.verdict() {
            Verdict::Drop | Verdict::Reset => XDP_DROP,
            Verdict::Pass => XDP_PASS,
        },
    };
    Ran { sample, expected: f64::from(u8::from(verdict == expected)) }
}

/// A run, and what it is run with.
struct Test<'a> {
    counters: Option<&'a Counters>,
    frame: Vec<u8>,
    run: &'a Run<'a>,
}

impl Test<'_> {
    /// What a program's packets cost, and the verdict on the last.
    fn of(&self, program: &Xdp) -> Result<(Sample, u32)> {
        let repeat = u32::try_from(self.run.packets)?;
        let options = TestRunOptions { data_in: Some(&self.frame), repeat, ..TestRunOptions::default() };
        let counted = || self.counters.map(Counters::read).transpose();
        let (before, start) = (counted()?, system::thread_time()?);
        let result = program.test_run(options)?;
        let time = system::thread_time()?.saturating_sub(start);
        let packets = f64::from(repeat);
        let counts = counted()?.zip(before).map(|(after, before)| after.per_packet(before, packets));
        Ok((Sample { nanoseconds: time.as_nanos() as f64 / packets, counts }, result.return_value))
    }
}

fn frame(column: &Column) -> Vec<u8> {
    let (port, flags) = match column.packet {
        Packet::Https => (HTTPS, ACK),
        Packet::HttpsOpening => (HTTPS, SYN),
        Packet::Plaintext => (80, ACK),
    };
    let source = Ipv4Addr::from(column.base).to_string();
    Ip::new(&source, "192.0.2.1", 6, tcp(40_000, port, flags)).frame()
}

fn ban(address: u32) -> Rule {
    let address = IpAddr::V4(address.into());
    Rule { action: Action::Ban { until: None }, network: address.into() }
}

fn kernel(scale: &Scale) -> Result<Kernel> {
    Ok(Kernel {
        mode: XdpMode::Generic,
        sources: NonZeroU32::new(scale.sources).context("the source table needs lines")?,
        ..Kernel::default()
    })
}

/// The defaults, but for what no machine can send: so the whole pipeline runs for each packet.
fn limits() -> Limits {
    let packets = Rate { burst: NonZeroU32::MAX, events: NonZeroU32::MAX, period: Duration::from_secs(1) };
    let bytes = ByteRate { burst: u64::from(u32::MAX) << 6, per_second: u64::from(u32::MAX) << 6 };
    let source = SourceLimits { bytes, packets, ..SourceLimits::default() };
    Limits { breaker: packets, source, ..Limits::default() }
}
