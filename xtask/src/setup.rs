//! `cargo xtask setup`: finds or installs what the filter is built with and what the tests run with.
//!
//! Whatever is already here is used before anything is fetched, so that a second call is quick and needs
//! no network.

mod apt;
mod envoy;
mod guest;
mod libraries;
mod linker;
mod rust;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

pub use self::rust::Rust;
use crate::process;

/// LLVM's major version in `bpf-linker`; it reads what a compiler with this or an older LLVM wrote.
const LLVM: u32 = 22;

/// Programs that the tests and the demo call, and the Debian packages that hold them.
const TOOLS: [(&str, &str); 4] =
    [("curl", "curl"), ("ip", "iproute2"), ("nghttp", "nghttp2-client"), ("nsenter", "util-linux")];

/// What the BPF object is built with.
pub struct Toolchain {
    /// The linker's path.
    pub linker: PathBuf,
    /// A compiler with the source of `core`.
    pub rust: Rust,
}

pub fn run() -> Result<()> {
    toolchain()?;
    tools()?;
    counterparts();
    envoy();
    guest();
    libraries();
    Ok(())
}

/// What the object is built with.
pub fn toolchain() -> Result<Toolchain> {
    let rust = rust::find().context("no Rust toolchain can build for BPF")?;
    eprintln!("rust:       {rust}");
    let linker = linker::find(&rust).context("no bpf-linker")?;
    eprintln!("bpf-linker: {}", linker.display());
    Ok(Toolchain { linker, rust })
}

/// What the tests and the demo call.
pub fn tools() -> Result<()> {
    let missing: Vec<_> =
        TOOLS.into_iter().filter(|(program, _)| process::on_path(program).is_none()).collect();
    if !missing.is_empty() {
        let packages: Vec<_> = missing.iter().map(|&(_, package)| package).collect();
        apt::install(&packages).context("the tests need curl, ip, nghttp and nsenter")?;
    }
    eprintln!("tools:      {}", TOOLS.map(|(program, _)| program).join(", "));
    bpffs()
}

/// What a benchmark compares with, or a test runs against: installed if it can be, else they say what they went without.
pub fn optional(program: &str, package: &str) {
    if process::on_path(program).is_none()
        && let Err(error) = apt::install(&[package])
    {
        eprintln!("{program}: not installed: {error:#}");
    }
}

/// What the agent is tested with: proxies that ask it, and a server that certificates are got from. Where one can't be had,
/// its tests say that they were skipped.
pub fn counterparts() {
    for program in ["caddy", "nginx", "pebble"] {
        optional(program, program);
    }
}

/// Envoy: for its tests and the benchmark of the gateway, which say what they went without.
pub fn envoy() -> Option<PathBuf> {
    envoy::find().inspect_err(|error| eprintln!("envoy:      none: {error:#}")).ok()
}

/// The machine that tests run in on an older kernel. Where it can't be had, they say that they were skipped.
pub fn guest() -> Option<PathBuf> {
    guest::find().inspect_err(|error| eprintln!("guest:      none: {error:#}")).ok()
}

/// What tokens, messages and calls are exchanged with in tests. Where they can't be had, those tests say that they were skipped.
pub fn libraries() -> Option<PathBuf> {
    libraries::find().inspect_err(|error| eprintln!("libraries:  none: {error:#}")).ok()
}

/// Where the filter is pinned. systemd mounts it; a container or a minimal host may not.
fn bpffs() -> Result<()> {
    const BPFFS: &str = "/sys/fs/bpf";
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let mounted = mounts.lines().any(|mount| mount.split(' ').nth(1) == Some(BPFFS));
    match (mounted, apt::is_root()) {
        (true, _) => eprintln!("bpffs:      {BPFFS}"),
        (false, true) => {
            process::run(Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))?;
            eprintln!("bpffs:      mounted at {BPFFS}");
        }
        (false, false) => eprintln!("bpffs:      not mounted: run `sudo mount -t bpf bpf {BPFFS}`"),
    }
    Ok(())
}
