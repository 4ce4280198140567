//! Who walks through the objects of others: distinct ones that were refused, counted per principal and per source.
//!
//! A principal that asked for too many is slowed, and only then held against its source: who else is behind that keeps
//! its own count. Going on after that counts by principal, too, over however many connections. An object counts once as
//! long as it is among the principal's last [`MOST_OBJECTS`] ones. Both tables keep the law of [`crate::debt_table`]; of
//! principals that share a line for want of one of their own, nobody is slowed but where it asks for an object of others,
//! and nothing is held against a source for the debts of a line that it shares.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use auth_common::gcra::{self, Limit};
use serde::{Deserialize, Serialize};

use crate::clock::{Monotonic, UnixTime};
use crate::config::{EnumerationLimit, MOST_OBJECTS};
use crate::debt_table::{Owing, Table, Whose};
use crate::identity::Identity;
use crate::limits::Charge;

/// Groups of principals, of seven each: 4 MiB, taken with the first object of others that is asked for.
const PRINCIPAL_GROUPS: usize = 1 << 10;
/// Groups of sources: half a MiB.
const SOURCE_GROUPS: usize = 1 << 12;

/// Principals that are remembered once they were slowed.
const REMEMBERED: usize = 100;

/// A principal that was slowed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Slowed {
    /// The name of the issuer in the configuration, where it has one.
    pub issuer: Option<String>,
    /// `api-key`, `certificate` or `jwt`.
    pub method: String,
    /// Where its last request came from.
    pub source: IpAddr,
    /// Its name.
    pub subject: String,
    /// When it was last slowed.
    pub when: UnixTime,
}

/// What is known of those who ask for what is not theirs.
pub struct Enumeration {
    limits: ArcSwapOption<Limits>,
    objects: AtomicU64,
    principals: Table<Principal>,
    /// The latest last. Nobody waits for it on the request path.
    remembered: Mutex<VecDeque<Slowed>>,
    /// Nobody outside can choose who has whose hash.
    secret: RandomState,
    slowed: AtomicU64,
    /// Until when anybody is: who comes later need not be looked for.
    slowed_until: AtomicU64,
    sources: Table<Source>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    end_after: u64,
    principal: Limit,
    source: Limit,
}

/// What became of an object that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Noted {
    /// It had been counted before, or nothing is.
    Before,
    /// It counts.
    Now {
        /// The principal, or all of its source together, asked for too many.
        against_source: bool,
        /// The principal is slowed from now on, and was not before.
        slowed: bool,
    },
    /// The principal is over its limit already.
    Over {
        /// Until it may ask for one more.
        retry_after: Duration,
    },
}

impl Enumeration {
    /// By this limit; without one, nothing is counted.
    pub fn new(limit: Option<EnumerationLimit>) -> Self {
        let enumeration = Self {
            limits: ArcSwapOption::empty(),
            objects: AtomicU64::new(0),
            principals: Table::new(PRINCIPAL_GROUPS),
            remembered: Mutex::default(),
            secret: RandomState::new(),
            slowed: AtomicU64::new(0),
            slowed_until: AtomicU64::new(0),
            sources: Table::new(SOURCE_GROUPS),
        };
        enumeration.limit_to(limit);
        enumeration
    }

    /// From now on by this limit; what is owed stays.
    pub fn limit_to(&self, limit: Option<EnumerationLimit>) {
        self.limits.store(limit.map(Limits::from).map(Into::into));
    }

    /// Whether a principal is slowed; charges nothing.
    pub fn debt(&self, identity: &Identity, now: Monotonic) -> Charge {
        if now.0 >= self.slowed_until.load(Relaxed) {
            return Charge::Within;
        }
        let limits = self.limits.load();
        match (&*limits, self.principals.find(self.key(identity))) {
            (Some(limits), Some(principal)) => gcra::peek(&principal.debt, now.0, limits.principal).into(),
            _ => Charge::Within,
        }
    }

    /// Notes that a principal at `source`, whose key this is, asked for an object that is not its own.
    pub fn foreign(&self, source: u64, identity: &Identity, object: u64, now: Monotonic) -> Noted {
        let limits = self.limits.load();
        let Some(limits) = &*limits else { return Noted::Before };
        let principal = self.key(identity);
        // Never that of an empty place, nor one that whoever had the line before has left there.
        let object = self.secret.hash_one((principal, object)).max(1);
        let note = |line: &Principal, whose| line.note(object, limits.principal, whose, now);
        match self.principals.charge(principal, now, note) {
            Note::Before => Noted::Before,
            Note::Now(full) => {
                self.objects.fetch_add(1, Relaxed);
                if let Some(wait) = full {
                    self.slowed.fetch_add(1, Relaxed);
                    self.slowed_until.fetch_max(now.0.saturating_add(wait), Relaxed);
                }
                let over = self.sources.charge(source, now, |line, whose| {
                    let charge = gcra::charge(&line.debt, now.0, limits.source);
                    whose == Whose::Own && matches!(charge, gcra::Charge::Over { .. })
                });
                Noted::Now { against_source: full.is_some() || over, slowed: full.is_some() }
            }
            Note::Over(wait) => Noted::Over { retry_after: Duration::from_nanos(wait) },
        }
    }

    /// Notes that a principal that is slowed goes on; says whether it is to pay for that, as every `end_after` times. Those
    /// that share a line for want of one of their own are not blamed for each other.
    pub fn goes_on(&self, identity: &Identity) -> bool {
        let limits = self.limits.load();
        match (&*limits, self.principals.find(self.key(identity))) {
            (Some(limits), Some(principal)) => {
                (principal.strikes.fetch_add(1, Relaxed) + 1).is_multiple_of(limits.end_after)
            }
            _ => false,
        }
    }

    /// Distinct objects that counted, and how often a principal was slowed.
    pub fn counts(&self) -> (u64, u64) {
        (self.objects.load(Relaxed), self.slowed.load(Relaxed))
    }

    /// Remembers, for people, that a principal at `source` was slowed; not where two are at the same moment.
    pub fn remember(&self, source: IpAddr, identity: &Identity, when: UnixTime) {
        let Ok(mut remembered) = self.remembered.try_lock() else { return };
        let facts = identity.facts();
        let slowed = Slowed {
            issuer: facts.issuer.as_deref().map(str::to_owned),
            method: facts.method.name().to_owned(),
            source,
            subject: facts.subject.to_string(),
            when,
        };
        let is_same = |other: &Slowed| {
            (&other.issuer, &other.method, &other.subject)
                == (&slowed.issuer, &slowed.method, &slowed.subject)
        };
        remembered.retain(|other| !is_same(other));
        if remembered.len() == REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back(slowed);
    }

    /// Principals that were slowed, the latest first.
    pub fn slowed(&self) -> Vec<Slowed> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.iter().rev().cloned().collect()
    }

    /// Of 64 bits: of a billion principals, a given one shares its own with another once in 10^10 times.
    fn key(&self, identity: &Identity) -> u64 {
        let facts = identity.facts();
        self.secret.hash_one((facts.method, &facts.issuer, &facts.subject)).max(1)
    }
}

impl From<EnumerationLimit> for Limits {
    fn from(limit: EnumerationLimit) -> Self {
        let objects = limit.objects.get();
        let principal = Limit::new(objects, limit.per.as_nanos() as u64, objects);
        let end_after = limit.end_after.get().into();
        Self { end_after, principal, source: principal.times(limit.source_factor.get()) }
    }
}

/// What a principal owes, and for what.
struct Principal {
    debt: AtomicU64,
    next: AtomicU64,
    /// A ring of hashes; 0: none.
    objects: [AtomicU64; MOST_OBJECTS as usize],
    /// Refusals since it was last slowed.
    strikes: AtomicU64,
}

enum Note {
    Before,
    /// With the wait, if there is one from now on.
    Now(Option<u64>),
    Over(u64),
}

impl Principal {
    fn note(&self, object: u64, limit: Limit, whose: Whose, now: Monotonic) -> Note {
        if self.objects.iter().any(|seen| seen.load(Relaxed) == object) {
            return Note::Before;
        }
        if let gcra::Charge::Over { retry_after } = gcra::charge(&self.debt, now.0, limit) {
            return Note::Over(retry_after);
        }
        let place = self.next.fetch_add(1, Relaxed) as usize % self.objects.len();
        self.objects[place].store(object, Relaxed);
        match (whose, gcra::peek(&self.debt, now.0, limit)) {
            (Whose::Own, gcra::Charge::Over { retry_after }) => {
                // Nor those of whoever had the line before.
                self.strikes.store(0, Relaxed);
                Note::Now(Some(retry_after))
            }
            _ => Note::Now(None),
        }
    }
}

impl Default for Principal {
    fn default() -> Self {
        Self {
            debt: AtomicU64::new(0),
            next: AtomicU64::new(0),
            objects: std::array::from_fn(|_| AtomicU64::new(0)),
            strikes: AtomicU64::new(0),
        }
    }
}

impl Owing for Principal {
    fn owes_nothing(&self, now: Monotonic) -> bool {
        self.debt.load(Relaxed) <= now.0
    }
}

/// What the principals of a source owe together.
#[derive(Default)]
struct Source {
    debt: AtomicU64,
}

impl Owing for Source {
    fn owes_nothing(&self, now: Monotonic) -> bool {
        self.debt.load(Relaxed) <= now.0
    }
}

#[cfg(test)]
mod tests;
