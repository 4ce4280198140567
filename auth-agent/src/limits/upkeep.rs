//! What of the limits lies in the store: the counts of quotas, and what was set beside the configuration.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use super::budget::{count, ends, packed};
use super::key::Key;
use super::limiter::Limiter;
use super::overrides::Override;
use super::period;
use crate::clock::UnixTime;
use crate::store::{QuotaCount, Store, StoreError};

/// How often counts are to be written: what a crash loses was counted since.
pub const FLUSH: Duration = Duration::from_secs(1);

/// Counts of one transaction, so that nobody waits long behind it.
const AT_ONCE: usize = 2_000;

/// For so long the wall clock must have gone steadily before the counts of an earlier period are forgotten: one that was
/// set to a wrong year, and back, finds them as they were.
const STEADY: Duration = Duration::from_secs(60 * 60);

impl Limiter {
    /// Takes over what is stored. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub fn load(&self, store: &Store, now: UnixTime) -> Result<(), StoreError> {
        let today = period::day(now);
        store.each_count(today, |stored| {
            if !self.counts().load(stored, today) {
                self.load_shared(stored);
            }
        })?;
        for (name, budget) in store.budgets()? {
            self.overridden.set(&name, Some(Override { budget, durable: true }));
        }
        self.overridden.apply(&self.current());
        Ok(())
    }

    /// Where there is no room, newcomers have counted this together.
    fn load_shared(&self, stored: &QuotaCount) {
        let words = self.shared.of(stored.limit);
        let word = &words[Key::from_bytes(stored.key).high as usize % words.len()];
        let added = u64::try_from(stored.count).unwrap_or(0);
        let add = |seen: u64| {
            let same = ends(seen) == stored.end;
            Some(packed(stored.end, added + if same { count(seen) } else { 0 }))
        };
        // It always changes.
        let _ = word.fetch_update(AcqRel, Acquire, add);
    }

    /// Writes what was counted since the last time, and takes over what others have counted. Blocks.
    ///
    /// # Errors
    /// The store's; it is written the next time then.
    pub fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let (_, Some(counts)) = self.tables() else { return Ok(()) };
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Forgets some of what was counted in periods that are over, where the wall clock has been steady for so long. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub fn purge(&self, store: &Store, steady: Duration, now: UnixTime) -> Result<(), StoreError> {
        if steady >= STEADY {
            store.purge_counts(period::day(now))?;
        }
        Ok(())
    }
}
