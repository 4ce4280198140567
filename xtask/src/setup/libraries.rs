//! Other people's libraries, for the tests that talk to them: PyJWT and jose, WebSocket libraries, HTTP/2 and gRPC, each
//! at one version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process;

const PYTHON: [&str; 6] = [
    "pyjwt==2.10.1",
    "cryptography==50.0.2",
    "grpcio==1.85.1",
    "websockets==17.4",
    "h2==4.4.1",
    "wsproto==1.3.2",
];
const NODE: &str = "jose@5.9.6";

/// Both are fetched within a minute where there is a network.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// A folder with a virtual environment in `py` and modules for Node in `js`.
///
/// # Errors
/// Where they can't be had: without Python, Node, or a network.
pub fn find() -> Result<PathBuf> {
    for program in ["python3", "node", "npm"] {
        ensure!(process::on_path(program).is_some(), "there is no {program}: install it");
    }
    let folder = process::cache()?.join("interop");
    let made_of = format!("{} {NODE}", PYTHON.join(" "));
    if fs::read_to_string(folder.join("made-of")).ok().as_deref() != Some(&made_of) {
        fetch(&folder).context("no libraries to test against")?;
        fs::write(folder.join("made-of"), &made_of)?;
    }
    eprintln!("libraries:  {made_of} in {}", folder.display());
    Ok(folder)
}

fn fetch(folder: &Path) -> Result<()> {
    eprintln!("fetching:   {}, {NODE}", PYTHON.join(", "));
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let (python, node) = (folder.join("py"), folder.join("js"));
    fs::create_dir_all(&node)?;
    process::run(Command::new("python3").args(["-m", "venv"]).arg(&python))?;
    let log = folder.join("fetch.log");
    let mut pip = Command::new(python.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(PYTHON);
    process::run_logged(&mut pip, &log, LIMIT)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--prefix"]);
    process::run_logged(npm.arg(&node).arg(NODE), &log, LIMIT)
}
