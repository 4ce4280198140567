//! What was found, as a table and as JSON.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::column::{COLUMNS, EMPTY, STILL};
use super::counters::Counts;
use super::memory::Memory;
use super::subject::{Sample, Subjects};
use crate::bench::machine;
use crate::bench::spread::Spread;

/// The samples of a column.
#[derive(Default)]
pub struct Measured {
    /// One for each round; none if there is nothing to measure.
    pub samples: Vec<Sample>,
    /// Packets so far.
    pub next: u64,
}

/// Which costs the reader will want to compare.
const RATIOS: [(&str, &str); 10] = [
    ("plaintext_drop", "parse"),
    ("banned", "hot"),
    ("hot", "lru_hot"),
    ("sources_1k", "lru_1k"),
    ("sources_64k", "lru_64k"),
    ("sources_1m", "lru_1m"),
    ("spoofed", "lru_spoofed"),
    ("hot", "xdp_filter_pass"),
    ("plaintext_drop", "xdp_filter_drop"),
    ("banned", "xdp_filter_drop_ip"),
];

/// A column's results.
pub struct Cost {
    /// Its name.
    pub name: &'static str,
    /// Nanoseconds per packet, all in.
    pub gross: Spread,
    /// Less what the test itself takes.
    pub net: Spread,
    /// The smallest sample less the smallest of the test itself: what it costs while nothing disturbs.
    pub least: f64,
    /// Instructions and cache misses, less those of the test itself: the medians, where they are counted.
    pub counts: Option<Counts>,
}

/// Everything that was found.
pub struct Report {
    /// The columns that could be measured.
    pub costs: Vec<Cost>,
    /// Why others could not.
    pub skipped: Vec<String>,
    cpu: String,
    instructions: u32,
    kernel: String,
    memory: Memory,
    rounds: usize,
    verified_instructions: u32,
}

/// Works the samples out.
pub fn build(subjects: &Subjects, measured: Vec<Measured>) -> Result<Report> {
    let samples = |name: &str| {
        let found = COLUMNS.iter().zip(&measured).find(|(column, _)| column.name == name);
        found.map(|(_, measured)| measured.samples.as_slice()).unwrap_or_default()
    };
    let costs = COLUMNS.iter().filter(|column| !samples(column.name).is_empty()).map(|column| {
        let (own, floor) = (samples(column.name), samples(column.floor()));
        let time = |samples: &[Sample]| samples.iter().map(|sample| sample.nanoseconds).collect::<Vec<_>>();
        let gross = Spread::of(time(own));
        Cost {
            name: column.name,
            gross,
            least: gross.min - Spread::of(time(floor)).min,
            net: Spread::of(time(own).iter().zip(time(floor)).map(|(own, floor)| own - floor).collect()),
            counts: counts(own, floor),
        }
    });
    let program = subjects.plain.filter.program().info()?;
    let xdp_filter = subjects.xdp_filter.as_ref().err().map(|reason| format!("xdp_filter_*: {reason:#}"));
    let counters = subjects.counters.as_ref().err();
    let counters = counters.map(|reason| format!("instructions, cache misses: {reason:#}"));
    Ok(Report {
        costs: costs.collect(),
        skipped: xdp_filter.into_iter().chain(counters).collect(),
        cpu: machine::cpu(),
        // Eight bytes each.
        instructions: program.size_translated().context("the kernel does not say how long a program is")? / 8,
        kernel: machine::kernel(),
        memory: Memory::of(subjects)?,
        rounds: measured.iter().map(|column| column.samples.len()).max().unwrap_or_default(),
        verified_instructions: program
            .verified_instruction_count()
            .context("the kernel does not say how much it verified")?,
    })
}

fn counts(own: &[Sample], floor: &[Sample]) -> Option<Counts> {
    let median = |of: fn(&Counts) -> f64| -> Option<f64> {
        let differences = own.iter().zip(floor);
        let differences =
            differences.map(|(own, floor)| Some(of(own.counts.as_ref()?) - of(floor.counts.as_ref()?)));
        Some(Spread::of(differences.collect::<Option<_>>()?).median)
    };
    let instructions = median(|counts| counts.instructions)?;
    Some(Counts { instructions, cache_misses: median(|counts| counts.cache_misses)? })
}

impl Report {
    fn net(&self, name: &str) -> Option<f64> {
        self.costs.iter().find(|cost| cost.name == name).map(|cost| cost.net.median)
    }

    /// The ratios whose both sides could be measured, and are not lost in the noise.
    fn ratios(&self) -> impl Iterator<Item = (String, f64)> {
        RATIOS.into_iter().filter_map(|(ours, theirs)| {
            let theirs_net = self.net(theirs).filter(|net| *net > 0.0)?;
            Some((format!("{ours}/{theirs}"), self.net(ours)? / theirs_net))
        })
    }

    /// As JSON; times are nanoseconds per packet, `net` less the empty program.
    pub fn json(&self) -> Value {
        let columns: serde_json::Map<_, _> =
            self.costs.iter().map(|cost| (cost.name.to_owned(), column(cost))).collect();
        let ratios: serde_json::Map<_, _> =
            self.ratios().map(|(name, ratio)| (name, rounded(ratio))).collect();
        let memory = &self.memory;
        json!({
            "columns": columns,
            "cpu": self.cpu,
            "kernel": self.kernel,
            "memory": {
                "block_list_entries": memory.block_list_entries,
                "block_list_entry_bytes": rounded(memory.block_list_entry),
                "lru_entry_bytes": rounded(memory.lru_entry),
                "source_line_bytes": memory.source_line,
                "source_lines": memory.source_lines,
                "source_table_bytes": memory.source_table,
            },
            "object": {
                "instructions": self.instructions,
                "verified_instructions": self.verified_instructions,
            },
            "ratios": ratios,
            "rounds": self.rounds,
            "skipped": self.skipped,
        })
    }
}

impl Cost {
    fn row(&self, f: &mut fmt::Formatter<'_>, hot: f64) -> fmt::Result {
        let name = self.name;
        if matches!(name, EMPTY | STILL) {
            let Spread { median, min, .. } = self.gross;
            let spread = self.gross.interquartile();
            return writeln!(f, "{name:<24}{median:>9.1}{spread:>9.1}{min:>9.1}   all in");
        }
        let (median, spread, to_hot) = (self.net.median, self.net.interquartile(), self.net.median / hot);
        write!(f, "{name:<24}{median:>9.1}{spread:>9.1}{:>9.1}{to_hot:>9.2}", self.least)?;
        match self.counts {
            Some(counts) => writeln!(f, "{:>14.1}{:>14.3}", counts.instructions, counts.cache_misses),
            None => writeln!(f),
        }
    }
}

fn column(cost: &Cost) -> Value {
    let mut column = json!({
        "ns_max": rounded(cost.gross.max),
        "ns_median": rounded(cost.gross.median),
        "ns_min": rounded(cost.gross.min),
        "net_least": rounded(cost.least),
        "net_interquartile": rounded(cost.net.interquartile()),
        "net_median": rounded(cost.net.median),
    });
    if let Some(counts) = cost.counts {
        column["net_instructions"] = rounded(counts.instructions);
        column["net_cache_misses"] = rounded(counts.cache_misses);
    }
    column
}

fn rounded(number: f64) -> Value {
    json!((number * 1_000.0).round() / 1_000.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hot = self.net("hot").unwrap_or(f64::NAN);
        writeln!(f, "Linux {}, {}; {} rounds", self.kernel, self.cpu, self.rounds)?;
        writeln!(f, "ns per packet, less `{EMPTY}` (`{STILL}` where the packet stays the same)\n")?;
        write!(f, "{:<24}{:>9}{:>9}{:>9}{:>9}", "column", "median", "spread", "least", "to hot")?;
        match self.costs.iter().any(|cost| cost.counts.is_some()) {
            true => writeln!(f, "{:>14}{:>14}", "instructions", "cache misses")?,
            false => writeln!(f)?,
        }
        for cost in &self.costs {
            cost.row(f, hot)?;
        }
        for reason in &self.skipped {
            writeln!(f, "skipped: {reason}")?;
        }
        writeln!(f)?;
        for (name, ratio) in self.ratios() {
            writeln!(f, "{name:<36}{ratio:>6.2}")?;
        }
        let memory = &self.memory;
        let mib = memory.source_table as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "\nsource: {} bytes; table of {} lines: {mib:.0} MiB",
            memory.source_line, memory.source_lines
        )?;
        let (entries, entry) = (memory.block_list_entries, memory.block_list_entry);
        writeln!(f, "block list: {entry:.0} bytes an entry, {entries} entries")?;
        writeln!(f, "lru baseline: {:.0} bytes a source", memory.lru_entry)?;
        write!(f, "object: {} instructions, {} verified", self.instructions, self.verified_instructions)
    }
}
