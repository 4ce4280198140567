//! `cargo xtask bench`: what the filter costs beside its competitors, what it saves, and what a credential costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;
use tests::bench::{auth, flood, gateway, kernel, revocation};
use tests::privilege;
use tikv_jemallocator::Jemalloc;

/// The agent's.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Measures, each competitor in the same run
#[derive(Parser)]
enum Subject {
    /// What a request's credential costs; needs no root
    Auth(Auth),
    /// What a flood leaves of a client's requests, over veth
    Flood(Flood),
    /// What a request costs at the gateway, beside other products
    Gateway(Gateway),
    /// What a packet costs in the filter, through BPF_PROG_TEST_RUN
    Kernel(Kernel),
    /// How soon a revocation ends what goes on, over veth
    Revocation(Revocation),
}

#[derive(clap::Args)]
struct Auth {
    /// File to write the results to
    #[arg(long)]
    json: Option<PathBuf>,
    /// Times that all cells are measured in turn
    #[arg(long, default_value_t = auth::Scale::default().rounds, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(clap::Args)]
struct Flood {
    #[command(flatten)]
    files: Files,
    /// Packets of a flood in a second
    #[arg(long, default_value_t = flood::Scale::default().rate, value_parser = clap::value_parser!(u32).range(20_000..=2_000_000))]
    rate: u32,
    /// Times that all variants are measured in turn
    #[arg(long, default_value_t = flood::Scale::default().rounds, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds that each measurement takes
    #[arg(long, default_value_t = flood::Scale::default().time.as_millis() as u64, value_parser = clap::value_parser!(u64).range(10..=30_000))]
    milliseconds: u64,
}

#[derive(clap::Args)]
struct Gateway {
    /// What is measured, separated by commas
    #[arg(long, value_delimiter = ',', default_values = gateway::Cell::ALL.map(gateway::Cell::name))]
    cells: Vec<gateway::Cell>,
    /// File to write the results to
    #[arg(long)]
    json: Option<PathBuf>,
    /// Milliseconds that each measurement takes
    #[arg(long, default_value_t = gateway::Scale::default().time.as_millis() as u64, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    milliseconds: u64,
    /// Whom of, separated by commas
    #[arg(long, value_delimiter = ',', default_values = gateway::Product::ALL.map(gateway::Product::name))]
    products: Vec<gateway::Product>,
    /// Times that everything is measured in turn
    #[arg(long, default_value_t = gateway::Scale::default().rounds, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(clap::Args)]
struct Kernel {
    #[command(flatten)]
    files: Files,
    /// Times that all columns are measured in turn
    #[arg(long, default_value_t = kernel::Scale::default().rounds, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Lines of the source table, a power of two
    #[arg(long, default_value_t = kernel::Scale::default().sources, value_parser = lines)]
    sources: u32,
}

#[derive(clap::Args)]
struct Revocation {
    #[command(flatten)]
    files: Files,
    /// Connections of others that are open meanwhile
    #[arg(long, default_value_t = revocation::Scale::default().connections, value_parser = clap::value_parser!(u32).range(..=20_000))]
    connections: u32,
    /// Revocations on each protocol
    #[arg(long, default_value_t = revocation::Scale::default().rounds, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(clap::Args)]
struct Files {
    /// File to write the results to
    #[arg(long)]
    json: Option<PathBuf>,
    /// The benchmark's BPF object
    #[arg(long)]
    object: PathBuf,
}

/// As the configuration takes them.
fn lines(text: &str) -> Result<u32, String> {
    let lines = text.parse().map_err(|error| format!("{error}"))?;
    match lines {
        1_024..=16_777_216 if u32::is_power_of_two(lines) => Ok(lines),
        _ => Err("write a power of two from 1024 to 16777216".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(&Subject::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(subject: &Subject) -> Result<()> {
    match subject {
        Subject::Auth(Auth { json, rounds }) => {
            let report = auth::run(&auth::Scale { rounds: *rounds, ..auth::Scale::default() })?;
            println!("{report}");
            write(json.as_deref(), &report.json())
        }
        Subject::Flood(Flood { files, rate, rounds, milliseconds }) => {
            root()?;
            let time = Duration::from_millis(*milliseconds);
            let report = flood::run(&flood::Scale { rate: *rate, rounds: *rounds, time }, &files.object()?)?;
            println!("{report}");
            files.write(&report.json())
        }
        Subject::Gateway(Gateway { cells, json, milliseconds, products, rounds }) => {
            root()?;
            let report = gateway::run(&gateway::Scale {
                cells: cells.clone(),
                products: products.clone(),
                rounds: *rounds,
                time: Duration::from_millis(*milliseconds),
                ..gateway::Scale::default()
            })?;
            println!("{report}");
            write(json.as_deref(), &report.json())
        }
        Subject::Revocation(Revocation { files, connections, rounds }) => {
            let report = revocation::run(&revocation::Scale { connections: *connections, rounds: *rounds })?;
            println!("{report}");
            files.write(&report.json())
        }
        Subject::Kernel(Kernel { files, rounds, sources }) => {
            root()?;
            let scale = kernel::Scale { rounds: *rounds, sources: *sources, ..kernel::Scale::default() };
            let report = kernel::run(&scale, &files.object()?)?;
            println!("{report}");
            files.write(&report.json())
        }
    }
}

impl Files {
    fn object(&self) -> Result<Vec<u8>> {
        fs::read(&self.object).with_context(|| format!("read {}", self.object.display()))
    }

    fn write(&self, json: &Value) -> Result<()> {
        write(self.json.as_deref(), json)
    }
}

fn root() -> Result<()> {
    match privilege::missing() {
        Some(reason) => bail!("the benchmark {reason}"),
        None => Ok(()),
    }
}

fn write(path: Option<&Path>, json: &Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, format!("{json:#}\n")).with_context(|| format!("write {}", path.display()))
}
