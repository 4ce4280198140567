//! What can go wrong with the store, each as one line with its cure.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::api_key::KeyId;

/// A problem, and the file or directory that has it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct StoreError {
    /// The database, the lock or the directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Another program holds the database.
    #[error(
        "the database is locked by another program (a sqlite3 shell, a backup?): end that, then try again"
    )]
    Busy,
    /// Can't be trusted.
    #[error(
        "the database is damaged ({0}): stop the agent and restore the directory from a backup, or move it away \
         to start without keys and bans"
    )]
    Corrupt(String),
    /// Somebody else's file.
    #[error("not a database of this agent: move it away, or set store.directory to another directory")]
    Foreign,
    /// No space.
    #[error("no space left for the database: free some, then try again; nothing was changed")]
    Full,
    /// Another agent runs on this directory.
    #[error("{}: stop it first, or set store.directory to another directory", holder(*.pid))]
    Held {
        /// Its process id, if it is known.
        pid: Option<u32>,
    },
    /// A file operation failed.
    #[error("can't {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A key that is there already.
    #[error("the API key {0} is already stored: take it out of the list; nothing was imported")]
    KeyKnown(KeyId),
    /// Others may enter the directory.
    #[error("the store's directory has mode {mode:04o}, open to others than its owner: chmod 700 it")]
    Mode {
        /// Permission bits.
        mode: u32,
    },
    /// Written by a newer version.
    #[error(
        "the database has schema {found}, and this version knows up to {known}: start the newer agent that wrote \
         it, or put its copy from before, auth-agent.db.schema-{known}, in its place (and move auth-agent.db-wal and -shm \
         away): what has changed since then is lost"
    )]
    NewerSchema {
        /// Of the database.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// Not a directory where one is needed.
    #[error("not a directory: move it away, or set store.directory to another directory")]
    NotADirectory,
    /// Can't be written.
    #[error(
        "the database is read-only: check the file system's mount options and the owner of the directory"
    )]
    ReadOnly,
    /// Anything else SQLite says.
    #[error("the database failed ({0}): check the disk and the system's log; nothing was changed")]
    Sqlite(rusqlite::Error),
    /// A limit of the store is reached.
    #[error("the store already holds {most} {what}, the most it takes: remove some first")]
    TooMany {
        /// The limit.
        most: usize,
        /// Of what.
        what: &'static str,
    },
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("another agent (pid {pid}) uses this store"),
        None => "another agent uses this store".to_owned(),
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        if let FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) = error {
            return Self::Corrupt(error.to_string());
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly,
            _ => Self::Sqlite(error),
        }
    }
}
