//! A real agent process, and its CLI.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::heirs;
use crate::issuer::{AUDIENCE, ISSUER, Issuer};
use crate::kernel::PinDirectory;
use crate::netns::Namespace;
use crate::pki::Authority;
use crate::system;

/// How long an agent may take to answer on its control socket, and to go when told to.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agents' log.
pub const LOG: &str = "agent.log";

/// A file of the setup; where there is one, it is what the agent's host trusts in place of its own authorities.
pub const HOST_AUTHORITIES: &str = "authorities.pem";

/// Waits until something holds.
///
/// # Errors
/// If it does not, with what it is.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Where the binary is: `AUTH_AGENT_BIN`, else beside this one.
///
/// # Errors
/// If it is in neither place.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("AUTH_AGENT_BIN") {
        return Ok(path.into());
    }
    let here = std::env::current_exe()?;
    let candidates = here.ancestors().skip(1).take(2).map(|folder| folder.join("auth-agent"));
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("auth-agent is not built: run `cargo xtask build`"))
}

/// A configuration: everything behind one upstream, `/admin` with the scope `admin`. The files that it names lie
/// beside it.
pub struct Scene<'a> {
    /// Where the filter goes.
    pub interface: &'a str,
    /// How.
    pub mode: &'a str,
    /// Where it is pinned.
    pub pins: &'a Path,
    /// The upstream's URL.
    pub upstream: &'a str,
}

impl fmt::Display for Scene<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, mode, pins, upstream } = self;
        let pins = pins.display();
        write!(
            f,
            r#"[kernel]
interfaces = ["{interface}"]
mode = "{mode}"
pin_directory = "{pins}"
sources = 65536

[store]
directory = "store"

[control]
socket = "control.sock"

[[listener]]
address = "[::]:8443"
certificate = "edge.pem"
key = "edge.key"

[[issuer]]
name = "test"
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["ES256"]
keys = "issuer.pem"

[[upstream]]
name = "echo"
endpoints = ["{upstream}"]

[[route]]
path = "/"
upstream = "echo"
auth = "required"

[[route]]
path = "/admin"
upstream = "echo"
auth = "required"
scopes = ["admin"]
"#
        )
    }
}

/// The files of an agent: configuration, certificate, issuer key, store and socket, in a folder of its own.
pub struct Setup {
    /// Signs the edge's certificate.
    pub authority: Authority,
    /// Signs its tokens.
    pub issuer: Issuer,
    folder: TempDir,
    pins: PinDirectory,
}

impl Setup {
    /// Makes everything but the configuration.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn new(names: &[&str]) -> Result<Self> {
        let setup = Self {
            authority: Authority::new()?,
            folder: tempfile::Builder::new().prefix("auth-agent-test-").tempdir()?,
            issuer: Issuer::new()?,
            pins: PinDirectory::new(),
        };
        let identity = setup.authority.issue(names)?;
        setup.write("edge.pem", &identity.certificate)?;
        setup.write("edge.key", &identity.key)?;
        setup.write("issuer.pem", setup.issuer.public_key())?;
        Ok(setup)
    }

    /// Where a file of the setup lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the setup.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.path(name), text).with_context(|| name.to_owned())
    }

    /// Where the filter is pinned.
    pub fn pins(&self) -> &Path {
        self.pins.path()
    }

    /// Writes a configuration for `interface`; `more` is added to it as it is.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn configure(&self, interface: &str, mode: &str, upstream: &str, more: &str) -> Result<()> {
        let open = "[[route]]\npath = \"/open\"\nupstream = \"echo\"\nauth = \"none\"\n";
        let scene = Scene { interface, mode, pins: self.pins(), upstream };
        self.write("config.toml", &format!("{scene}\n{open}\n{more}"))
    }

    /// Adds fields to `[kernel]`.
    ///
    /// # Errors
    /// If the configuration can't be read or written.
    pub fn configure_kernel(&self, fields: &str) -> Result<()> {
        let text = fs::read_to_string(self.path("config.toml"))?;
        self.write("config.toml", &text.replacen("[kernel]\n", &format!("[kernel]\n{fields}\n"), 1))
    }

    /// Runs a verb of the CLI.
    ///
    /// # Errors
    /// If the binary can't be run.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command()?.args(arguments).output()?)
    }

    /// Runs a verb with `--json`, and returns what it prints.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.cli(&[&["--json"], arguments].concat())?;
        ensure!(
            output.status.success(),
            "auth-agent {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The CLI, told where the configuration is.
    ///
    /// # Errors
    /// If it is not built.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("--config").arg(self.path("config.toml"));
        Ok(command)
    }

    /// The counter of a reason, from the agent's `status`.
    ///
    /// # Errors
    /// If `status` fails.
    pub fn counter(&self, reason: &str) -> Result<u64> {
        let status = self.json(&["status"])?;
        let counters = status["filter"]["counters"].as_array().context("status without counters")?;
        let counter = counters.iter().find(|counter| counter["reason"] == reason);
        Ok(counter.and_then(|counter| counter["packets"].as_u64()).unwrap_or(0))
    }

    /// Starts the agent inside `namespace`, and waits until it answers.
    ///
    /// # Errors
    /// If it ends instead, with the end of its log.
    pub fn start(&self, namespace: &Namespace) -> Result<Agent> {
        self.start_with(namespace, &[])
    }

    /// The same with options of `run`.
    ///
    /// # Errors
    /// If it ends instead, with the end of its log.
    pub fn start_with(&self, namespace: &Namespace, options: &[&str]) -> Result<Agent> {
        let mut agent = self.spawn(namespace, &[], &[], options)?;
        self.wait_for(&mut agent)?;
        Ok(agent)
    }

    /// Starts the agent inside `namespace` with more environment, by a program that ends in it if one is named, and does not
    /// wait for it.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn(
        &self,
        namespace: &Namespace,
        environment: &[(&str, &str)],
        by: &[&str],
        options: &[&str],
    ) -> Result<Agent> {
        let file = File::options().create(true).append(true).open(self.path(LOG))?;
        let program = binary()?;
        let program = program.to_string_lossy();
        let line: Vec<&str> = by.iter().copied().chain([&*program]).collect();
        let mut command = namespace.command(line[0]);
        command.args(&line[1..]).arg("--config").arg(self.path("config.toml")).arg("run").args(options);
        command.envs(environment.iter().copied());
        let authorities = self.path(HOST_AUTHORITIES);
        if authorities.exists() {
            command.env("SSL_CERT_FILE", authorities);
        }
        // nsenter replaces itself by the agent, so this is the agent's own process id.
        let child = command.stdout(file.try_clone()?).stderr(file).spawn().context("nsenter is missing")?;
        Ok(Agent { child })
    }

    /// Waits until the agent answers.
    ///
    /// # Errors
    /// If it ends instead, with the end of its log.
    pub fn wait_for(&self, agent: &mut Agent) -> Result<()> {
        let log = self.path(LOG);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = agent.child.try_wait()? {
                bail!("the agent ended ({status}): {}", tail(&log));
            }
            // Whether anyone listens is asked first, since it takes no process.
            let listens = UnixStream::connect(self.path("control.sock")).is_ok();
            if listens && self.cli(&["status"])?.status.success() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the agent does not answer: {}", tail(&log));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Agents that took over from others are nobody's children.
impl Drop for Setup {
    fn drop(&mut self) {
        let config = self.path("config.toml");
        if let Err(error) = heirs::end(&config) {
            eprintln!("left behind: {error:#}");
        }
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// A running agent; killed with its guard.
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    ///
    /// # Errors
    /// If it is already gone.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops it, as if the machine had no time for it.
    ///
    /// # Errors
    /// If it is already gone.
    pub fn pause(&self) -> Result<()> {
        Ok(system::pause(self.child.id())?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it is already gone.
    pub fn resume(&self) -> Result<()> {
        Ok(system::resume(self.child.id())?)
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// If it is already gone.
    pub fn terminate(&self) -> Result<()> {
        Ok(system::terminate(self.child.id())?)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the agent does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let ended = self.child.kill().and_then(|()| self.child.wait());
            if let Err(error) = ended {
                eprintln!("left behind: {error}");
            }
        }
    }
}
