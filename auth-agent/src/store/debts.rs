//! What is owed to limits beyond a burst, by the keyed hash of whose it is: who is meant can't be read from it.
//!
//! The clock that debts are paid by does not go on across a restart of the host, so they are stored by the wall clock. One
//! that is set back meanwhile makes nobody owe more, and one that is set forward at most forgets.

use rusqlite::Row;

use super::{Store, StoreError};
use crate::clock::UnixTime;
use crate::limits::Marks;

const NANOSECONDS: u64 = 1_000_000_000;

/// What one owner owes to one limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoredDebt {
    /// Whose it is.
    pub key: [u8; 16],
    /// The number of the limit.
    pub limit: u64,
    /// What it is looked for by.
    pub marks: Marks,
    /// Nanoseconds that were owed when it was written; at most 2^61.
    pub owed: u64,
    /// When that was.
    pub written: UnixTime,
}

impl StoredDebt {
    /// Nanoseconds that are still owed.
    pub fn left(&self, now: UnixTime) -> u64 {
        let paid = now.0.saturating_sub(self.written.0).saturating_mul(NANOSECONDS);
        self.owed.saturating_sub(paid)
    }
}

impl Store {
    /// Writes what is owed; what another agent has written of the same owner stays if it is more. One durable transaction.
    pub fn put_debts<'d>(&self, debts: impl IntoIterator<Item = &'d StoredDebt>) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut put = transaction.prepare_cached(
                "INSERT INTO request_debts
                     (key, request_limit, api_key, principal, source, tenant, owed, written)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (key) DO UPDATE SET owed = excluded.owed, written = excluded.written
                 WHERE excluded.owed > owed - max(excluded.written - written, 0) * 1000000000",
            )?;
            for StoredDebt { key, limit, marks, owed, written } in debts {
                let Marks { key: api_key, principal, source, tenant } = marks;
                let owed = i64::try_from(*owed).unwrap_or(i64::MAX);
                put.execute((key, *limit as i64, api_key, principal, source, tenant, owed, written))?;
            }
            Ok(())
        })
    }

    /// Hands over what is owed and not paid. What a clock that was set back since has written counts from now on.
    pub fn each_debt(&self, now: UnixTime, mut each: impl FnMut(&StoredDebt)) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("UPDATE request_debts SET written = ?1 WHERE written > ?1", [now])?;
            Ok(())
        })?;
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT key, request_limit, api_key, principal, source, tenant, owed, written
                 FROM request_debts",
            )?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                Some(debt(row)?).filter(|debt| debt.left(now) > 0).iter().for_each(&mut each);
            }
            Ok(())
        })
    }

    /// Forgets what is paid.
    pub fn purge_debts(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.write(|transaction| {
            Ok(transaction.execute(
                "DELETE FROM request_debts WHERE key IN
                 (SELECT key FROM request_debts WHERE written + owed / 1000000000 < ?1 LIMIT ?2)",
                (now, super::changes::PURGED_AT_ONCE),
            )?)
        })
    }
}

fn debt(row: &Row<'_>) -> rusqlite::Result<StoredDebt> {
    let (limit, owed): (i64, i64) = (row.get(1)?, row.get(6)?);
    let marks = Marks { key: row.get(2)?, principal: row.get(3)?, source: row.get(4)?, tenant: row.get(5)? };
    let owed = u64::try_from(owed).unwrap_or(0);
    Ok(StoredDebt { key: row.get(0)?, limit: limit as u64, marks, owed, written: row.get(7)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::QuotaCount;

    const SECOND: u64 = NANOSECONDS;

    fn debt_of(key: u8, seconds: u64, written: u64) -> StoredDebt {
        let marks = Marks { source: 7, ..Marks::default() };
        StoredDebt {
            key: [key; 16],
            limit: 1 << 63,
            marks,
            owed: seconds * SECOND,
            written: UnixTime(written),
        }
    }

    #[test]
    fn a_store_from_before_there_were_debts_keeps_its_counts_and_takes_them() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("store");
        let counted = QuotaCount { count: 7, end: 9, key: [1; 16], limit: 3, marks: Marks::default() };
        let store = Store::open(&directory, UnixTime(1)).unwrap();
        store.add_counts([&counted]).unwrap();
        store
            .write(|transaction| {
                transaction.execute_batch("DROP TABLE request_debts")?;
                Ok(transaction.pragma_update(None, "user_version", 11)?)
            })
            .unwrap();
        drop(store);
        let store = Store::open(&directory, UnixTime(2)).unwrap();
        let mut counts = Vec::new();
        store.each_count(0, |row| counts.push(*row)).unwrap();
        assert_eq!(counts, [counted]);
        store.put_debts(&[debt_of(1, 100, 1_000)]).unwrap();
        let mut debts = Vec::new();
        store.each_debt(UnixTime(1_000), |debt| debts.push(*debt)).unwrap();
        assert_eq!(debts, [debt_of(1, 100, 1_000)]);
    }

    #[test]
    fn a_debt_is_paid_by_the_wall_clock_and_one_that_is_set_back_makes_it_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), UnixTime(1)).unwrap();
        let left = |now: u64| {
            let mut left = Vec::new();
            let now = UnixTime(now);
            store.each_debt(now, |debt| left.push((debt.key[0], debt.left(now) / SECOND))).unwrap();
            left
        };
        store.put_debts(&[debt_of(1, 100, 1_000), debt_of(2, 20, 1_000)]).unwrap();
        assert_eq!((left(1_010), left(1_020)), (vec![(1, 90), (2, 10)], vec![(1, 80)]));
        // Another agent knows of less, and later of more.
        store.put_debts(&[debt_of(1, 60, 1_030)]).unwrap();
        assert_eq!(left(1_030), [(1, 70)]);
        store.put_debts(&[debt_of(1, 75, 1_030)]).unwrap();
        assert_eq!(left(1_030), [(1, 75)]);
        store.purge_debts(UnixTime(1_030)).unwrap();
        // The clock is set back for good: it is owed from then on, and once.
        assert_eq!((left(500), left(510)), (vec![(1, 75)], vec![(1, 65)]));
        store.purge_debts(UnixTime(576)).unwrap();
        assert_eq!(left(500), []);
    }
}
