//! Revocations in the store.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, Transaction};
use serde_json::json;

use super::changes::{Kind, PURGED_AT_ONCE};
use super::values::json as json_column;
use super::{Problem, Store, StoreError};
use crate::api_key::KeyId;
use crate::clock::UnixTime;
use crate::revocation::{Mark, Revocation, Revocations, Target};

/// Most revocations at a time.
pub const MAX_REVOCATIONS: usize = 10_000_000;

/// A revocation as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredRevocation {
    /// When it was made, or last extended.
    pub created: UnixTime,
    /// The operator's remark.
    pub reason: Option<String>,
    /// What is revoked of it.
    pub revocation: Revocation,
    /// What is revoked.
    pub target: Target,
}

impl Store {
    /// Revokes all of these, or nothing, on top of what is revoked of them already. An API key that is revoked whatever
    /// it was issued is so for good, whatever becomes of this revocation.
    pub fn revoke(
        &self,
        revocations: &[(Target, Revocation)],
        reason: Option<&str>,
        now: UnixTime,
    ) -> Result<Vec<StoredRevocation>, StoreError> {
        self.write(|transaction| {
            revocations
                .iter()
                .map(|(target, revocation)| self.revoke_one(transaction, target, *revocation, reason, now))
                .collect()
        })
    }

    fn revoke_one(
        &self,
        transaction: &Transaction<'_>,
        target: &Target,
        revocation: Revocation,
        reason: Option<&str>,
        now: UnixTime,
    ) -> Result<StoredRevocation, Problem> {
        if let (Target::Key { key }, None) = (target, revocation.before) {
            transaction
                .execute("UPDATE api_keys SET revoked = coalesce(revoked, ?2) WHERE id = ?1", (key, now))?;
        }
        let (_, mark) = target.mark();
        let earlier = transaction
            .query_row(
                "SELECT before, until FROM revocations WHERE mark = ?1 AND (until IS NULL OR until > ?2)",
                (mark, now),
                |row| Ok(Revocation { before: row.get(0)?, until: row.get(1)? }),
            )
            .optional()?;
        let revocation = earlier.map_or(revocation, |earlier| revocation.merged(earlier));
        let Revocation { before, until } = revocation;
        let payload = json!({ "target": target, "before": before, "until": until, "reason": reason });
        transaction
            .prepare_cached(
                "INSERT INTO revocations (mark, target, before, until, reason, created)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (mark) DO UPDATE SET before = excluded.before, until = excluded.until,
                 reason = coalesce(excluded.reason, reason), created = excluded.created",
            )?
            .execute((mark, json!(target).to_string(), before, until, reason, now))?;
        let (kind, expires) = match target {
            Target::Token { .. } | Target::TokenId { .. } => (Kind::TokenRevoke, until),
            // For good, whatever becomes of the revocation.
            Target::Key { .. } if before.is_none() => (Kind::KeyRevoke, None),
            _ => (Kind::RevocationAdd, until),
        };
        self.record(transaction, now, kind, &payload, expires)?;
        Ok(StoredRevocation {
            created: now,
            reason: reason.map(str::to_owned),
            revocation,
            target: target.clone(),
        })
    }

    /// Takes a revocation back; `None`: there is none of this mark.
    pub fn remove_revocation(
        &self,
        mark: Mark,
        now: UnixTime,
    ) -> Result<Option<StoredRevocation>, StoreError> {
        self.write(|transaction| {
            let found = transaction
                .query_row(&format!("SELECT {COLUMNS} FROM revocations WHERE mark = ?1"), [mark], read)
                .optional()?;
            if let Some(found) = &found {
                transaction.execute("DELETE FROM revocations WHERE mark = ?1", [mark])?;
                let payload = json!({ "target": found.target });
                self.record(transaction, now, Kind::RevocationRemove, &payload, found.revocation.until)?;
            }
            Ok(found)
        })
    }

    /// The revocations in force whose mark is greater than `after`, at most `limit`, by mark.
    pub fn revocations(
        &self,
        after: Option<Mark>,
        limit: usize,
        now: UnixTime,
    ) -> Result<Vec<StoredRevocation>, StoreError> {
        let after = after.map_or_else(Vec::new, |mark| mark.to_bytes().to_vec());
        self.read(|connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM revocations
                 WHERE mark > ?1 AND (until IS NULL OR until > ?2) ORDER BY mark LIMIT ?3"
            ))?;
            let found = query.query_map((after, now, limit as i64), read)?;
            Ok(found.collect::<Result<_, _>>()?)
        })
    }

    /// Puts every revocation into an index; those, too, that are over by a clock that may be wrong.
    pub fn load_revocations(&self, index: &Revocations) -> Result<(), StoreError> {
        self.read(|connection| {
            let mut query =
                connection.prepare("SELECT mark, before, until FROM revocations ORDER BY mark")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                index.load(row.get(0)?, Revocation { before: row.get(1)?, until: row.get(2)? });
            }
            Ok(())
        })
    }

    /// Whether there is an API key of this id, revoked or not.
    pub fn has_key(&self, id: KeyId) -> Result<bool, StoreError> {
        self.read(|connection| {
            let found = "SELECT EXISTS (SELECT 1 FROM api_keys WHERE id = ?1)";
            Ok(connection.query_row(found, [id], |row| row.get(0))?)
        })
    }

    /// Whether there is an API key of this name that is not revoked.
    pub fn has_key_named(&self, name: &str) -> Result<bool, StoreError> {
        self.read(|connection| {
            let found = "SELECT EXISTS (SELECT 1 FROM api_keys WHERE name = ?1 AND revoked IS NULL)";
            Ok(connection.query_row(found, [name], |row| row.get(0))?)
        })
    }

    /// Since when the API key of this id is revoked; `None`: it is not, or there is none.
    pub fn key_revoked(&self, id: KeyId) -> Result<Option<UnixTime>, StoreError> {
        self.read(|connection| {
            let revoked = "SELECT revoked FROM api_keys WHERE id = ?1";
            Ok(connection.query_row(revoked, [id], |row| row.get(0)).optional()?.flatten())
        })
    }

    /// Removes a part of those that are over, and of the log of single tokens that are; says how many of the first.
    pub fn purge_revocations(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.write(|transaction| {
            let logged = "DELETE FROM changes WHERE seq IN (SELECT seq FROM changes
                          WHERE expires < ?1 AND kind = ?2 LIMIT ?3)";
            transaction.execute(logged, (now, Kind::TokenRevoke.name(), PURGED_AT_ONCE))?;
            let over = "DELETE FROM revocations WHERE mark IN
                        (SELECT mark FROM revocations WHERE until <= ?1 LIMIT ?2)";
            Ok(transaction.execute(over, (now, PURGED_AT_ONCE))?)
        })
    }
}

const COLUMNS: &str = "target, before, until, reason, created";

fn read(row: &Row<'_>) -> rusqlite::Result<StoredRevocation> {
    Ok(StoredRevocation {
        target: json_column(row, 0)?,
        revocation: Revocation { before: row.get(1)?, until: row.get(2)? },
        reason: row.get(3)?,
        created: row.get(4)?,
    })
}

impl ToSql for Mark {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_bytes().to_vec().into())
    }
}

impl FromSql for Mark {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes: [u8; 16] = value.as_blob()?.try_into().map_err(FromSqlError::other)?;
        Ok(Self::from(bytes))
    }
}
