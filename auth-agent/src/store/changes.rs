//! The log of every change: who asks what happened, and later what other hosts must be told, reads it here.

use std::path::PathBuf;

use rusqlite::{Connection, Transaction};
use serde::Serialize;

use super::values::json;
use super::{AuditOutcome, Problem, Store, StoreError, audit};
use crate::actor::Actor;
use crate::clock::UnixTime;

/// How long the log remembers a change that no longer has any effect.
pub(super) const KEPT_AFTER_EXPIRY_SECONDS: u64 = 90 * 24 * 60 * 60;

/// Rows that one purge removes from a table that may be long, so that nobody waits long behind it.
pub(super) const PURGED_AT_ONCE: i64 = 2_000;

/// One change. Its numbers rise with time and are never reused.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change {
    /// From when on it has no effect.
    pub expires: Option<UnixTime>,
    /// `allow.add`, `allow.remove`, `ban.add`, `ban.automatic` (nobody made it), `ban.import`, `ban.remove`, `change.confirm`,
    /// `change.undo`, `connection.end` (for an offence), `key.create`, `key.import`, `key.revoke`, `key.rotate`,
    /// `limit.remove`, `limit.set`, `revocation.add`, `revocation.remove`,
    /// `signing-key.put`, `signing-key.remove`, `source.drop` (at the network card, for what it owes), `token.issue`, `token.revoke`.
    pub kind: String,
    /// The host that made it.
    pub origin: String,
    /// What changed; its fields depend on the kind.
    pub payload: serde_json::Value,
    /// Sequence number at its origin.
    pub seq: i64,
    /// When it was made.
    pub time: UnixTime,
}

/// What a change does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    AllowAdd,
    AllowRemove,
    BanAdd,
    BanAutomatic,
    BanImport,
    BanRemove,
    BudgetRemove,
    BudgetSet,
    ChangeConfirm,
    ChangeUndo,
    ConnectionEnd,
    DebtReset,
    KeyCreate,
    KeyImport,
    KeyRevoke,
    KeyRotate,
    LimitRemove,
    LimitSet,
    RevocationAdd,
    RevocationRemove,
    SigningKeyPut,
    SigningKeyRemove,
    SourceDrop,
    TokenIssue,
    TokenRevoke,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AllowAdd => "allow.add",
            Self::AllowRemove => "allow.remove",
            Self::BanAdd => "ban.add",
            Self::BanAutomatic => "ban.automatic",
            Self::BanImport => "ban.import",
            Self::BanRemove => "ban.remove",
            Self::BudgetRemove => "budget.remove",
            Self::BudgetSet => "budget.set",
            Self::ChangeConfirm => "change.confirm",
            Self::ChangeUndo => "change.undo",
            Self::ConnectionEnd => "connection.end",
            Self::DebtReset => "debt.reset",
            Self::KeyCreate => "key.create",
            Self::KeyImport => "key.import",
            Self::KeyRevoke => "key.revoke",
            Self::KeyRotate => "key.rotate",
            Self::LimitRemove => "limit.remove",
            Self::LimitSet => "limit.set",
            Self::RevocationAdd => "revocation.add",
            Self::RevocationRemove => "revocation.remove",
            Self::SigningKeyPut => "signing-key.put",
            Self::SigningKeyRemove => "signing-key.remove",
            Self::SourceDrop => "source.drop",
            Self::TokenIssue => "token.issue",
            Self::TokenRevoke => "token.revoke",
        }
    }
}

impl Store {
    /// Changes after number `after` (0: from the beginning), oldest first, at most `limit`.
    pub fn changes(&self, after: i64, limit: u32) -> Result<Vec<Change>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT seq, origin, time, kind, payload, expires FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let rows = query.query_map((after, limit), |row| {
                Ok(Change {
                    seq: row.get(0)?,
                    origin: row.get(1)?,
                    time: row.get(2)?,
                    kind: row.get(3)?,
                    payload: json(row, 4)?,
                    expires: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The number of the last change that is still in the log; 0: there is none.
    pub fn last_change(&self) -> Result<i64, StoreError> {
        let last = "SELECT coalesce(max(seq), 0) FROM changes";
        self.read(|connection| Ok(connection.query_row(last, [], |row| row.get(0))?))
    }

    /// The schema of the database, where a newer program has changed it since this one opened it.
    ///
    /// # Errors
    /// The database's.
    pub fn newer_schema(&self) -> Result<Option<i64>, StoreError> {
        let found = |connection: &Connection| {
            Ok(connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?)
        };
        self.read(found).map(|found| Some(found).filter(|found| *found > super::open::KNOWN))
    }

    /// What a newer program left of the database as this one knows it.
    pub fn copy_before_newer(&self) -> PathBuf {
        super::open::copy_of(&self.path, super::open::KNOWN)
    }

    /// Another number than the last time if another process has written meanwhile.
    pub fn foreign_writes(&self) -> Result<i64, StoreError> {
        self.read(|connection| Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?))
    }

    /// Adds the log entry of a change to its transaction, and that of who made it.
    pub(super) fn record(
        &self,
        transaction: &Transaction<'_>,
        now: UnixTime,
        kind: Kind,
        payload: &impl Serialize,
        expires: Option<UnixTime>,
    ) -> Result<(), Problem> {
        let payload = serde_json::to_value(payload)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let actor = match kind {
            // Its own client asked for it.
            Kind::TokenRevoke if Actor::current().peer().is_none() => Actor::CLIENT,
            _ => Actor::current(),
        };
        audit::insert(transaction, &actor, kind.name(), &payload, AuditOutcome::Done, now)?;
        transaction.execute(
            "INSERT INTO changes (origin, time, kind, payload, expires) VALUES (?1, ?2, ?3, ?4, ?5)",
            (&self.origin, now, kind.name(), payload.to_string(), expires),
        )?;
        Ok(())
    }
}
