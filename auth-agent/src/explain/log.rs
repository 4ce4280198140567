//! Where the access log goes. A file is opened again when it was moved away; one that can't be written now is tried again,
//! and nothing waits for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::config::{AccessLog, LogTarget};

/// Bytes that may wait for a slow file; what comes after them is dropped.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// Others may be let in by the folder; nobody else is to read who asked for what.
const MODE: u32 = 0o640;

/// The log can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Its file can't be opened.
    #[error("access_log.to: can't open {}: {source}; make its folder, or choose another file", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The standard output can't be used.
    #[error("access_log.to: the standard output can't be used: {0}; choose a file")]
    Stdout(io::Error),
    /// There is no thread to write.
    #[error("can't start the thread that writes the log: {0}; see `ulimit -u`")]
    Thread(io::Error),
}

/// An open log, and what is to be written to it.
#[derive(Debug)]
pub struct Log {
    /// Whether it names who sent requests.
    pub principals: bool,
    file: Option<File>,
    /// It is a file's, by this name.
    path: Option<PathBuf>,
    /// The last thing that was said of it is that it can't be written.
    failing: bool,
    is_on: bool,
    waiting: Vec<u8>,
}

impl Log {
    /// Opens it. A pipe that nobody reads is opened later.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(config: &AccessLog) -> Result<Self, LogError> {
        let (file, path) = match &config.to {
            LogTarget::Off => (None, None),
            LogTarget::Stdout => {
                let copy = io::stdout().as_fd().try_clone_to_owned().map_err(LogError::Stdout)?;
                (Some(copy.into()), None)
            }
            LogTarget::File(path) => match open(path) {
                Ok(file) => (Some(file), Some(path.clone())),
                Err(error) if has_no_reader(&error) => (None, Some(path.clone())),
                Err(source) => return Err(LogError::Open { path: path.clone(), source }),
            },
        };
        let is_on = config.to != LogTarget::Off;
        Ok(Self { failing: false, file, is_on, path, principals: config.principals, waiting: Vec::new() })
    }

    /// Whether anything is logged.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Room for one more line; none where too much waits.
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        (self.waiting.len() < MAX_WAITING_BYTES).then_some(&mut self.waiting)
    }

    /// Whether something is still to be written.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Opens the file again where it is not the one of this name any more.
    pub fn follow(&mut self) {
        let Some(path) = &self.path else { return };
        let is_it = |file: &File| is_at(file, path).unwrap_or(false);
        if self.file.as_ref().is_some_and(is_it) {
            return;
        }
        match open(path) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.fails(&error),
        }
    }

    /// Writes what can be written now.
    pub fn write(&mut self) {
        let Some(file) = &mut self.file else { return };
        let mut written = 0;
        let outcome = loop {
            match file.write(&self.waiting[written..]) {
                Ok(0) => break Ok(()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.waiting.drain(..written);
        match outcome {
            Ok(()) if self.failing => {
                self.failing = false;
                info!("the access log is written again");
            }
            Ok(()) => {}
            Err(error) => self.fails(&error),
        }
    }

    fn fails(&mut self, error: &io::Error) {
        if !self.failing {
            self.failing = true;
            warn!(%error, "the access log can't be written; its lines wait, and then are dropped and counted");
        }
    }
}

/// Never waits: not for a reader of a pipe, nor for one that does not read.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(libc::O_NONBLOCK).open(path)
}

fn has_no_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENXIO)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn log(path: &Path) -> Log {
        let to = LogTarget::File(path.to_owned());
        Log::open(&AccessLog { principals: true, sample: NonZeroU32::MIN, to }).unwrap()
    }

    fn write(log: &mut Log, line: &str) {
        log.room().unwrap().extend_from_slice(line.as_bytes());
        log.write();
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let mut log = log(&path);
        write(&mut log, "one\n");
        fs::rename(&path, &moved).unwrap();
        write(&mut log, "two\n");
        log.follow();
        write(&mut log, "three\n");
        log.follow();
        write(&mut log, "four\n");
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\nfour\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777 & !0o640, 0, "not for everyone to read");
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up_and_what_waits_has_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let mut log = log(&path);
        let line = "x".repeat(1000);
        while let Some(room) = log.room() {
            room.extend_from_slice(line.as_bytes());
            log.follow();
            log.write();
        }
        assert!(log.is_behind() && log.failing);
        // With a reader that does not read either, the pipe is filled.
        let reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("a reader");
        log.follow();
        log.write();
        assert!(log.is_behind() && log.waiting.len() < MAX_WAITING_BYTES, "some of it went out");
        drop(reader);
    }

    #[test]
    fn what_cannot_be_opened_is_said_with_its_cure() {
        let to = LogTarget::File("/nonexistent/access.log".into());
        let error = Log::open(&AccessLog { principals: true, sample: NonZeroU32::MIN, to }).unwrap_err();
        let expected = "access_log.to: can't open /nonexistent/access.log: No such file or directory (os error 2); \
                        make its folder, or choose another file";
        assert_eq!(error.to_string(), expected);
    }
}
