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
    /// The last line that went out did so in part.
    is_torn: bool,
    to: LogTarget,
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
        let AccessLog { principals, to, .. } = config.clone();
        Ok(Self { failing: false, file, is_torn: false, path, principals, to, waiting: Vec::new() })
    }

    /// Whether anything is logged.
    pub fn is_on(&self) -> bool {
        self.to != LogTarget::Off
    }

    /// Room for one more line; none where too much waits.
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        (self.waiting.len() < MAX_WAITING_BYTES).then_some(&mut self.waiting)
    }

    /// Whether something is still to be written.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Opens the file again where it is not the one of this name any more. A line that went out in part is finished
    /// where it began. How many lines are lost: that one, where it can't be.
    pub fn follow(&mut self) -> u64 {
        let Some(path) = &self.path else { return 0 };
        let is_it = |file: &File| is_at(file, path).unwrap_or(false);
        if self.file.as_ref().is_some_and(is_it) {
            return 0;
        }
        match open(path) {
            Ok(file) => {
                let lost = self.finish_line();
                self.file = Some(file);
                lost
            }
            Err(error) => {
                self.fails(&error);
                0
            }
        }
    }

    /// Goes on as `next`: as the same log, if it goes to the same place, and otherwise once more is written of what waits
    /// for the old one. How many lines are lost.
    pub fn change(&mut self, next: Self) -> u64 {
        if self.to == next.to {
            self.principals = next.principals;
            return self.follow();
        }
        self.write();
        let lost = lines(&self.waiting);
        *self = next;
        lost
    }

    /// Has no line go out in part: 1, if the rest of one had to be dropped.
    fn finish_line(&mut self) -> u64 {
        if !self.is_torn {
            return 0;
        }
        self.write();
        if !self.is_torn {
            return 0;
        }
        let rest = self.waiting.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.waiting.drain(..rest);
        self.is_torn = false;
        1
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
        if let Some(last) = self.waiting[..written].last() {
            self.is_torn = *last != b'\n';
        }
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

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
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

    /// A pipe that takes no more, with something waiting for it that it has in part, and its reader.
    fn full_pipe(path: &Path) -> (Log, File) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
        let mut log = log(path);
        // Longer than what a pipe takes as a whole or not at all, and no multiple of a page.
        let line = format!("{}\n", "x".repeat(5000));
        while !log.is_behind() {
            write(&mut log, &line);
        }
        assert!(log.is_torn);
        (log, reader)
    }

    fn read(mut from: &File) -> String {
        let mut bytes = Vec::new();
        // It ends where there is nothing to read now.
        let _ = io::Read::read_to_end(&mut from, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_waits_stays_with_its_log_where_another_configuration_has_it_too_and_is_counted_where_it_has_not()
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let (mut log, reader) = full_pipe(&path);
        let to = LogTarget::File(path.clone());
        let next = Log::open(&AccessLog { principals: false, sample: NonZeroU32::MIN, to }).unwrap();
        assert_eq!(log.change(next), 0);
        assert!(log.is_behind() && !log.principals);
        let mut text = read(&reader);
        log.write();
        text.push_str(&read(&reader));
        assert!(!log.is_behind() && text.ends_with('\n'), "it is whole");

        let (mut log, reader) = full_pipe(&directory.path().join("other"));
        write(&mut log, "y\n");
        let off = || Log::open(&AccessLog::default()).unwrap();
        assert_eq!(log.change(off()), 2, "the one in part and the one after it");
        assert!(!log.is_on() && !log.is_behind());
        drop(reader);

        let (mut log, reader) = full_pipe(&directory.path().join("read"));
        write(&mut log, "y\n");
        let before = read(&reader);
        assert_eq!(log.change(off()), 0, "what can be written at the last moment is");
        assert!(!before.ends_with('\n') && read(&reader).ends_with("\ny\n"));
    }

    #[test]
    fn a_line_ends_in_the_file_in_which_it_began() {
        let directory = tempfile::tempdir().unwrap();
        for read_in_time in [true, false] {
            let path = directory.path().join(format!("{read_in_time}"));
            let (mut log, reader) = full_pipe(&path);
            write(&mut log, "y\n");
            fs::remove_file(&path).unwrap();
            let before = if read_in_time { read(&reader) } else { String::new() };
            assert_eq!(log.follow(), u64::from(!read_in_time));
            log.write();
            write(&mut log, "z\n");
            let (old, new) = (before + &read(&reader), fs::read_to_string(&path).unwrap());
            if read_in_time {
                assert!(old.ends_with("x\ny\n"), "{}", old.len());
                assert_eq!(new, "z\n");
            } else {
                assert!(old.ends_with('x'));
                assert_eq!(new, "y\nz\n");
            }
        }
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
