//! Other people's libraries, where `cargo xtask setup` could fetch them, and scripts that run on them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::netns::Namespace;
use crate::privilege;

/// Names the folder that the libraries are in.
pub const FOLDER: &str = "AUTH_INTEROP";

/// The folder, or the words that the test is skipped.
///
/// # Panics
/// Where the environment has `CI` set and they could not be fetched.
pub fn folder(test: &str) -> Option<PathBuf> {
    let runs = |program| Command::new(program).arg("--version").output().is_ok();
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    match folder {
        Some(folder) => Some(folder),
        None if runs("python3") && runs("node") => {
            privilege::skip(test, format!("{FOLDER} is not set, as `cargo xtask test` could not fetch them"));
            None
        }
        None => {
            privilege::say(test, "Python or Node is not installed");
            None
        }
    }
}

fn python(namespace: &Namespace, folder: &Path, script: &Path, arguments: &[&str]) -> Command {
    let mut command = namespace.command(&folder.join("py/bin/python").to_string_lossy());
    command.arg(script).args(arguments);
    command
}

/// Runs a Python script inside a namespace to its end, and returns the JSON that it prints.
///
/// # Errors
/// If it fails, with what it said.
pub fn call(namespace: &Namespace, folder: &Path, script: &Path, arguments: &[&str]) -> Result<Value> {
    let output = python(namespace, folder, script, arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {said}", script.display(), output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("{}: {said}", script.display()))
}

/// A Python script that serves; killed with its guard.
pub struct Server(Child);

impl Server {
    /// Starts it inside a namespace, and returns when it says that it is ready.
    ///
    /// # Errors
    /// If it ends instead.
    pub fn start(namespace: &Namespace, folder: &Path, script: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = python(namespace, folder, script, arguments);
        let mut server = Self(command.stdout(Stdio::piped()).spawn()?);
        let mut said = String::new();
        BufReader::new(server.0.stdout.as_mut().context("no standard output")?).read_line(&mut said)?;
        ensure!(said == "ready\n", "{} does not serve: {said}", script.display());
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("left behind: {error}");
        }
    }
}
