//! `cargo xtask build`: the BPF object, then the agent that carries it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;
use crate::setup::{self, Toolchain};

/// The object runs on this machine, in its byte order.
const TARGET: &str = if cfg!(target_endian = "little") { "bpfel-unknown-none" } else { "bpfeb-unknown-none" };

#[derive(clap::Args)]
pub struct Args {
    /// Build the agent optimised
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<()> {
    publish_object(&setup::toolchain()?)?;
    host(&["--package", "auth-agent"], args.release)?;
    eprintln!("agent:      {}", agent(args.release)?.display());
    Ok(())
}

/// Builds the object, the agent and a binary of the `tests` package that drives it; returns both paths.
pub fn driver(toolchain: &Toolchain, name: &str, release: bool) -> Result<(PathBuf, PathBuf)> {
    publish_object(toolchain)?;
    // In one go: apart, cargo would build the agent twice, for two sets of its dependencies' features.
    host(&["--package", "auth-agent", "--package", "tests", "--bin", "auth-agent", "--bin", name], release)?;
    Ok((process::binaries(release)?.join(name), agent(release)?))
}

/// Builds the objects, the agent and all tests in the one way that `cargo test` then finds built; returns
/// the agent's path.
pub fn everything(toolchain: &Toolchain) -> Result<PathBuf> {
    publish_object(toolchain)?;
    publish_bench_object(toolchain)?;
    publish(toolchain, "witness", &witness_object())?;
    host(&["--workspace", "--exclude", "auth-ebpf", "--all-targets"], false)?;
    agent(false)
}

fn host(what: &[&str], release: bool) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--locked"]).args(what);
    if release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)
}

fn agent(release: bool) -> Result<PathBuf> {
    Ok(process::binaries(release)?.join("auth-agent"))
}

/// Where the object lies for `auth-agent/build.rs` and for the tests.
pub fn object() -> PathBuf {
    process::root().join("target/bpf/auth-ebpf")
}

/// Where the object of the benchmark lies; it is never part of the agent.
pub fn bench_object() -> PathBuf {
    process::root().join("target/bpf/bench")
}

/// Where the object of the tests' witness lies; it is never part of the agent.
pub fn witness_object() -> PathBuf {
    process::root().join("target/bpf/witness")
}

/// A cargo command for the BPF crate alone.
pub fn bpf_cargo(toolchain: &Toolchain, verb: &str) -> Command {
    // v3 has the 32-bit and atomic instructions that the source table needs; BTF needs debug information.
    let linker = format!("-Clinker={}", toolchain.linker.display());
    let flags = ["-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clink-arg=--btf", &linker].join("\x1f");
    let mut cargo = toolchain.rust.cargo();
    cargo
        .args([verb, "--locked", "--release", "--package", "auth-ebpf"])
        .args(["--target", TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(build_directory())
        .env("CARGO_ENCODED_RUSTFLAGS", flags);
    cargo
}

fn publish_object(toolchain: &Toolchain) -> Result<()> {
    publish(toolchain, "auth-ebpf", &object())
}

/// Builds the object of the benchmark.
pub fn publish_bench_object(toolchain: &Toolchain) -> Result<()> {
    publish(toolchain, "bench", &bench_object())
}

fn publish(toolchain: &Toolchain, name: &str, to: &Path) -> Result<()> {
    process::run(bpf_cargo(toolchain, "build").args(["--bin", name])).with_context(|| {
        format!(
            "build the BPF object {name}; if {} failed, its LLVM may be older than rustc's: remove it",
            toolchain.linker.display()
        )
    })?;
    let built = build_directory().join(TARGET).join("release").join(name);
    copy_if_changed(&built, to).with_context(|| format!("copy {}", built.display()))
}

/// Apart from the host's build: other flags, another compiler.
fn build_directory() -> PathBuf {
    process::root().join("target/bpf-build")
}

/// An unchanged object keeps its time stamp, so that the agent isn't built again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from)?;
    match fs::read(to) {
        Ok(old) if old == new => return Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    let partial = to.with_extension("partial");
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&partial, new)?;
    Ok(fs::rename(partial, to)?)
}
