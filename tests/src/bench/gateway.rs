//! What a request costs at the gateway, beside Debian's haproxy and nginx, and Envoy.
//!
//! Each product has the same CPU to itself while it is measured; the generator and the upstream share another. The
//! main figure is the product's CPU time for each answer, which holds also where the generator is what limits. The
//! products take turns in each cell and round, and ratios are of neighbours.

mod cell;
mod histogram;
mod load;
mod product;
mod report;
mod request;
mod tls;
mod upstream;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::sleep;

pub use self::cell::{Cell, Goal, Guard, Product};
use self::load::{Load, Sample};
use self::product::{Lab, Running};
use self::report::Found;
pub use self::report::Report;
use self::request::Requests;
use super::system;
use crate::client::inside;
use crate::netns::Namespace;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Scale {
    /// What.
    pub cells: Vec<Cell>,
    /// Tokens that are each used once, in a measurement; where they are used up it ends.
    pub distinct: usize,
    /// Connections that idle.
    pub idle: usize,
    /// How long they have idled when their memory is read.
    pub idle_time: Duration,
    /// Of whom; whoever can't be had is left out.
    pub products: Vec<Product>,
    /// Times that everything is measured in turn.
    pub rounds: u32,
    /// How long a measurement takes.
    pub time: Duration,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            cells: Cell::ALL.to_vec(),
            distinct: 10_000,
            idle: 5_000,
            idle_time: Duration::from_secs(5),
            products: Product::ALL.to_vec(),
            rounds: 5,
            time: Duration::from_secs(1),
        }
    }
}

/// Rounds in which memory is measured: it hardly differs, and takes long.
const MEMORY_ROUNDS: u32 = 2;
/// Answers before a product's memory is read for the first time, over connections that are closed again.
const SETTLE: usize = 64;
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// Measures. Says on standard error how far it is.
///
/// # Errors
/// What does not come up; SIGINT and SIGTERM.
pub fn run(scale: &Scale) -> Result<Report> {
    let cpus = system::cpus()?;
    let (first, last) = cpus.first().zip(cpus.last()).context("no CPU")?;
    ensure!(first != last, "the generator needs a CPU of its own, and there is but one");
    open_files()?;
    let namespace = Namespace::new()?;
    let mut bench =
        Bench { found: Found::default(), lab: Lab::new(&namespace, *first)?, running: Vec::new() };
    inside(&namespace, async || {
        system::keep_on(0, *last)?;
        // Connections that are over keep their ports for a while.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "12000 65535").context("ip_local_port_range")?;
        LocalSet::new().run_until(bench.uninterrupted(scale)).await
    })?;
    Ok(Report::new(scale, bench.found))
}

/// Everybody needs two for each connection.
fn open_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })?)
}

struct Bench<'n> {
    found: Found,
    lab: Lab<'n>,
    running: Vec<Running>,
}

impl Bench<'_> {
    /// Ends early where it is told to, so that nothing is left behind.
    async fn uninterrupted(&mut self, scale: &Scale) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            measured = self.measure(scale) => measured,
            upstream = upstream::serve() => upstream.map(drop),
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    }

    async fn measure(&mut self, scale: &Scale) -> Result<()> {
        for product in &scale.products {
            self.start(*product);
        }
        for round in 1..=scale.rounds {
            for cell in &scale.cells {
                eprintln!("round {round} of {}: {}", scale.rounds, cell.name());
                for at in 0..self.running.len() {
                    self.cell(scale, *cell, round, at).await;
                    // A signal that came while nothing was waited for.
                    tokio::task::yield_now().await;
                }
            }
            if !self.running.is_empty() {
                self.running.rotate_left(1);
            }
        }
        Ok(())
    }

    /// Starts a product, or says why it is left out.
    fn start(&mut self, product: Product) {
        match self.lab.start(product) {
            Ok(running) => self.running.push(running),
            Err(error) => self.found.skip(format!("{}: {error:#}", product.name())),
        }
    }

    /// One measurement, or why there is none.
    async fn cell(&mut self, scale: &Scale, cell: Cell, round: u32, at: usize) {
        let product = self.running[at].product;
        if !product.knows(cell.guard()) {
            return;
        }
        let result = if cell != Cell::Memory {
            let sample = self.sample(scale, cell, at).await;
            sample.map(|sample| self.found.add(cell, product, round, sample))
        } else if round <= MEMORY_ROUNDS {
            let bytes = self.memory(scale, at).await;
            bytes.map(|bytes| self.found.remember(product, bytes))
        } else {
            Ok(())
        };
        if let Err(error) = result {
            self.found.skip(format!("{}, {}: {error:#}", product.name(), cell.name()));
        }
    }

    async fn sample(&self, scale: &Scale, cell: Cell, at: usize) -> Result<Sample> {
        self.load(scale, cell, at)?.measure(scale.time, || self.running[at].cpu()).await
    }

    fn load(&self, scale: &Scale, cell: Cell, at: usize) -> Result<Load> {
        let address = product::address(self.running[at].product, cell.guard());
        Load::new(cell, address, Requests::of(cell, &self.lab.credentials, scale.distinct)?)
    }

    /// Resident bytes of each idle connection, of a process that has had none before.
    async fn memory(&mut self, scale: &Scale, at: usize) -> Result<f64> {
        let product = self.running[at].product;
        // The old one goes first: it has the port.
        drop(self.running.remove(at));
        self.running.insert(at, self.lab.start(product)?);
        drop(self.load(scale, Cell::Memory, at)?.idle(SETTLE).await?);
        sleep(SETTLE_TIME).await;
        let before = self.running[at].resident()?;
        let idle = self.load(scale, Cell::Memory, at)?.idle(scale.idle).await?;
        sleep(scale.idle_time).await;
        let after = self.running[at].resident()?;
        Ok(after.saturating_sub(before) as f64 / idle.len().max(1) as f64)
    }
}
