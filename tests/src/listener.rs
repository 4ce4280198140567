//! A running `auth-agent events`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::agent::Setup;
use crate::system;

/// How long it may take to begin and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Someone who watches; killed with its guard.
pub struct Listener {
    child: Child,
    complaints: BufReader<ChildStderr>,
    output: Option<JoinHandle<std::io::Result<Vec<u8>>>>,
}

impl Listener {
    /// Starts `auth-agent events`, and returns when the kernel samples for it.
    ///
    /// # Errors
    /// If it ends instead, with what it said.
    pub fn start(setup: &Setup, arguments: &[&str]) -> Result<Self> {
        let mut command = setup.command()?;
        command.arg("events").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        let output = std::thread::spawn(move || {
            let mut output = Vec::new();
            stdout.read_to_end(&mut output).map(|_| output)
        });
        let mut listener = Self { child, complaints: BufReader::new(stderr), output: Some(output) };
        let mut said = String::new();
        listener.complaints.read_line(&mut said)?;
        ensure!(said.starts_with("sampling"), "auth-agent events: {}", said.trim());
        Ok(listener)
    }

    /// Ctrl-C.
    ///
    /// # Errors
    /// If it is already gone.
    pub fn interrupt(&self) -> Result<()> {
        Ok(system::interrupt(self.child.id())?)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end: how it ended, standard output, and what it said last.
    ///
    /// # Errors
    /// If it does not end.
    pub fn finish(mut self) -> Result<(ExitStatus, Vec<u8>, String)> {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended()? {
            ensure!(Instant::now() < deadline, "`auth-agent events` does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let status = self.child.wait()?;
        let output = self.output.take().context("already read")?.join();
        let output = output.map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        let mut said = String::new();
        self.complaints.read_to_string(&mut said)?;
        Ok((status, output, said))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let ended = self.child.kill().and_then(|()| self.child.wait());
            if let Err(error) = ended {
                eprintln!("left behind: {error}");
            }
        }
    }
}
