//! The command line: `auth-agent <verb>`.
//!
//! Answers go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed,
//! 64 (EX_USAGE) the command line itself is wrong.

mod args;
mod audit;
mod certificate;
mod check;
mod client;
mod configuration;
mod connections;
mod events;
mod issuer;
mod keys;
mod limit;
mod line_list;
mod network_list;
mod offenders;
mod own_issuer;
mod pcap;
mod pending;
mod policy;
mod render;
mod revocation;
mod service;
mod session;
mod table;
#[cfg(test)]
mod tests;
mod tokens;
mod upstream;
mod why;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use self::args::Args;
use self::client::ClientError;
use self::session::Session;
use crate::clock::UnixTime;
use crate::config::ConfigErrors;

const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 64;

/// The program.
pub fn main() -> ExitCode {
    ExitCode::from(execute(std::env::args_os(), &mut io::stdout(), &mut io::stderr()))
}

/// Runs one command line and returns its exit code: the one place that decides it.
fn execute<'a>(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
) -> u8 {
    let Args { config, json, socket, verb } = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let (stream, code) = if error.use_stderr() { (err, USAGE) } else { (out, DONE) };
            // Nothing better can be done for a reader that is gone.
            let _ = write!(stream, "{}", error.render());
            return code;
        }
    };
    let now = UnixTime::now();
    let done = Session { config, err: &mut *err, json, now, out: &mut *out, socket }.run(verb);
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) | Err(Failure::ReaderGone) => DONE,
        Err(Failure::Failed(message)) => {
            let _ = writeln!(err, "auth-agent: {message}");
            FAILED
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    Failed(String),
    /// `auth-agent ban list | head`: not our failure, and not worth a word.
    ReaderGone,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(errors.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.to_string())
    }
}

/// Only writing the answer yields bare I/O errors.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::new(format!("can't write the answer: {error}")),
        }
    }
}
