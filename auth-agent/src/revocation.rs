//! What is revoked: tokens, API keys, subjects, clients and issuers, each altogether or as far as it was issued before a
//! time.
//!
//! Every credential is checked at every request, so that a revocation holds from the next one on. Invariants:
//!
//! - A revocation is a mark, a time before which what was issued is revoked, and a time when that is over. Two of one
//!   target become one that revokes what either does, in whatever order they come.
//! - What says nothing of when it was issued counts as issued before any time.
//! - A change raises the generation after it can be seen: an identity that was found clean in this generation is clean.

mod table;
mod target;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::table::{Entry, Table};
use self::target::{KINDS, Kind};
pub use self::target::{MalformedMark, Mark, Marks, Target};
use crate::clock::UnixTime;
use crate::identity::{Identity, Method};

/// As many changes at a time as do not meet; a power of two. Also what keeps growing and purging short: each shard does
/// it alone.
const SHARDS: usize = 256;

/// Shards that one call of [`Revocations::purge`] looks through.
const PURGED_AT_ONCE: usize = 8;

/// Whatever it was issued.
const ANY: u32 = u32::MAX;
/// Without end.
const NEVER: u32 = u32::MAX;

/// One revocation, as far as checking needs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// What was issued before is revoked; `None`: whenever it was issued.
    pub before: Option<UnixTime>,
    /// The first second in which it says nothing any more, as everything that it revokes is over; `None`: never.
    pub until: Option<UnixTime>,
}

impl Revocation {
    /// What revokes all that either of two revokes.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let later = |one: Option<UnixTime>, other: Option<UnixTime>| {
            one.zip(other).map(|(one, other)| one.max(other))
        };
        Self { before: later(self.before, other.before), until: later(self.until, other.until) }
    }

    fn entry(self, mark: Mark) -> Entry {
        // Times beyond 2106 are as good as for ever; a revocation is never over in 1970.
        let seconds = |time: Option<UnixTime>, none: u32| {
            time.map_or(none, |time| u32::try_from(time.0).unwrap_or(none).clamp(1, none))
        };
        Entry::new(mark.0, seconds(self.before, ANY), seconds(self.until, NEVER))
    }
}

impl From<&Entry> for Revocation {
    fn from(entry: &Entry) -> Self {
        let time = |seconds: u32, none: u32| (seconds != none).then_some(UnixTime(seconds.into()));
        Self { before: time(entry.before, ANY), until: time(entry.until, NEVER) }
    }
}

/// Every revocation in force.
pub struct Revocations {
    /// Entries of each kind: who revokes no subjects pays for no look-up of subjects.
    counts: [AtomicUsize; KINDS],
    generation: AtomicU64,
    /// Where the next purge goes on.
    purged: AtomicUsize,
    shards: Box<[RwLock<Table>]>,
}

impl Default for Revocations {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self {
            counts: Default::default(),
            generation: AtomicU64::new(1),
            purged: AtomicUsize::new(0),
            shards,
        }
    }
}

impl Revocations {
    /// Revokes; on top of what is revoked of the same target already.
    pub fn revoke(&self, target: &Target, revocation: Revocation, now: UnixTime) {
        let (kind, mark) = target.mark();
        self.counts[kind as usize].fetch_add(1, Ordering::SeqCst);
        let mut shard = self.write(mark);
        let earlier = shard.get(mark.0).filter(|entry| u64::from(entry.until) > now.0);
        let merged = earlier.map_or(revocation, |earlier| revocation.merged(earlier.into()));
        let new = shard.insert(merged.entry(mark));
        drop(shard);
        if !new {
            self.counts[kind as usize].fetch_sub(1, Ordering::SeqCst);
        }
        // Last: see the invariant.
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Puts in what was stored, before anyone is checked.
    pub fn load(&self, mark: Mark, revocation: Revocation) {
        if self.write(mark).insert(revocation.entry(mark)) {
            self.counts[mark.kind() as usize].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether all of a target is revoked until then, at least.
    pub fn covers(&self, target: &Target, until: Option<UnixTime>) -> bool {
        let (_, mark) = target.mark();
        let wanted = Revocation { before: None, until };
        self.read(mark).get(mark.0).is_some_and(|entry| {
            let found = Revocation::from(entry);
            found.merged(wanted) == found
        })
    }

    /// Takes a revocation back; says whether there was one.
    pub fn restore(&self, target: &Target) -> bool {
        let (kind, mark) = target.mark();
        let removed = self.write(mark).remove(mark.0).is_some();
        if removed {
            self.counts[kind as usize].fetch_sub(1, Ordering::SeqCst);
        }
        removed
    }

    /// Whether a credential is revoked.
    pub fn is_revoked(&self, identity: &Identity, now: UnixTime) -> bool {
        let generation = self.generation.load(Ordering::SeqCst);
        if identity.was_clean_in() == generation {
            return false;
        }
        let revoked = self.find(identity, now);
        if !revoked {
            identity.is_clean_in(generation);
        }
        revoked
    }

    fn find(&self, identity: &Identity, now: UnixTime) -> bool {
        let facts = identity.facts();
        let issued_at = facts.issued_at.map_or(0, |time| time.0);
        Kind::ALL.into_iter().any(|kind| {
            // An API key was issued once and is rotated, not refreshed: "before" is about tokens that were got for it.
            let always = kind == Kind::Key && facts.method == Method::ApiKey;
            // The marks are not made for those who revoke nothing.
            self.counts[kind as usize].load(Ordering::SeqCst) > 0
                && identity.marks().of(kind).is_some_and(|mark| {
                    self.read(mark).get(mark.0).is_some_and(|entry| {
                        u64::from(entry.until) > now.0
                            && (entry.before == ANY || !always && issued_at < u64::from(entry.before))
                    })
                })
        })
    }

    /// Has everyone looked for again: what was over by the clock may not be.
    pub fn recheck(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// How many there are, those that are over and not yet forgotten included.
    pub fn len(&self) -> usize {
        self.counts.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that they take, bytes.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).bytes()).sum()
    }

    /// Forgets a part of what is over: in memory, that only takes room. To be called every few seconds.
    pub fn purge(&self, now: UnixTime) {
        let from = self.purged.fetch_add(PURGED_AT_ONCE, Ordering::Relaxed);
        for at in from..from + PURGED_AT_ONCE {
            let mut over = [0; KINDS];
            let shard = &self.shards[at % SHARDS];
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(
                |entry| u64::from(entry.until) > now.0,
                |gone| over[Mark(gone.mark()).kind() as usize] += 1,
            );
            for (count, over) in self.counts.iter().zip(over) {
                count.fetch_sub(over, Ordering::SeqCst);
            }
        }
    }

    fn read(&self, mark: Mark) -> RwLockReadGuard<'_, Table> {
        self.shards[mark.shard(SHARDS)].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, mark: Mark) -> RwLockWriteGuard<'_, Table> {
        self.shards[mark.shard(SHARDS)].write().unwrap_or_else(PoisonError::into_inner)
    }
}
