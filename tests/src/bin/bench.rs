//! `cargo xtask bench`: what the filter costs beside its competitors.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tests::bench::kernel::{self, Scale};
use tests::privilege;

/// Measures, each competitor in the same run
#[derive(Parser)]
enum Subject {
    /// What a packet costs in the filter, through BPF_PROG_TEST_RUN
    Kernel(Kernel),
}

#[derive(clap::Args)]
struct Kernel {
    /// File to write the results to
    #[arg(long)]
    json: Option<PathBuf>,
    /// The benchmark's BPF object
    #[arg(long)]
    object: PathBuf,
    /// Times that all columns are measured in turn
    #[arg(long, default_value_t = Scale::default().rounds, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Lines of the source table, a power of two
    #[arg(long, default_value_t = Scale::default().sources, value_parser = lines)]
    sources: u32,
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
    let Subject::Kernel(kernel) = Subject::parse();
    match run(&kernel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Kernel) -> Result<()> {
    if let Some(reason) = privilege::missing() {
        bail!("the benchmark {reason}");
    }
    let object = fs::read(&args.object).with_context(|| format!("read {}", args.object.display()))?;
    let scale = Scale { rounds: args.rounds, sources: args.sources, ..Scale::default() };
    let report = kernel::run(&scale, &object)?;
    println!("{report}");
    if let Some(path) = &args.json {
        fs::write(path, format!("{:#}\n", report.json()))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
