//! The tables of debts and of counts, apart for what strangers can choose.
//!
//! An address costs nothing: whoever has a network has as many as there is room for. So budgets by address alone have tables
//! of their own, and can crowd out nobody who proved who it is, nor what the configuration names.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, ends};
use super::counts::Counts;
use super::dirty::Dirty;
use super::key::Marks;
use super::period;
use super::table::Table;
use crate::clock::{Now, UnixTime};
use crate::config::By;

/// Whose budgets lie in one table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Of principals, keys and tenants, from wherever they come, and of routes.
    Identified,
    /// Of addresses, whoever is there.
    Strangers,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Identified, Self::Strangers];

    /// That of a limit.
    pub fn of(by: By) -> Self {
        if by.is_of_sources_alone() { Self::Strangers } else { Self::Identified }
    }

    /// That of an owner: the same.
    pub fn of_marks(Marks { key, principal, source, tenant }: Marks) -> Self {
        if source != 0 && key | principal | tenant == 0 { Self::Strangers } else { Self::Identified }
    }

    /// Its name: lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identified => "identified",
            Self::Strangers => "strangers",
        }
    }
}

/// What is owed to limits.
pub struct Debts {
    /// Entries that owe more than a burst.
    pub dirty: Dirty,
    /// Words as in [`super::budget`].
    pub table: Table,
}

/// The tables of one class. Their memory is taken with the first who has a budget there.
pub struct OfClass {
    counts: OnceLock<Counts>,
    debts: OnceLock<Debts>,
    entries: usize,
    shared: [AtomicU64; 2],
}

/// How full a table is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Occupancy {
    /// How many there is room for.
    pub capacity: usize,
    /// `identified`, or `strangers`: budgets by address alone.
    pub class: String,
    /// `debts` to limits, or `counts` of quotas.
    pub kind: String,
    /// How often a request was counted together with others, for want of room.
    pub shared: u64,
    /// How many owe something, or are counted in a period that goes on.
    pub used: usize,
}

/// All of them.
pub struct Tables([OfClass; Class::ALL.len()]);

impl Tables {
    /// With room for `entries` debts and as many counts, in equal parts.
    pub fn new(entries: usize) -> Self {
        let entries = entries.div_ceil(Class::ALL.len());
        Self(Class::ALL.map(|_| OfClass {
            counts: OnceLock::new(),
            debts: OnceLock::new(),
            entries,
            shared: Default::default(),
        }))
    }

    /// Those of a class.
    pub fn of(&self, class: Class) -> &OfClass {
        &self.0[class as usize]
    }

    /// Every class.
    pub fn each(&self) -> impl Iterator<Item = &OfClass> {
        self.0.iter()
    }

    /// How full they are. Reads all of them.
    pub fn occupancy(&self, now: Now) -> Vec<Occupancy> {
        Class::ALL.into_iter().flat_map(|class| self.of(class).occupancy(class, now)).collect()
    }
}

impl OfClass {
    /// The counts, whose memory is taken now if it was not yet.
    pub fn counts(&self) -> &Counts {
        self.counts.get_or_init(|| Counts::new(self.entries))
    }

    /// The debts, whose memory is taken now if it was not yet.
    pub fn debts(&self) -> &Debts {
        self.debts.get_or_init(|| {
            let table = Table::new(self.entries);
            Debts { dirty: Dirty::new(table.capacity()), table }
        })
    }

    /// The counts, as far as there are any.
    pub fn known_counts(&self) -> Option<&Counts> {
        self.counts.get()
    }

    /// The debts, as far as there are any.
    pub fn known_debts(&self) -> Option<&Debts> {
        self.debts.get()
    }

    /// Every table that there is.
    pub fn known(&self) -> impl Iterator<Item = &Table> {
        let debts = self.debts.get().map(|debts| &debts.table);
        debts.into_iter().chain(self.counts.get().map(|counts| &counts.table))
    }

    /// Where a budget would be, if there is such a table.
    pub fn known_table(&self, budget: &Budget) -> Option<&Table> {
        if budget.is_quota() {
            self.counts.get().map(|counts| &counts.table)
        } else {
            self.debts.get().map(|debts| &debts.table)
        }
    }

    /// Where a budget is.
    pub fn table(&self, budget: &Budget) -> &Table {
        if budget.is_quota() { &self.counts().table } else { &self.debts().table }
    }

    /// Notes that somebody found no room there.
    pub fn note_shared(&self, budget: &Budget) {
        self.shared[usize::from(budget.is_quota())].fetch_add(1, Relaxed);
    }

    fn occupancy(&self, class: Class, now: Now) -> [Occupancy; 2] {
        let (counts, debts) = (self.counts.get().map(|counts| &counts.table), self.debts.get());
        let one = |table: Option<&Table>, quota: bool| {
            let used =
                |table: &Table| table.entries().filter(|(seen, _)| !is_free(quota, seen.word, now)).count();
            Occupancy {
                capacity: table.map_or_else(|| Table::room(self.entries), Table::capacity),
                class: class.name().to_owned(),
                kind: if quota { "counts" } else { "debts" }.to_owned(),
                shared: self.shared[usize::from(quota)].load(Relaxed),
                used: table.map_or(0, used),
            }
        };
        [one(debts.map(|debts| &debts.table), false), one(counts, true)]
    }
}

/// Whether forgetting what a word says changes nothing.
pub fn is_free(quota: bool, word: u64, now: Now) -> bool {
    if quota { is_over(word, now.unix) } else { word <= now.monotonic.0 }
}

fn is_over(count: u64, now: UnixTime) -> bool {
    ends(count) <= period::day(now)
}
