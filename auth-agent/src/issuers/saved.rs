//! The last good key set of each issuer, on disk beside the database: what is used when the agent starts while the
//! issuer can't be reached.
//!
//! Whoever can write it can make tokens, so it counts only if nobody but its owner may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::config::{Issuer, RemoteKeys};

/// The set, escaped as JSON, and what belongs to it.
const MAX_BYTES: u64 = 4 << 20;

/// A key set, when it was had, and where.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    /// When it was fetched.
    pub fetched: UnixTime,
    /// The source in the configuration at that time, and the `iss`: with another, the set is somebody else's.
    pub source: String,
    /// The set.
    pub text: String,
    /// The address it was fetched from.
    pub url: String,
}

/// Why there is no saved set to use.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Older than `keys_max_age`, or from the future.
    #[error("{}: the saved keys are {}", path.display(), if *future {
        "from the future; check this host's clock"
    } else {
        "older than keys_max_age"
    })]
    Age {
        /// The clock was set back.
        future: bool,
        /// The file.
        path: PathBuf,
    },
    /// Not what was written.
    #[error("{}: the saved keys can't be understood: {reason}; remove the file", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It can't be read or written.
    #[error("{}: the saved keys can't be {action}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may write or read it.
    #[error("{}: the saved keys have mode {mode:04o}, open to others than their owner: remove the file", path.display())]
    Mode {
        /// Permission bits.
        mode: u32,
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("{}: no keys were saved yet", path.display())]
    None {
        /// The file.
        path: PathBuf,
    },
    /// The configuration names another source by now.
    #[error("{}: the saved keys are from {from:?}, not from where the configuration says", path.display())]
    Source {
        /// Where they are from.
        from: String,
        /// The file.
        path: PathBuf,
    },
}

/// The file of an issuer; its name is letters, digits, `-` and `_`.
fn path(directory: &Path, issuer: &Issuer) -> PathBuf {
    directory.join(format!("issuer-{}.keys", issuer.name))
}

/// What a saved set must be from.
pub(super) fn source(issuer: &Issuer, remote: &RemoteKeys) -> String {
    format!("{} for {}", remote.source, issuer.issuer)
}

/// The saved set, if it may still be used. Blocks.
pub(super) fn read(
    directory: &Path,
    issuer: &Issuer,
    remote: &RemoteKeys,
    now: UnixTime,
) -> Result<Saved, SavedError> {
    let path = path(directory, issuer);
    let saved = parse(&path)?;
    if saved.source != source(issuer, remote) {
        return Err(SavedError::Source { from: saved.source, path });
    }
    if saved.fetched > now {
        return Err(SavedError::Age { future: true, path });
    }
    if now.0 - saved.fetched.0 >= remote.max_age.as_secs() {
        return Err(SavedError::Age { future: false, path });
    }
    Ok(saved)
}

fn parse(path: &Path) -> Result<Saved, SavedError> {
    let path = || path.to_owned();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SavedError::None { path: path() },
        _ => SavedError::Io { action: "read", path: path(), source },
    };
    let file = File::open(path()).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SavedError::Mode { mode, path: path() });
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    serde_json::from_str(&text)
        .map_err(|error| SavedError::Broken { path: path(), reason: error.to_string() })
}

/// Durable when this returns, and whole or not at all. Blocks.
pub(super) fn write(directory: &Path, issuer: &Issuer, saved: &Saved) -> Result<(), SavedError> {
    let path = path(directory, issuer);
    let unfinished = path.with_extension("keys.new");
    let written = (|| {
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(directory)?.sync_all()
    })();
    written.map_err(|source| SavedError::Io { action: "written", path, source })
}
