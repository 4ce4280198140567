//! What quotas have counted, by the keyed hash of whose it is: who is meant can't be read from it.

use rusqlite::Row;

use super::{Store, StoreError};
use crate::limits::Marks;

/// What was counted for one owner in one period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuotaCount {
    /// Requests or bytes; to be added, or what it has come to.
    pub count: i64,
    /// The first day after the period, in days since 1970-01-01.
    pub end: u16,
    /// Whose it is.
    pub key: [u8; 16],
    /// The number of the quota.
    pub limit: u64,
    /// What it is looked for by.
    pub marks: Marks,
}

/// Which counts are meant: every one of a quota, or those with a mark. 0: any.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QuotaFilter {
    /// The number of the quota.
    pub limit: u64,
    /// What they have.
    pub marks: Marks,
}

impl Store {
    /// Adds to what was counted, and says what each has come to, in this order. One durable transaction.
    pub fn add_counts<'c>(
        &self,
        counts: impl IntoIterator<Item = &'c QuotaCount>,
    ) -> Result<Vec<u64>, StoreError> {
        self.write(|transaction| {
            let mut add = transaction.prepare_cached(
                "INSERT INTO quota_counts (key, ends, quota, api_key, principal, source, tenant, count)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, max(?8, 0))
                 ON CONFLICT (key, ends) DO UPDATE SET count = max(count + ?8, 0)
                 RETURNING count",
            )?;
            let mut totals = Vec::new();
            for QuotaCount { count, end, key, limit, marks } in counts {
                let total: i64 = add.query_row(
                    (key, end, *limit as i64, marks.key, marks.principal, marks.source, marks.tenant, count),
                    |row| row.get(0),
                )?;
                totals.push(u64::try_from(total).unwrap_or(0));
            }
            Ok(totals)
        })
    }

    /// Hands over what was counted in periods that are not over on `today`.
    pub fn each_count(&self, today: u16, mut each: impl FnMut(&QuotaCount)) -> Result<(), StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT key, ends, quota, api_key, principal, source, tenant, count FROM quota_counts
                 WHERE ends > ?1",
            )?;
            let mut rows = query.query([today])?;
            while let Some(row) = rows.next()? {
                each(&counted(row)?);
            }
            Ok(())
        })
    }

    /// Forgets what was counted, and what is owed, of these.
    pub fn reset_counts(&self, filter: &QuotaFilter) -> Result<(), StoreError> {
        let QuotaFilter { limit, marks } = filter;
        let wanted = (*limit as i64, marks.key, marks.principal, marks.source, marks.tenant);
        self.write(|transaction| {
            transaction.execute(
                "DELETE FROM quota_counts WHERE quota = ?1 AND (?2 = 0 OR api_key = ?2)
                 AND (?3 = 0 OR principal = ?3) AND (?4 = 0 OR source = ?4) AND (?5 = 0 OR tenant = ?5)",
                wanted,
            )?;
            transaction.execute(
                "DELETE FROM request_debts WHERE request_limit = ?1 AND (?2 = 0 OR api_key = ?2)
                 AND (?3 = 0 OR principal = ?3) AND (?4 = 0 OR source = ?4) AND (?5 = 0 OR tenant = ?5)",
                wanted,
            )?;
            Ok(())
        })
    }

    /// Forgets what was counted in periods that ended on `today` or before, some of it at a time; says how much.
    pub fn purge_counts(&self, today: u16) -> Result<usize, StoreError> {
        self.write(|transaction| {
            Ok(transaction.execute(
                "DELETE FROM quota_counts WHERE (key, ends) IN
                 (SELECT key, ends FROM quota_counts WHERE ends <= ?1 LIMIT ?2)",
                (today, super::changes::PURGED_AT_ONCE),
            )?)
        })
    }
}

fn counted(row: &Row<'_>) -> rusqlite::Result<QuotaCount> {
    let quota: i64 = row.get(2)?;
    let marks = Marks { key: row.get(3)?, principal: row.get(4)?, source: row.get(5)?, tenant: row.get(6)? };
    Ok(QuotaCount { count: row.get(7)?, end: row.get(1)?, key: row.get(0)?, limit: quota as u64, marks })
}
