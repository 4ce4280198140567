//! What was found, as a table and as JSON.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::column::{COLUMNS, EMPTY, STILL};
use super::memory::Memory;
use super::subject::Subjects;
use crate::bench::machine;
use crate::bench::spread::Spread;

/// The samples of a column.
#[derive(Default)]
pub struct Measured {
    /// Nanoseconds per packet, one for each round; none if there is nothing to measure.
    pub samples: Vec<f64>,
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
        let gross = Spread::of(own.to_vec());
        Cost {
            name: column.name,
            gross,
            least: gross.min - Spread::of(floor.to_vec()).min,
            net: Spread::of(own.iter().zip(floor).map(|(own, floor)| own - floor).collect()),
        }
    });
    let program = subjects.plain.filter.program().info()?;
    let skipped = subjects.xdp_filter.as_ref().err().map(|reason| format!("xdp_filter_*: {reason:#}"));
    Ok(Report {
        costs: costs.collect(),
        skipped: skipped.into_iter().collect(),
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

fn column(cost: &Cost) -> Value {
    json!({
        "ns_max": rounded(cost.gross.max),
        "ns_median": rounded(cost.gross.median),
        "ns_min": rounded(cost.gross.min),
        "net_least": rounded(cost.least),
        "net_interquartile": rounded(cost.net.interquartile()),
        "net_median": rounded(cost.net.median),
    })
}

fn rounded(number: f64) -> Value {
    json!((number * 1_000.0).round() / 1_000.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hot = self.net("hot").unwrap_or(f64::NAN);
        writeln!(f, "Linux {}, {}; {} rounds", self.kernel, self.cpu, self.rounds)?;
        writeln!(f, "ns per packet, less `{EMPTY}` (`{STILL}` where the packet stays the same)\n")?;
        writeln!(f, "{:<24}{:>9}{:>9}{:>9}{:>9}", "column", "median", "spread", "least", "to hot")?;
        for cost in &self.costs {
            let (net, name) = (&cost.net, cost.name);
            match name {
                EMPTY | STILL => {
                    let gross = &cost.gross;
                    writeln!(
                        f,
                        "{name:<24}{:>9.1}{:>9.1}{:>9.1}   all in",
                        gross.median,
                        gross.interquartile(),
                        gross.min
                    )?;
                }
                _ => {
                    let (median, spread) = (net.median, net.interquartile());
                    writeln!(
                        f,
                        "{name:<24}{median:>9.1}{spread:>9.1}{:>9.1}{:>9.2}",
                        cost.least,
                        median / hot
                    )?;
                }
            }
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
