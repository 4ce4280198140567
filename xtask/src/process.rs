//! Child processes, and where things lie.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::{Context as _, Result, bail, ensure};

/// The workspace's root.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Where cargo puts the host's binaries: beside this one, whatever configuration chose that folder.
pub fn binaries(release: bool) -> Result<PathBuf> {
    let own = env::current_exe().context("find this program's own path")?;
    let directory = own.parent().context("find the build folder")?;
    Ok(directory.with_file_name(if release { "release" } else { "debug" }))
}

/// What is kept between builds, outside the source tree.
pub fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => Path::new(&env::var_os("HOME").context("HOME is not set: set it or XDG_CACHE_HOME")?)
            .join(".cache"),
    };
    let directory = base.join("auth-edge");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    Ok(directory)
}

/// The cargo that runs this program, in the workspace's root.
pub fn cargo() -> Command {
    let mut command = clean("cargo");
    command.current_dir(root());
    command
}

/// A command without what `cargo run` adds to the environment about this package: build scripts that
/// watch those variables would run again, each time for the other half of the callers.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let about_us = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(about_us) {
            command.env_remove(name);
        }
    }
    command
}

/// Becomes the command, so that signals reach it alone. Returns only if that fails.
pub fn exec(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("run {}", name(command)))
}

/// The program on `PATH`, or in the folders of system tools that a user's `PATH` may lack.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Runs the command to success, its output going where ours goes.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {}", name(command)))?;
    ensure!(status.success(), "{} failed ({status})", line(command));
    Ok(())
}

/// Runs the command to success and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output().with_context(|| format!("run {}", name(command)))?;
    ensure!(output.status.success(), "{} failed ({})", line(command), output.status);
    String::from_utf8(output.stdout).with_context(|| format!("read what {} printed", name(command)))
}

/// Runs the command to success within `limit`, its output going to `log`; the error carries the most
/// telling line of that.
pub fn run_logged(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
    match wait(command, limit).with_context(|| format!("run {}", name(command)))? {
        None => bail!("{} took longer than {} s", line(command), limit.as_secs()),
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let text = fs::read_to_string(log).unwrap_or_default();
            bail!(
                "{} failed ({status}): {}; the rest is in {}",
                line(command),
                telling_line(&text),
                log.display()
            )
        }
    }
}

/// The first that says it is an error (rustup, apt-get), else the last.
fn telling_line(text: &str) -> &str {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| ["error", "E: "].iter().any(|start| line.starts_with(start)));
    error.or(lines.next_back()).unwrap_or("it printed nothing")
}

fn wait(command: &mut Command, limit: Duration) -> io::Result<Option<ExitStatus>> {
    const POLL: Duration = Duration::from_millis(50);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    format!("`{}`", words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" "))
}
