//! `bpf-linker`, which turns LLVM bitcode into a BPF object.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{LLVM, Rust, apt};
use crate::process;

/// Older ones abort on what a compiler with LLVM 22 writes (0.10.3 does).
const OLDEST: (u32, u32) = (0, 13);
/// The one that is built here when there is none.
const VERSION: &str = "0.13.0";

/// A linker that is new enough: on `PATH`, built here before, or built now.
pub fn find(rust: &Rust) -> Result<PathBuf> {
    let root = process::cache()?.join(format!("bpf-linker-{VERSION}"));
    let cached = root.join("bin/bpf-linker");
    let found = process::on_path("bpf-linker").into_iter().chain([cached.clone()]).find(|path| is_fit(path));
    if let Some(path) = found {
        return Ok(path);
    }
    install(rust, &root)?;
    ensure!(is_fit(&cached), "{} was built, but does not run", cached.display());
    Ok(cached)
}

fn is_fit(path: &Path) -> bool {
    path.is_file()
        && process::output(process::clean(path).arg("--version"))
            .is_ok_and(|text| version(&text) >= Some(OLDEST))
}

/// Major and minor of a text such as `bpf-linker 0.13.0`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().next_back()?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn install(rust: &Rust, root: &Path) -> Result<()> {
    let llvm = llvm()?;
    eprintln!("installing: bpf-linker {VERSION} with LLVM {LLVM}, about a minute");
    let features = format!("llvm-{LLVM}");
    let mut cargo = rust.cargo();
    cargo
        .args(["install", &format!("bpf-linker@{VERSION}"), "--quiet", "--locked", "--force"])
        .args(["--no-default-features", "--features", &features, "--root"])
        .arg(root)
        .env("LLVM_PREFIX", llvm);
    process::run(&mut cargo).context("check the network and that a C++ compiler is installed (Debian: g++)")
}

/// Where LLVM's headers and libraries are: `LLVM_PREFIX`, or the distribution's package.
fn llvm() -> Result<OsString> {
    if let Some(prefix) = env::var_os("LLVM_PREFIX") {
        return Ok(prefix);
    }
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    let complete =
        || ["include/llvm-c", "lib/libPolly.a"].iter().all(|part| Path::new(&prefix).join(part).exists());
    if !complete() {
        apt::install(&[&format!("libpolly-{LLVM}-dev"), &format!("llvm-{LLVM}-dev")])
            .with_context(|| format!("point LLVM_PREFIX at an LLVM {LLVM}, or"))?;
        ensure!(
            complete(),
            "{prefix} is incomplete after installing it: point LLVM_PREFIX at an LLVM {LLVM}"
        );
    }
    Ok(prefix.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        for (text, fit) in [
            ("bpf-linker 0.13.0\n", true),
            ("bpf-linker 0.9.15", false),
            ("bpf-linker 0.100.0", true),
            ("bpf-linker 1.0.0", true),
            ("", false),
            ("bpf-linker", false),
        ] {
            assert_eq!(version(text) >= Some(OLDEST), fit, "{text:?}");
        }
    }
}
