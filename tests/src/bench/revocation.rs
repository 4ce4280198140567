//! How soon a revocation bites: from its acknowledgement until the client sees the end of what it was getting, while
//! many other connections are open.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::machine;
use super::spread::Spread;
use crate::client::{Client, Session, inside};
use crate::stage::Stage;
use crate::websocket;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the agent is told beside the usual: nothing here is about its limits.
const UNLIMITED: &str = r#"
[sizes]
connections = 30000
connections_per_source = 30000

[timeouts]
headers = "1h"

[limits.connections]
rate = "100000/s"
burst = 100000

[limits.packets]
rate = "1000000/s"

[limits.bytes]
per_second = "10GiB"

[limits.requests]
rate = "1000000/s"

[limits.breaker]
rate = "100000/s"
"#;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Connections of others that are open meanwhile, each of a subject of its own.
    pub connections: u32,
    /// Revocations on each protocol.
    pub rounds: u32,
}

impl Default for Scale {
    fn default() -> Self {
        Self { connections: 10_000, rounds: 100 }
    }
}

/// What is revoked while it goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Http1,
    Http2,
    /// A stream beside another user's.
    SharedHttp2,
    WebSocket,
}

impl What {
    const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::SharedHttp2, Self::WebSocket];

    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::SharedHttp2 => "http2_shared",
            Self::WebSocket => "websocket",
        }
    }
}

/// Milliseconds of each revocation.
struct Cell {
    /// From its acknowledgement to the end; 0 if that came first.
    after: Vec<f64>,
    /// From asking for it to the end.
    in_all: Vec<f64>,
    what: What,
}

/// What was measured.
pub struct Report {
    cells: Vec<Cell>,
    connections: u32,
    /// How many were wanted.
    wanted: u32,
    /// Resident memory of the agent with the connections open, KiB.
    resident: u64,
}

/// Measures.
///
/// # Errors
/// Whatever does not come up, or does not end.
pub fn run(scale: &Scale) -> Result<Report> {
    let stage = Stage::new(UNLIMITED)?;
    let clients: Vec<_> = (3..20).map(|number| stage.client(number)).collect::<Result<_>>()?;
    let socket = stage.setup.path("control.sock");
    let connections = scale.connections.min(room()?);
    let agent = stage.agent.as_ref().context("no agent")?.id();
    inside(&stage.crowd, async || {
        let others = crowd(&stage, &clients, connections).await?;
        let resident = resident(agent)?;
        let mut control = Control::open(&socket).await?;
        let mut cells: Vec<_> =
            What::ALL.map(|what| Cell { after: Vec::new(), in_all: Vec::new(), what }).into();
        for round in 0..scale.rounds {
            for cell in &mut cells {
                let victim = format!("victim-{}-{round}", cell.what.name());
                let client = &clients[round as usize % clients.len()];
                let (asked, acknowledged, ended) =
                    revoke(&stage, client, cell.what, &victim, &mut control).await?;
                cell.after.push(milliseconds(ended.saturating_duration_since(acknowledged)));
                cell.in_all.push(milliseconds(ended - asked));
            }
        }
        drop(others);
        Ok(Report { cells, connections, resident, wanted: scale.connections })
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Connections that the agent admits here at least, which is half of what it may open but for what it keeps in reserve; and
/// some for those that are measured.
fn room() -> Result<u32> {
    const RESERVE: u64 = 512;
    const BESIDES: u64 = 64;
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let files =
        limits.lines().find(|line| line.starts_with("Max open files")).context("no limit of open files")?;
    let Some(Ok(hard)) = files.split_whitespace().nth(4).map(str::parse::<u64>) else { return Ok(u32::MAX) };
    let room = hard.saturating_sub(RESERVE) / 2;
    Ok(u32::try_from(room.saturating_sub(BESIDES)).unwrap_or(u32::MAX))
}

/// Idle connections, each of someone who was known by a request.
async fn crowd(stage: &Stage, clients: &[Client], connections: u32) -> Result<Vec<Session>> {
    let mut sessions = Vec::with_capacity(connections as usize);
    for number in 0..connections {
        let client = &clients[number as usize % clients.len()];
        let token = stage.setup.issuer.token(&format!("user-{number}"), "", 3_600)?;
        let mut session = client.connect().await?;
        let answer = session.get(client, "/", &[("authorization", &format!("Bearer {token}"))]).await?;
        ensure!(answer.status == 200, "{number}: {} {}", answer.status, answer.reason());
        sessions.push(session);
    }
    Ok(sessions)
}

fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// When it was asked for, acknowledged, and seen by the client.
async fn revoke(
    stage: &Stage,
    client: &Client,
    what: What,
    victim: &str,
    control: &mut Control,
) -> Result<(Instant, Instant, Instant)> {
    let bearer =
        |subject: &str| stage.setup.issuer.token(subject, "", 600).map(|token| format!("Bearer {token}"));
    let (theirs, other) = (bearer(victim)?, bearer("bystander")?);
    let (theirs, other) = ([("authorization", &*theirs)], [("authorization", &*other)]);
    let (started, mut begun) = mpsc::channel(1);
    let mut session = match what {
        What::Http1 | What::WebSocket => client.connect().await?,
        What::Http2 | What::SharedHttp2 => client.connect_http2().await?,
    };
    let mut beside = match what {
        What::SharedHttp2 => Some(session.stream(client, "/stream", &other).await?.into_body()),
        _ => None,
    };
    let seen = if what == What::WebSocket {
        let mut socket = session.websocket(client, "/websocket", &theirs).await?;
        tokio::spawn(async move {
            let mut frame = [0; websocket::FRAME.len()];
            socket.write_all(websocket::FRAME).await?;
            while socket.read_exact(&mut frame).await.is_ok() {
                let _ = started.try_send(());
                if socket.write_all(websocket::FRAME).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(Instant::now())
        })
    } else {
        let mut body = session.stream(client, "/stream", &theirs).await?.into_body();
        tokio::spawn(async move {
            while let Some(Ok(_)) = body.frame().await {
                let _ = started.try_send(());
            }
            Ok(Instant::now())
        })
    };
    timeout(PATIENCE, begun.recv()).await?.context("nothing came")?;
    let asked = Instant::now();
    control.revoke(victim).await?;
    let acknowledged = Instant::now();
    let ended = timeout(PATIENCE, seen).await.context("it goes on")???;
    if let Some(body) = &mut beside {
        let frame = timeout(PATIENCE, body.frame()).await?;
        ensure!(matches!(frame, Some(Ok(_))), "the other stream ended as well");
    }
    Ok((asked, acknowledged, ended))
}

/// The control socket, kept open: a process for each revocation would be measured as well.
struct Control(SendRequest<Full<Bytes>>);

impl Control {
    async fn open(path: &Path) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(UnixStream::connect(path).await?)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn revoke(&mut self, subject: &str) -> Result<()> {
        let body = json!({ "targets": [{ "kind": "subject", "subject": subject }] }).to_string();
        let request = Request::post("/v1/revocations").header("host", "localhost").body(Full::from(body))?;
        self.0.ready().await?;
        let answer = self.0.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status == 201, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(())
    }
}

impl Report {
    /// For machines.
    pub fn json(&self) -> Value {
        let cells = self.cells.iter().map(|cell| {
            let ([after, in_all], name) = (cell.spreads(), cell.what.name());
            let value = json!({
                "after_acknowledgement_ms": { "median": after.0.median, "p99": after.1, "max": after.0.max },
                "in_all_ms": { "median": in_all.0.median, "p99": in_all.1, "max": in_all.0.max },
                "rounds": cell.after.len(),
            });
            (name.to_owned(), value)
        });
        json!({
            "cells": cells.collect::<serde_json::Map<_, _>>(),
            "connections": self.connections,
            "cpu": machine::cpu(),
            "kernel": machine::kernel(),
            "resident_kib": self.resident,
        })
    }
}

impl Cell {
    /// After the acknowledgement, and in all: with the 99th percentile.
    fn spreads(&self) -> [(Spread, f64); 2] {
        [&self.after, &self.in_all].map(|samples| {
            let mut sorted = samples.clone();
            sorted.sort_by(f64::total_cmp);
            let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
            (Spread::of(samples.clone()), sorted.get(at).copied().unwrap_or_default())
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, Linux {}", machine::cpu(), machine::kernel())?;
        writeln!(
            f,
            "{} connections open besides; the agent is {} MiB large\n",
            self.connections,
            self.resident / 1024
        )?;
        if self.connections < self.wanted {
            writeln!(
                f,
                "{} were wanted: the open file limit has no room for more (`ulimit -Hn`)\n",
                self.wanted
            )?;
        }
        writeln!(f, "                  until the client sees the end, milliseconds")?;
        writeln!(f, "                  from the acknowledgement        from the request")?;
        writeln!(f, "                  median     p99     max          median     p99     max")?;
        for cell in &self.cells {
            let [after, in_all] = cell.spreads();
            writeln!(
                f,
                "{:<16} {:>7.2} {:>7.2} {:>7.2}         {:>7.2} {:>7.2} {:>7.2}",
                cell.what.name(),
                after.0.median,
                after.1,
                after.0.max,
                in_all.0.median,
                in_all.1,
                in_all.0.max
            )?;
        }
        Ok(())
    }
}
