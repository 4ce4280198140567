//! What of the limits lies in the store: the counts of quotas, debts of more than a burst, and what was set beside the
//! configuration.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::counts::Counts;
use super::key::{Key, Marks};
use super::limiter::Limiter;
use super::overrides::Override;
use super::period;
use super::plan::{Plan, Rule};
use super::shared::Shared;
use super::table::{Owner, Seen, Table};
use super::tables::{Class, Debts, is_free};
use crate::clock::{Now, UnixTime};
use crate::config::Counted;
use crate::store::{Store, StoreError, StoredDebt};

/// How often counts and debts are to be written: what a crash loses was counted since.
pub const FLUSH: Duration = Duration::from_secs(1);

/// Rows of one transaction, so that nobody waits long behind it.
const AT_ONCE: usize = 2_000;

/// For so long the wall clock must have gone steadily before what is over by it is forgotten: one that was set to a wrong
/// year, and back, finds everything as it was.
const STEADY: Duration = Duration::from_secs(60 * 60);

impl Limiter {
    /// Takes over what is stored. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub fn load(&self, store: &Store, now: Now) -> Result<(), StoreError> {
        let today = period::day(now.unix);
        store.each_count(today, |row| {
            let shared = self.shared.of(row.limit);
            let counts = || self.tables.of(Class::of_marks(row.marks)).counts();
            if shared.stored_as(Key::from_bytes(row.key)).is_some() || !counts().load(row, today) {
                shared.load(row);
            }
        })?;
        for (name, budget) in store.budgets()? {
            self.overridden.set(&name, Some(Override { budget, durable: true }));
        }
        self.overridden.apply(&self.current());
        self.load_debts(store, now)
    }

    /// Takes over debts that are stored, where no more is owed than that already. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub fn load_debts(&self, store: &Store, now: Now) -> Result<(), StoreError> {
        store.each_debt(now.unix, |row| self.load_debt(row, now))
    }

    fn load_debt(&self, row: &StoredDebt, now: Now) {
        let word = now.monotonic.0.saturating_add(row.left(now.unix));
        let shared = self.shared.of(row.limit);
        let key = Key::from_bytes(row.key);
        if let Some(own) = shared.stored_as(key) {
            own.fetch_max(word, AcqRel);
            return;
        }
        let table = &self.tables.of(Class::of_marks(row.marks)).debts().table;
        let owner = Owner { key, limit: row.limit, marks: row.marks };
        loop {
            match table.enter(&owner, |word| is_free(false, word, now), |_| word) {
                Some((seen, false)) if seen.word < word => {
                    if table.replace(seen, word) {
                        return;
                    }
                }
                Some(_) => return,
                None => {
                    shared.word(key).fetch_max(word, AcqRel);
                    return;
                }
            }
        }
    }

    /// Writes what was counted and owed since the last time, and takes over what others have counted. Blocks.
    ///
    /// # Errors
    /// The store's; it is written the next time then.
    pub fn flush(&self, store: &Store, now: Now) -> Result<(), StoreError> {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.current();
        for class in self.tables.each() {
            class.known_counts().map_or(Ok(()), |counts| flush_counts(counts, store))?;
            class.known_debts().map_or(Ok(()), |debts| flush_debts(debts, &plan, store, now))?;
        }
        plan.rules.iter().try_for_each(|rule| flush_shared(rule, store, now))
    }

    /// Forgets some of what was counted in periods that are over, and debts that are paid, where the wall clock has been
    /// steady for so long. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub fn purge(&self, store: &Store, steady: Duration, now: UnixTime) -> Result<(), StoreError> {
        if steady >= STEADY {
            store.purge_counts(period::day(now))?;
            store.purge_debts(now)?;
        }
        Ok(())
    }
}

fn flush_counts(counts: &Counts, store: &Store) -> Result<(), StoreError> {
    loop {
        let due = counts.due(AT_ONCE);
        if due.is_empty() {
            return Ok(());
        }
        let totals = store.add_counts(due.iter().map(|due| &due.count));
        let totals = totals.inspect_err(|_| due.iter().for_each(|due| counts.put_back(due)))?;
        due.iter().zip(totals).for_each(|(due, total)| counts.settle(due, total));
        if due.len() < AT_ONCE {
            return Ok(());
        }
    }
}

/// Debts of no more than a burst are not written: a restart may forget so much.
fn flush_debts(debts: &Debts, plan: &Plan, store: &Store, now: Now) -> Result<(), StoreError> {
    loop {
        let due = debts.dirty.take(AT_ONCE, |at| backlog(&debts.table, at, plan, now));
        if due.is_empty() {
            return Ok(());
        }
        let written = store.put_debts(due.iter().map(|(_, row)| row));
        written.inspect_err(|_| due.iter().for_each(|(seen, _)| debts.dirty.note(seen.at)))?;
        if due.len() < AT_ONCE {
            return Ok(());
        }
    }
}

fn backlog(table: &Table, at: usize, plan: &Plan, now: Now) -> Option<(Seen, StoredDebt)> {
    let (seen, Owner { key, limit, marks }) = table.read(at)?;
    let rule = plan.rules.iter().find(|rule| rule.id == limit)?;
    let owed = rule.budget.load().beyond_burst(seen.word, now)?;
    Some((seen, StoredDebt { key: key.to_bytes(), limit, marks, owed, written: now.unix }))
}

/// What newcomers without room have counted or owe together.
fn flush_shared(rule: &Rule, store: &Store, now: Now) -> Result<(), StoreError> {
    let shared: &Arc<Shared> = &rule.shared;
    let budget = rule.budget.load();
    if budget.is_quota() {
        let due = shared.due();
        if !due.is_empty() {
            let totals = store.add_counts(due.iter().map(|due| &due.count))?;
            due.iter().zip(totals).for_each(|(due, total)| shared.settle(due, total));
        }
    } else if rule.counted == Counted::ResponseBytes {
        let backlog = |(key, word): (Key, &AtomicU64)| {
            let owed = budget.beyond_burst(word.load(Acquire), now)?;
            let (limit, marks, written) = (rule.id, Marks::default(), now.unix);
            Some(StoredDebt { key: key.to_bytes(), limit, marks, owed, written })
        };
        let due: Vec<_> = shared.words().filter_map(backlog).collect();
        if !due.is_empty() {
            store.put_debts(&due)?;
        }
    }
    Ok(())
}
