//! `cargo xtask bench <subject>`: measurements beside the competitors', for people to read; no test asserts them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{build, process, setup};

#[derive(clap::Subcommand)]
pub enum Subject {
    /// What a flood leaves of a client's requests: with the filter, with nftables, with neither
    Flood(Flood),
    /// What a packet costs in the filter, through `BPF_PROG_TEST_RUN`
    Kernel(Kernel),
    /// How soon a revocation ends what goes on, while many connections are open
    Revocation(Revocation),
}

#[derive(clap::Args)]
pub struct Flood {
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Packets of a flood in a second [default: 100000]
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Times that all variants are measured in turn
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// How long each measurement takes [default: 500]
    #[arg(long, value_name = "MS")]
    milliseconds: Option<u32>,
}

#[derive(clap::Args)]
pub struct Kernel {
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Times that all columns are measured in turn
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Lines of the source table, a power of two; the baseline gets as many entries
    #[arg(long, value_name = "N")]
    sources: Option<u32>,
}

#[derive(clap::Args)]
pub struct Revocation {
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Connections of others that are open meanwhile [default: 10000]
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// Revocations on each protocol [default: 100]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
}

pub fn run(subject: &Subject) -> Result<()> {
    let toolchain = setup::toolchain()?;
    setup::tools()?;
    // The agent is measured as it is shipped.
    let release = matches!(subject, Subject::Flood(_) | Subject::Revocation(_));
    let (bench, agent) = build::driver(&toolchain, "bench", release)?;
    build::publish_bench_object(&toolchain)?;
    let mut bench = process::clean(bench);
    match subject {
        Subject::Flood(flood) => {
            setup::competitor("nft", "nftables");
            bench.arg("flood").env("AUTH_AGENT_BIN", agent);
            let numbers =
                [("--rate", flood.rate), ("--rounds", flood.rounds), ("--milliseconds", flood.milliseconds)];
            pass_on(&mut bench, flood.json.as_ref(), &numbers);
        }
        Subject::Revocation(revocation) => {
            bench.arg("revocation").env("AUTH_AGENT_BIN", agent);
            let numbers = [("--connections", revocation.connections), ("--rounds", revocation.rounds)];
            pass_on(&mut bench, revocation.json.as_ref(), &numbers);
        }
        Subject::Kernel(kernel) => {
            setup::competitor("xdp-filter", "xdp-tools");
            bench.arg("kernel");
            let numbers = [("--rounds", kernel.rounds), ("--sources", kernel.sources)];
            pass_on(&mut bench, kernel.json.as_ref(), &numbers);
        }
    }
    process::exec(&mut bench)
}

fn pass_on(bench: &mut Command, json: Option<&PathBuf>, numbers: &[(&str, Option<u32>)]) {
    bench.arg("--object").arg(build::bench_object());
    for (name, number) in numbers.iter().filter_map(|(name, number)| Some((name, (*number)?))) {
        bench.arg(name).arg(number.to_string());
    }
    bench.args(json.into_iter().flat_map(|file| ["--json".as_ref(), file.as_os_str()]));
}
