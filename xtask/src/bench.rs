//! `cargo xtask bench <subject>`: measurements beside the competitors', for people to read; no test asserts them.

use std::path::PathBuf;

use anyhow::Result;

use crate::{build, process, setup};

#[derive(clap::Subcommand)]
pub enum Subject {
    /// What a packet costs in the filter, through `BPF_PROG_TEST_RUN`
    Kernel(Kernel),
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

pub fn run(subject: &Subject) -> Result<()> {
    let toolchain = setup::toolchain()?;
    setup::tools()?;
    let (bench, _) = build::driver(&toolchain, "bench", false)?;
    build::publish_bench_object(&toolchain)?;
    let mut bench = process::clean(bench);
    match subject {
        Subject::Kernel(kernel) => {
            bench.arg("kernel").arg("--object").arg(build::bench_object());
            let numbers = [("--rounds", kernel.rounds), ("--sources", kernel.sources)];
            for (name, number) in numbers.iter().filter_map(|(name, number)| Some((name, (*number)?))) {
                bench.arg(name).arg(number.to_string());
            }
            bench.args(kernel.json.iter().flat_map(|file| ["--json".as_ref(), file.as_os_str()]));
        }
    }
    process::exec(&mut bench)
}
