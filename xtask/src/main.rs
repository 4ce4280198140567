//! `cargo xtask <verb>`: builds, runs and tests the project. One file per verb.

mod bench;
mod build;
mod demo;
mod process;
mod run;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Builds, runs and tests the project")]
enum Verb {
    /// Measure, each competitor in the same run (root, but for `auth`)
    #[command(subcommand)]
    Bench(bench::Subject),
    /// Build the BPF object, then the agent
    Build(build::Args),
    /// Play every promise against the real agent in network namespaces (root)
    Demo,
    /// Run the agent: a ready-made development setup, or your own configuration (root)
    Run(run::Args),
    /// Find or install the BPF toolchain and the tools that the tests use
    Setup,
    /// Everything that must hold before a change is merged
    Test(test::Args),
    /// Check the repository's own rules
    Tidy,
}

const FAILURE: u8 = 1;
/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let verb = match Verb::try_parse() {
        Ok(verb) => verb,
        Err(error) => {
            // Nowhere is left to report a failure to print.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let result = match verb {
        Verb::Bench(subject) => bench::run(&subject),
        Verb::Build(args) => build::run(&args),
        Verb::Demo => demo::run(),
        Verb::Run(args) => run::run(&args),
        Verb::Setup => setup::run(),
        Verb::Test(args) => test::run(&args),
        Verb::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILURE)
        }
    }
}
