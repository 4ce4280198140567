//! `cargo xtask run`: the agent with a development setup on the loopback, until Ctrl-C.
//!
//! The setup is kept under the build folder, so that certificates and revocations survive from run to run;
//! tokens and the API key are made anew each time.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::Value;
use tests::agent::Scene;
use tests::issuer::Issuer;
use tests::pki::Authority;
use tests::upstream::Upstream;
use tests::{heirs, privilege, system};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

const PATIENCE: Duration = Duration::from_secs(20);
const KEY_NAME: &str = "development";

/// Runs the agent with a development setup, or with a configuration of your own, until Ctrl-C
#[derive(Parser)]
struct Args {
    /// Path of the agent's binary
    #[arg(long)]
    agent: PathBuf,
    /// Configuration to use instead of the development setup
    #[arg(long, conflicts_with = "interface")]
    config: Option<PathBuf>,
    /// Interface to attach to instead of lo
    #[arg(long)]
    interface: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    if let Some(reason) = privilege::missing() {
        bail!("attaching an XDP program {reason}");
    }
    let Some(config) = &args.config else {
        return develop(args).await;
    };
    let edge = Edge { agent: &args.agent, config };
    let agent = edge.start().await?;
    println!("\nThe edge is up with {}. Ctrl-C stops it and detaches the filter.", config.display());
    edge.until_interrupted(agent).await
}

async fn develop(args: &Args) -> Result<()> {
    let folder = folder(&args.agent)?;
    let upstream = Upstream::start(None, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let issuer = prepare(&folder, args.interface.as_deref(), upstream.address())?;
    let config = folder.join("config.toml");
    let edge = Edge { agent: &args.agent, config: &config };
    let agent = edge.start().await?;
    match edge.new_key().await.and_then(|key| tell(&folder, &args.agent, &issuer, &key)) {
        Ok(()) => edge.until_interrupted(agent).await,
        Err(error) => {
            edge.stop(agent).await?;
            Err(error)
        }
    }
}

/// `target/dev`, beside the profile's folder that the agent was built into.
fn folder(agent: &Path) -> Result<PathBuf> {
    let build = agent.parent().and_then(Path::parent).context("the agent is not in a build folder")?;
    let folder = build.join("dev");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder.canonicalize()?)
}

/// Writes what is missing, and the configuration.
fn prepare(folder: &Path, interface: Option<&str>, upstream: SocketAddr) -> Result<Issuer> {
    if !folder.join("ca.pem").is_file() {
        let authority = Authority::new()?;
        let edge = authority.issue(&["localhost", "127.0.0.1", "::1"])?;
        fs::write(folder.join("edge.pem"), edge.certificate)?;
        fs::write(folder.join("edge.key"), edge.key)?;
        fs::write(folder.join("ca.pem"), authority.pem())?;
    }
    let issuer = Issuer::new()?;
    fs::write(folder.join("issuer.pem"), issuer.public_key())?;
    fs::write(folder.join("config.toml"), configuration(interface, upstream))?;
    Ok(issuer)
}

fn configuration(interface: Option<&str>, upstream: SocketAddr) -> String {
    // On the loopback everything on this host is one source: only its HTTP budgets are the usual ones.
    let (interface, mode, limits) = match interface {
        Some(interface) => (interface, "auto", ""),
        None => (
            "lo",
            "generic",
            "[limits.packets]\nrate = \"1000000/s\"\n\n[limits.bytes]\nper_second = \"10GiB\"\n\n[limits.connections]\nrate = \"10000/s\"\n",
        ),
    };
    let upstream = format!("http://{upstream}");
    let pins = Path::new("/sys/fs/bpf/auth-agent-dev");
    let scene = Scene { interface, mode, pins, upstream: &upstream };
    let issuer =
        "[authorization_server]\nissuer = \"https://localhost:8443\"\naudience = \"https://api.test\"\n";
    format!("# Written by `cargo xtask run`, anew each time.\n\n{scene}\n{issuer}\n{limits}")
}

fn tell(folder: &Path, agent: &Path, issuer: &Issuer, key: &str) -> Result<()> {
    let ca = folder.join("ca.pem");
    let curl = format!("curl --cacert {}", ca.display());
    let good = issuer.token("alice", "mail:read", 3_600)?;
    let expired = issuer.token("alice", "mail:read", -60)?;
    let key_id = key.split('_').nth(1).context("the key has no id")?;
    println!(
        r#"
The edge is up: https://localhost:8443, with an echo server behind it. Try, from another terminal:

# a good token: 200, and the echo server's view of the request
{curl} -H 'Authorization: Bearer {good}' https://localhost:8443/hello

# an expired token: 401 token-expired
{curl} -H 'Authorization: Bearer {expired}' https://localhost:8443/hello

# the good token, where the scope "admin" is needed: 403 scope-missing
{curl} -H 'Authorization: Bearer {good}' https://localhost:8443/admin

# an API key: 200
{curl} -H 'X-API-Key: {key}' https://localhost:8443/hello

# the same key from a browser: 403 api-key-browser
{curl} -H 'X-API-Key: {key}' -H 'Origin: https://app.example' https://localhost:8443/hello

# the key exchanged for a token of five minutes, by the built-in issuer
{curl} -u '{key_id}:{key}' -d grant_type=client_credentials https://localhost:8443/oauth2/token

# that token in use: 200
TOKEN=$({curl} -s -u '{key_id}:{key}' -d grant_type=client_credentials https://localhost:8443/oauth2/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
{curl} -H "Authorization: Bearer $TOKEN" https://localhost:8443/hello

# plain http: dropped by the filter, so this runs into its time limit
curl --max-time 2 http://localhost/

# what it counted, and what it knows of you
{agent} --config {config} status
{agent} --config {config} source show 127.0.0.1

Ctrl-C stops the edge and detaches the filter."#,
        agent = agent.display(),
        config = folder.join("config.toml").display(),
    );
    Ok(())
}

/// An agent and the CLI that goes with it.
struct Edge<'a> {
    agent: &'a Path,
    config: &'a Path,
}

impl Edge<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(self.agent);
        command.arg("--config").arg(self.config).kill_on_drop(true);
        command
    }

    /// Runs a verb, and returns what it prints as JSON.
    async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.command().arg("--json").args(arguments).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Starts the agent, and waits until it answers.
    async fn start(&self) -> Result<Child> {
        let mut agent = self.command().arg("run").spawn().context("the agent can't be run")?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.json(&["status"]).await {
            if let Some(status) = agent.try_wait()? {
                bail!("the agent ended ({status}); its reason is above");
            }
            ensure!(Instant::now() < deadline, "the agent does not answer: {error:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(agent)
    }

    /// A new API key; the one of the run before is revoked.
    async fn new_key(&self) -> Result<String> {
        let keys = self.json(&["key", "list"]).await?;
        for key in keys["keys"].as_array().into_iter().flatten() {
            if key["name"] == KEY_NAME && key["revoked"].is_null() {
                let id = key["id"].as_str().context("a key without an id")?;
                self.json(&["key", "revoke", id]).await?;
            }
        }
        let created = self.json(&["key", "create", "--name", KEY_NAME, "--scope", "mail:read"]).await?;
        Ok(created["key"].as_str().context("no key was printed")?.to_owned())
    }

    /// Waits for Ctrl-C, and ends what runs by then: after `upgrade`, that is another process.
    async fn until_interrupted(&self, mut agent: Child) -> Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut heir = None;
        loop {
            let ended = async {
                match heir {
                    None => agent.wait().await.map(|status| status.to_string()).map_err(Into::into),
                    Some(heir) => gone(heir).await.map(|()| "the one that took over has gone".to_owned()),
                }
            };
            let how = tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                how = ended => how?,
            };
            heir = self.process().await;
            let Some(heir) = heir else {
                self.detach().await?;
                bail!("the agent ended: {how}");
            };
            println!("another agent has taken over: process {heir}");
        }
        self.end(agent, heir).await
    }

    async fn stop(&self, agent: Child) -> Result<()> {
        self.end(agent, None).await
    }

    /// Ends the agent that was started, and the one that took over from it: the one that answers, else `heir`.
    async fn end(&self, mut agent: Child, heir: Option<u32>) -> Result<()> {
        let first = agent.id();
        let heir = self.process().await.or(heir).filter(|heir| Some(*heir) != first);
        for process in first.into_iter().chain(heir) {
            match system::terminate(process) {
                // Ctrl-C has reached it, too.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                ended => ended?,
            }
        }
        agent.wait().await?;
        if let Some(heir) = heir {
            gone(heir).await?;
        }
        self.detach().await
    }

    /// The process that answers on the control socket.
    async fn process(&self) -> Option<u32> {
        let status = self.json(&["status"]).await.ok()?;
        status["pid"].as_u64().and_then(|process| process.try_into().ok())
    }

    async fn detach(&self) -> Result<()> {
        self.json(&["detach"]).await?;
        println!("the filter is detached");
        Ok(())
    }
}

/// Waits for the end of a process that is nobody's child here.
async fn gone(process: u32) -> Result<()> {
    while !heirs::is_gone(process)? {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
