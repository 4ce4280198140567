//! What must survive a restart: API keys (only a keyed hash), revocations, bans, the allowlist, limits, changes that wait to be
//! confirmed, and the log of every change.
//!
//! SQLite, because a change has to be durable before it is acknowledged. One agent per directory, held
//! by a lock; what can't be read, written or trusted is refused at start rather than guessed at.
//! A change and its entry in the log are one transaction.

mod allows;
mod audit;
mod bans;
mod budgets;
mod changes;
mod debts;
mod error;
mod keys;
mod limits;
mod offenders;
mod open;
mod pending;
mod quotas;
mod revocations;
mod signing;
#[cfg(test)]
mod tests;
mod values;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use self::allows::{Allow, MAX_ALLOWS};
pub use self::audit::{AuditEntry, AuditOutcome, AuditWanted};
pub use self::bans::{Automatic, Ban, MAX_BANS};
pub use self::changes::Change;
pub use self::debts::StoredDebt;
pub use self::error::{Problem, StoreError};
pub use self::keys::{MAX_KEYS, NewKey};
pub use self::limits::{Limit, MAX_LIMITS};
pub use self::offenders::{MAX_AUTOMATIC_BANS, Sentence, Sentenced};
pub use self::pending::{Pending, When};
pub use self::quotas::{QuotaCount, QuotaFilter};
pub use self::revocations::{MAX_REVOCATIONS, StoredRevocation};
pub use self::signing::{KeyPurpose, StoredSigningKey};
use crate::clock::UnixTime;

/// The open store. All calls block: keep them off the request path.
pub struct Store {
    connection: Mutex<Connection>,
    /// Held: the lock on the directory ends with it.
    lock: File,
    /// This host's name in the change log, made at first start.
    origin: String,
    path: PathBuf,
}

impl Store {
    /// Opens the store in `directory`, and makes what is missing of it.
    pub fn open(directory: &Path, now: UnixTime) -> Result<Self, StoreError> {
        open::open(directory, None, now)
    }

    /// The same, with the lock that an earlier agent handed over. Both may use the store from then on.
    pub fn open_with(directory: &Path, lock: Option<File>, now: UnixTime) -> Result<Self, StoreError> {
        open::open(directory, lock, now)
    }

    /// Writes down that this process has the lock from now on.
    ///
    /// # Errors
    /// [`Problem::Io`].
    pub fn note_holder(&self) -> Result<(), StoreError> {
        open::note_holder(&self.lock).map_err(|problem| self.error(problem))
    }

    /// The lock on the directory, for another agent.
    ///
    /// # Errors
    /// What the system says.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Runs `change` as one durable transaction, or leaves everything as it was.
    fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T, Problem>) -> Result<T, StoreError> {
        let mut connection = self.connection();
        let result = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        result.map_err(|problem| self.error(problem))
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Problem>) -> Result<T, StoreError> {
        query(&self.connection()).map_err(|problem| self.error(problem))
    }

    /// A panic in a change rolled it back: the connection is as good as before.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, problem: Problem) -> StoreError {
        StoreError { path: self.path.clone(), problem }
    }
}
