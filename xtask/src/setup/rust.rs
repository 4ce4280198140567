//! A Rust toolchain that can build `core` for the BPF target.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::{LLVM, apt};
use crate::process;

/// The workspace's `rust-version`.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// `rustup component add` fetches a few megabytes; without a network it must not hang.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// Where a distribution's packages put `rustc` and `cargo`.
const DISTRIBUTION: &str = "/usr/bin";
const PACKAGES: [&str; 3] = ["cargo-web", "rust-web-src", "rustc-web"];

/// A Rust toolchain.
#[derive(Clone, Debug)]
pub struct Rust {
    bin: PathBuf,
    llvm: u32,
    name: String,
    release: String,
}

impl fmt::Display for Rust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} (rustc {}, LLVM {})", self.name, self.bin.display(), self.release, self.llvm)
    }
}

impl Rust {
    /// The toolchain whose programs lie in `bin`.
    fn at(bin: PathBuf, name: &str) -> Result<Self> {
        let version =
            process::output(process::clean(bin.join("rustc")).arg("-vV").env_remove("LD_LIBRARY_PATH"))?;
        let field = |key| version.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let release = field("release:").context("`rustc -vV` names no release")?.to_owned();
        let llvm = field("LLVM version:").and_then(major).context("`rustc -vV` names no LLVM version")?;
        Ok(Self { bin, llvm, name: name.to_owned(), release })
    }

    /// A cargo command of this toolchain, whatever toolchain runs this program. Unstable flags are
    /// accepted from a stable compiler too: `core` must come from the compiler's own source.
    pub fn cargo(&self) -> Command {
        // The rustup proxy, `cargo run` and the user may all have chosen other tools for the host's build.
        const CHOSEN: [&str; 11] = [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "LD_LIBRARY_PATH",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTDOC",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "RUST_RECURSION_COUNT",
        ];
        let mut command = process::clean(self.program("cargo"));
        for name in CHOSEN {
            command.env_remove(name);
        }
        command.env("RUSTC", self.program("rustc")).env("RUSTC_BOOTSTRAP", "1").current_dir(process::root());
        command
    }

    /// Path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// What keeps it from building this project, if anything.
    fn unfit(&self) -> Option<String> {
        if minor(&self.release) < minor(OLDEST) {
            Some(format!("{} is older than {OLDEST}", self.release))
        } else if self.llvm > LLVM {
            Some(format!("its LLVM {} is newer than bpf-linker's {LLVM}", self.llvm))
        } else if !self.program("cargo").is_file() {
            Some(format!("there is no cargo in {}", self.bin.display()))
        } else {
            None
        }
    }

    fn has_source(&self) -> bool {
        self.bin.parent().is_some_and(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").is_dir())
    }
}

/// A toolchain that can build for BPF: a rustup nightly, the active rustup toolchain or the distribution's,
/// in that order; first as it is, then by adding the source of `core` to it.
pub fn find() -> Result<Rust> {
    let mut refused = Vec::new();
    let mut fit = |found: Result<Rust>, name: &str| match found {
        Err(error) => refuse(&mut refused, name, format!("{error:#}")),
        Ok(rust) => match rust.unfit() {
            Some(why) => refuse(&mut refused, name, why),
            None => Some(rust),
        },
    };
    let rustup: Vec<_> =
        rustup_toolchains().into_iter().filter_map(|(name, bin)| fit(Rust::at(bin, &name), &name)).collect();
    let distribution = if has_rustc(DISTRIBUTION) { fit(distribution(), "the distribution's") } else { None };
    if let Some(rust) = rustup.iter().chain(&distribution).find(|rust| rust.has_source()) {
        return Ok(rust.clone());
    }
    for rust in rustup {
        match add_source(&rust) {
            Ok(()) => return Ok(rust),
            Err(error) => refused.push(format!("{}: {error:#}", rust.name)),
        }
    }
    install().map_err(|error| anyhow!("{error:#} (tried before: {})", none_if_empty(&refused)))
}

fn refuse(refused: &mut Vec<String>, name: &str, why: String) -> Option<Rust> {
    refused.push(format!("{name}: {why}"));
    None
}

fn none_if_empty(refused: &[String]) -> String {
    if refused.is_empty() { "nothing was found".to_owned() } else { refused.join("; ") }
}

/// Name and program folder of each nightly, then of the active toolchain.
fn rustup_toolchains() -> Vec<(String, PathBuf)> {
    let Ok(list) = process::output(Command::new("rustup").args(["toolchain", "list", "-v"])) else {
        return Vec::new();
    };
    let of = |wanted: fn(&str) -> bool| list.lines().filter(move |line| wanted(line)).filter_map(toolchain);
    of(|line| line.starts_with("nightly"))
        .chain(of(|line| !line.starts_with("nightly") && line.contains("active")))
        .collect()
}

/// A line such as `stable-x86_64-unknown-linux-gnu (active, default) /home/me/.rustup/toolchains/...`.
fn toolchain(line: &str) -> Option<(String, PathBuf)> {
    let name = line.split_whitespace().next()?;
    let path = &line[line.find('/')?..];
    Some((name.to_owned(), Path::new(path).join("bin")))
}

fn add_source(rust: &Rust) -> Result<()> {
    eprintln!("installing: rust-src for {}", rust.name);
    let log = process::cache()?.join("rustup.log");
    let mut command = Command::new("rustup");
    command.args(["component", "add", "rust-src", "--toolchain", &rust.name]);
    process::run_logged(&mut command, &log, RUSTUP_LIMIT)?;
    rust.has_source().then_some(()).context("rustup added rust-src, but the source of core is not there")
}

/// Debian keeps a current compiler beside its stable one, for browsers.
fn install() -> Result<Rust> {
    apt::install(&PACKAGES).context("run `rustup component add rust-src`, or")?;
    let rust = distribution()?;
    match rust.unfit() {
        Some(why) => Err(anyhow!("the distribution's rustc can't be used: {why}")),
        None if rust.has_source() => Ok(rust),
        None => Err(anyhow!("the distribution's rustc came without the source of core")),
    }
}

fn distribution() -> Result<Rust> {
    Rust::at(PathBuf::from(DISTRIBUTION), "the distribution's")
}

fn has_rustc(bin: &str) -> bool {
    Path::new(bin).join("rustc").is_file()
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// `95` of `1.95.0-nightly`; Rust's major version is 1 for good.
fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_line_gives_name_and_folder() {
        let plain = "nightly-2026-05-19 /home/a b/.rustup/toolchains/nightly";
        let active = "stable (active, default) /root/stable";
        assert_eq!(
            toolchain(plain),
            Some((
                "nightly-2026-05-19".to_owned(),
                PathBuf::from("/home/a b/.rustup/toolchains/nightly/bin")
            ))
        );
        assert_eq!(toolchain(active), Some(("stable".to_owned(), PathBuf::from("/root/stable/bin"))));
        assert_eq!(toolchain("no installed toolchains"), None);
    }

    #[test]
    fn an_old_compiler_and_a_newer_llvm_are_refused_by_name() {
        let rust = |release: &str, llvm| Rust {
            bin: PathBuf::from("/nonexistent"),
            llvm,
            name: "test".to_owned(),
            release: release.to_owned(),
        };
        let why = |release, llvm| rust(release, llvm).unfit().unwrap();
        assert!(why("1.80.1", 18).contains("older"));
        assert!(why("1.99.0-nightly", LLVM + 1).contains("newer"));
        assert!(why("1.97.0-nightly", LLVM).contains("no cargo"));
    }
}
