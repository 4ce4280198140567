//! `cargo xtask test`: everything that must hold before a change is merged. `.ci/run` calls this and nothing else.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::setup::{self, Toolchain};
use crate::{build, process, tidy};

#[derive(clap::Args)]
pub struct Args {
    /// Run the generated tests over many more cases, for minutes
    #[arg(long)]
    long: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    let (toolchain, envoy, guest, libraries) = steps.run("setup", || {
        setup::tools()?;
        setup::counterparts();
        Ok((setup::toolchain()?, setup::envoy(), setup::guest(), setup::libraries()))
    })?;
    let agent = steps.run("build", || build::everything(&toolchain))?;
    steps.run("format", || process::run(process::cargo().args(["fmt", "--all", "--check"])))?;
    steps.run("clippy", || clippy(&toolchain))?;
    steps.run("tidy", tidy::run)?;
    steps.run("tests", || {
        let mut tests = process::cargo();
        tests
            .envs(path_with(envoy.as_deref()))
            .envs(guest.iter().map(|folder| ("AUTH_GUEST", folder)))
            .envs(libraries.iter().map(|folder| ("AUTH_INTEROP", folder)))
            .args(["test", "--locked", "--workspace", "--exclude", "auth-ebpf"])
            .env("AUTH_AGENT_BIN", &agent)
            .env("AUTH_BENCH_OBJECT", build::bench_object())
            .env("AUTH_EBPF_OBJECT", build::object())
            .env("AUTH_WITNESS_OBJECT", build::witness_object());
        if args.long {
            tests.env("AUTH_TEST_LONG", "1");
        }
        process::run(&mut tests)
    })?;
    steps.report();
    Ok(())
}

/// The first step that fails ends the run, and is named.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("== {name}");
        let start = Instant::now();
        let result = step().with_context(|| format!("step `{name}`"))?;
        self.done.push((name, start.elapsed()));
        Ok(result)
    }

    fn report(&self) {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let steps: Vec<_> =
            self.done.iter().map(|(name, time)| format!("{name} {}", seconds(*time))).collect();
        let total = self.done.iter().map(|(_, time)| *time).sum();
        eprintln!("== passed in {}: {}", seconds(total), steps.join(", "));
    }
}

/// Where the tests look for programs: Envoy is in no usual place.
fn path_with(envoy: Option<&Path>) -> Option<(&'static str, OsString)> {
    let path = env::var_os("PATH")?;
    let folders = env::split_paths(&path).chain(envoy?.parent().map(Path::to_owned));
    Some(("PATH", env::join_paths(folders).ok()?))
}

fn clippy(toolchain: &Toolchain) -> Result<()> {
    const HOST: [&str; 8] =
        ["clippy", "--locked", "--workspace", "--exclude", "auth-ebpf", "--all-targets", "--", "-Dwarnings"];
    process::run(process::cargo().args(HOST))?;
    let driver = toolchain.rust.program("clippy-driver");
    if !driver.is_file() {
        eprintln!("skipped: clippy for auth-ebpf: {} does not exist", driver.display());
        return Ok(());
    }
    // Warnings are shown, not denied: which lints warn depends on whose compiler was found.
    process::run(build::bpf_cargo(toolchain, "check").env("RUSTC_WORKSPACE_WRAPPER", driver))
}
