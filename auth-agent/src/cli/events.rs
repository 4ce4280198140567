//! `auth-agent events`: samples as lines, as JSON, as a pcap, until Ctrl-C.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Events;
use super::client::{self, ClientError};
use super::session::{Session, parse};
use super::{Failure, pcap};
use crate::events::{Line, Sample};

/// Far above any line of the agent.
const LINE_BYTES: usize = 64 * 1024;

/// Streams what is asked for.
pub(super) fn run(session: &mut Session, wanted: &Events) -> Result<(), Failure> {
    let socket = session.socket()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("can't start the client: {error}")))?;
    runtime.block_on(async {
        let answer = client::open(&socket, Method::GET, &target(wanted), Vec::new()).await;
        let body = match answer {
            Ok(response) => response.into_body(),
            Err(error) => return session.good(Err(error)).map(drop),
        };
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut sink = Sink::open(session, wanted)?;
        tokio::select! {
            done = read(body, &socket, &mut sink, wanted.count) => done?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        sink.finish();
        Ok(())
    })
}

fn target(wanted: &Events) -> String {
    let rate = format!("/v1/events?rate={}", wanted.rate);
    let reasons = wanted.reasons.iter().map(|reason| format!("&reason={reason}"));
    let sources = wanted.sources.iter().map(|source| format!("&source={source}"));
    std::iter::once(rate).chain(reasons).chain(sources).collect()
}

/// Reads lines until there have been `count` samples.
async fn read(
    mut body: Incoming,
    socket: &Path,
    sink: &mut Sink<'_, '_>,
    count: Option<u64>,
) -> Result<(), Failure> {
    let broken = |detail: String| ClientError::Broken { detail, path: socket.to_owned() };
    let mut left = count;
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(error.to_string()))?;
        pending.extend(frame.into_data().unwrap_or_else(|_| Bytes::new()));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let sampled = sink.take(line.trim_ascii_end())?;
            left = left.map(|left| left.saturating_sub(sampled.into()));
            if left == Some(0) {
                return Ok(());
            }
        }
        if pending.len() > LINE_BYTES {
            return Err(broken(format!("a line of more than {LINE_BYTES} bytes")).into());
        }
    }
    Err(Failure::new(format!("the agent at {} has ended the stream: it is stopping", socket.display())))
}

/// Where samples go.
struct Sink<'s, 'a> {
    /// Instead of standard output for lines, or beside it.
    capture: Option<Capture>,
    session: &'s mut Session<'a>,
}

enum Capture {
    File { file: File, packets: u64, path: PathBuf },
    Stdout,
}

impl<'s, 'a> Sink<'s, 'a> {
    fn open(session: &'s mut Session<'a>, wanted: &Events) -> Result<Self, Failure> {
        let capture = match wanted.pcap.as_deref() {
            None => None,
            Some(path) if path == Path::new("-") => {
                session.out.write_all(&pcap::header())?;
                session.out.flush()?;
                Some(Capture::Stdout)
            }
            Some(path) => {
                let file = File::create(path).and_then(|mut file| {
                    file.write_all(&pcap::header())?;
                    Ok(file)
                });
                let file = file.map_err(|error| unwritten(path, &error))?;
                Some(Capture::File { file, packets: 0, path: path.to_owned() })
            }
        };
        session.say(&format!("sampling up to {} packets a second; Ctrl-C ends it\n", wanted.rate));
        Ok(Self { capture, session })
    }

    /// Takes one line of the agent; says whether it was a sample.
    fn take(&mut self, line: &[u8]) -> Result<bool, Failure> {
        let sample = match parse(line)? {
            Line::Dropped { dropped } => {
                self.session.say(&format!("dropped: {dropped}\n"));
                None
            }
            Line::Sample(sample) => Some(sample),
        };
        if let (Some(sample), Some(Capture::File { file, packets, path })) = (&sample, &mut self.capture) {
            file.write_all(&pcap::record(sample)).map_err(|error| unwritten(path, &error))?;
            *packets += 1;
        }
        self.print(line, sample.as_ref())?;
        self.session.out.flush()?;
        Ok(sample.is_some())
    }

    fn print(&mut self, line: &[u8], sample: Option<&Sample>) -> Result<(), Failure> {
        let out = &mut self.session.out;
        match (sample, &self.capture) {
            (Some(sample), Some(Capture::Stdout)) => Ok(out.write_all(&pcap::record(sample))?),
            (None, Some(Capture::Stdout)) => Ok(()),
            _ if self.session.json => self.session.print_raw(line),
            (Some(sample), _) => Ok(writeln!(out, "{}", text(sample))?),
            (None, _) => Ok(()),
        }
    }

    fn finish(self) {
        if let Some(Capture::File { packets, path, .. }) = self.capture {
            self.session.say(&format!("{packets} packets written to {}\n", path.display()));
        }
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: can't write the capture: {error}", path.display()))
}

/// One line for people; the time of day is UTC.
pub(super) fn text(sample: &Sample) -> String {
    let day = sample.time.0 % 86_400;
    let (hours, minutes, seconds) = (day / 3_600, day / 60 % 60, day % 60);
    let milliseconds = sample.nanoseconds / 1_000_000;
    let Sample { interface, length, reason, verdict, .. } = sample;
    let mut line =
        format!("{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03} {interface} {verdict} {reason}");
    if let (Some(source), Some(destination)) = (sample.source, sample.destination) {
        let source = end(source, sample.source_port);
        line += &format!(" {source} -> {}", end(destination, sample.destination_port));
    }
    if let Some(protocol) = &sample.protocol {
        let number = protocol.starts_with(|first: char| first.is_ascii_digit());
        line += &format!(" {}{protocol}", if number { "protocol " } else { "" });
    }
    line + &format!(" {length} bytes")
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}
