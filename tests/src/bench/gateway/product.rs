//! The products, as they run: each a process of its own on one CPU, with the same certificate and the same upstream.

mod agent;
mod envoy;
mod haproxy;
mod nginx;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::cell::{Guard, Product};
use super::request::Credentials;
use crate::agent::{Agent, Setup};
use crate::bench::system;
use crate::issuer::Issuer;
use crate::memory;
use crate::netns::Namespace;

/// Idle connections that every product has room for, each with one to the upstream.
const CONNECTIONS: u32 = 7_000;
/// How long a product may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Names the program that Envoy's wheel brings.
const ENVOY: &str = "AUTH_BENCH_ENVOY";

/// Everything that the products need, on a host of its own.
pub struct Lab<'n> {
    /// Who signs, and the API key.
    pub credentials: Credentials,
    cpu: usize,
    namespace: &'n Namespace,
    setup: Setup,
}

impl<'n> Lab<'n> {
    /// Builds it on this host; products will run on this CPU.
    pub fn new(namespace: &'n Namespace, cpu: usize) -> Result<Self> {
        agent::wire(namespace)?;
        let setup = Setup::new(&["localhost"])?;
        let credentials =
            Credentials { api_key: String::new(), es256: Issuer::new()?, rs256: Issuer::rs256()? };
        setup.write("es256.pem", credentials.es256.public_key())?;
        setup.write("rs256.pem", credentials.rs256.public_key())?;
        let both = ["edge.pem", "edge.key"].map(|name| fs::read_to_string(setup.path(name)));
        let [certificate, key] = both;
        setup.write("both.pem", &format!("{}{}", certificate?, key?))?;
        setup.write("config.toml", &agent::configuration(&setup))?;
        setup.write("haproxy.cfg", &haproxy::configuration(&setup))?;
        setup.write("nginx.conf", &nginx::configuration(&setup))?;
        let envoy = envoy::configuration(&setup, &credentials)?;
        setup.write("envoy.json", &envoy.to_string())?;
        Ok(Self { credentials, namespace, cpu, setup })
    }

    /// Starts one, and waits until it listens.
    ///
    /// # Errors
    /// If it can't be had, or ends instead.
    pub fn start(&mut self, product: Product) -> Result<Running> {
        let lab = &*self;
        // What a thread starts stays on its CPU.
        let process = thread::scope(|scope| {
            let start = || {
                system::keep_on(0, lab.cpu)?;
                lab.process(product)
            };
            scope.spawn(start).join().map_err(|_| anyhow::anyhow!("the starter panicked"))?
        })?;
        if product == Product::AuthAgent && self.credentials.api_key.is_empty() {
            let created = self.setup.json(&["key", "create", "--name", "bench"])?;
            created["key"].as_str().context("no API key")?.clone_into(&mut self.credentials.api_key);
        }
        Ok(Running { process, product })
    }

    fn process(&self, product: Product) -> Result<Process> {
        let file = |name: &str| self.setup.path(name).into_os_string();
        let (program, arguments) = match product {
            Product::AuthAgent => return Ok(Process::Agent(self.setup.start(self.namespace)?)),
            Product::Envoy => {
                let fixed = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"];
                (envoy()?, [fixed.map(Into::into).as_slice(), &[file("envoy.json")]].concat())
            }
            Product::Haproxy => (found("haproxy")?, vec!["-db".into(), "-f".into(), file("haproxy.cfg")]),
            Product::Nginx => {
                (found("nginx")?, vec!["-e".into(), "stderr".into(), "-c".into(), file("nginx.conf")])
            }
        };
        let log = self.setup.path(&format!("{}.log", product.name()));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command: Command = self.namespace.command(&program.to_string_lossy());
        command.args(arguments).stdout(output.try_clone()?).stderr(output);
        let mut foreign = Foreign { child: command.spawn().context("nsenter is missing")? };
        foreign.listens(self.namespace, address(product, Guard::None), &log)?;
        Ok(Process::Foreign(foreign))
    }
}

/// Where a product listens, for requests that this guard guards.
pub fn address(product: Product, guard: Guard) -> SocketAddr {
    let port = match product {
        Product::AuthAgent => agent::PORT,
        Product::Envoy => envoy::PORT + offset(guard),
        Product::Haproxy => haproxy::PORT + offset(guard),
        Product::Nginx => nginx::PORT,
    };
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// For products that tell guards apart by ports, so that what needs none pays for none.
fn offset(guard: Guard) -> u16 {
    match guard {
        Guard::ApiKey | Guard::None => 0,
        Guard::Es256 => 1,
        Guard::Rs256 => 2,
    }
}

fn envoy() -> Result<PathBuf> {
    match std::env::var_os(ENVOY) {
        Some(path) => Ok(path.into()),
        None => {
            found("envoy").with_context(|| format!("{ENVOY} is not set, as its wheel could not be fetched"))
        }
    }
}

fn found(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let file = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    file.with_context(|| format!("there is no {program}"))
}

/// A product that runs; it ends with its guard.
pub struct Running {
    /// Which.
    pub product: Product,
    process: Process,
}

enum Process {
    Agent(Agent),
    Foreign(Foreign),
}

impl Running {
    /// CPU time so far, of all its processes.
    pub fn cpu(&self) -> Result<Duration> {
        self.processes().into_iter().map(|process| Ok(system::cpu_time(process)?)).sum()
    }

    /// Resident memory in bytes, of all its processes.
    pub fn resident(&self) -> Result<u64> {
        self.processes().into_iter().map(memory::resident).sum()
    }

    fn processes(&self) -> Vec<u32> {
        match &self.process {
            Process::Agent(agent) => vec![agent.id()],
            Process::Foreign(foreign) => foreign.processes(),
        }
    }
}

/// Someone else's process.
struct Foreign {
    child: Child,
}

impl Foreign {
    fn listens(&mut self, namespace: &Namespace, address: SocketAddr, log: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let said = || {
            let text = fs::read_to_string(log).unwrap_or_default();
            text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
        };
        while namespace.run(|| Ok(TcpStream::connect(address)?)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}): {}", said());
            }
            ensure!(Instant::now() < deadline, "it does not listen on {address}: {}", said());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// It and its children.
    fn processes(&self) -> Vec<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        [id].into_iter().chain(children).collect()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // nginx's children end when their parent is told to, not when it is killed.
        let _ = crate::system::terminate(self.child.id());
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let ended = self.child.kill().and_then(|()| self.child.wait());
                eprintln!("killed: {ended:?}");
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
