//! The generator: a closed loop over a fixed number of connections, in one thread.

mod http1;
mod http2;

use std::cell::{Cell as Slot, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::cell::Cell;
use super::histogram::Histogram;
use super::request::Requests;
use super::tls::Dialer;

/// Far above what one answer takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Idle connections that are opened at a time.
const AT_A_TIME: usize = 32;

/// What one measurement found.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// CPU time of the product for each request.
    pub cpu_us: f64,
    /// Half of the answers came within this.
    pub p50_us: f64,
    /// So did 99 of 100.
    pub p99_us: f64,
    /// Answers per second.
    pub rps: f64,
}

/// How a cell is loaded.
pub struct Load {
    connections: usize,
    dialer: Dialer,
    protocol: Protocol,
    requests: Requests,
    status: &'static str,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    /// One request after the other.
    Http1,
    /// On each connection so many at a time.
    Http2(usize),
    /// One request for each connection.
    Once,
}

impl Load {
    /// The load of a cell on what listens there.
    pub fn new(cell: Cell, address: std::net::SocketAddr, requests: Requests) -> Result<Self> {
        let (connections, protocol) = match cell {
            Cell::Handshake => (16, Protocol::Once),
            Cell::Http2 => (8, Protocol::Http2(8)),
            Cell::Body1m => (8, Protocol::Http1),
            _ => (32, Protocol::Http1),
        };
        let refused = matches!(cell, Cell::Expired401 | Cell::Garbage401);
        let dialer = Dialer::new(address, if cell == Cell::Http2 { "h2" } else { "http/1.1" })?;
        let status = if refused { "401" } else { "200" };
        Ok(Self { connections, dialer, protocol, requests, status })
    }

    /// Loads for a while, then for `time` counts; `cpu` reads the product's CPU time.
    ///
    /// # Errors
    /// An answer that is not the one that the cell is about, or none.
    pub async fn measure(self, time: Duration, cpu: impl Fn() -> Result<Duration>) -> Result<Sample> {
        let (load, tally) = (Rc::new(self), Rc::new(Tally::default()));
        let mut tasks = JoinSet::new();
        for _ in 0..load.connections {
            let (load, tally) = (Rc::clone(&load), Rc::clone(&tally));
            tasks.spawn_local(async move { load.ask(&tally).await });
        }
        let measured = async {
            // What can be used up is not spent on warming up.
            let least = if matches!(load.requests, Requests::Each(_)) { Duration::ZERO } else { time / 4 };
            tally.warm(load.connections as u64, least).await?;
            let (start, before) = (Instant::now(), cpu()?);
            tally.recording.set(true);
            // Where the requests are at an end, so is the measurement.
            let _ = timeout(time, tally.exhausted.notified()).await;
            tally.sample(start.elapsed(), cpu()?.saturating_sub(before))
        };
        tokio::select! {
            sample = measured => sample,
            failed = failure(&mut tasks) => Err(failed),
        }
    }

    async fn ask(&self, tally: &Tally) -> Result<()> {
        match self.protocol {
            Protocol::Http1 => http1::ask(self, tally).await,
            Protocol::Http2(streams) => http2::ask(self, tally, streams).await,
            Protocol::Once => http1::ask_once_each(self, tally).await,
        }
    }

    /// So many connections, each after one answer.
    ///
    /// # Errors
    /// One that can't be had.
    pub async fn idle(self, connections: usize) -> Result<Vec<TlsStream<TcpStream>>> {
        let (load, permits) = (Rc::new(self), Rc::new(Semaphore::new(AT_A_TIME)));
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let (load, permits) = (Rc::clone(&load), Rc::clone(&permits));
            tasks.spawn_local(async move {
                let _permit = permits.acquire().await?;
                timeout(PATIENCE, http1::one(&load)).await.context("no answer")?
            });
        }
        let mut idle = Vec::with_capacity(connections);
        while let Some(connection) = tasks.join_next().await {
            idle.push(connection??);
        }
        Ok(idle)
    }
}

/// The first failure of a task. One that has nothing left to ask has not failed.
async fn failure(tasks: &mut JoinSet<Result<()>>) -> anyhow::Error {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(panicked) => return panicked.into(),
        }
    }
    std::future::pending().await
}

/// What all connections have counted.
#[derive(Default)]
struct Tally {
    completed: Slot<u64>,
    exhausted: Notify,
    latencies: RefCell<Histogram>,
    /// Not while the load warms up.
    recording: Slot<bool>,
}

impl Tally {
    fn add(&self, time: Duration) {
        self.completed.set(self.completed.get() + 1);
        if self.recording.get() {
            self.latencies.borrow_mut().add(time);
        }
    }

    /// Waits for that time, and until there have been some answers.
    async fn warm(&self, connections: u64, time: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < time || self.completed.get() < 2 * connections {
            ensure!(start.elapsed() < PATIENCE, "{} answers, and no more", self.completed.get());
            sleep(Duration::from_millis(5)).await;
        }
        self.completed.set(0);
        Ok(())
    }

    fn sample(&self, time: Duration, cpu: Duration) -> Result<Sample> {
        let requests = self.completed.get() as f64;
        if requests == 0.0 {
            bail!("no answer in {} s", time.as_secs_f64());
        }
        let latencies = self.latencies.borrow();
        Ok(Sample {
            cpu_us: cpu.as_secs_f64() * 1e6 / requests,
            p50_us: latencies.quantile(0.5),
            p99_us: latencies.quantile(0.99),
            rps: requests / time.as_secs_f64(),
        })
    }
}
