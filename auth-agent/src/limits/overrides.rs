//! Rates that were set while the agent runs, in place of those of the configuration.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::plan::{Plan, Rule};
use crate::config::{BudgetText, RequestBudget};

/// What is set, by the name of the limit.
#[derive(Default)]
pub struct Overridden(Mutex<BTreeMap<String, Override>>);

/// What is set for a limit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// How much there may be.
    pub budget: BudgetText,
    /// Whether it is stored.
    pub durable: bool,
}

impl Overridden {
    /// What is set for a limit.
    pub fn of(&self, name: &str) -> Option<Override> {
        self.lock().get(name).cloned()
    }

    /// The names of those that are set.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Sets one, or takes it back with `None`.
    pub fn set(&self, name: &str, set: Option<Override>) {
        match set {
            Some(set) => self.lock().insert(name.to_owned(), set),
            None => self.lock().remove(name),
        };
    }

    /// Has all of a plan's limits be as they are set, or else as configured.
    pub fn apply(&self, plan: &Plan) {
        let set = self.lock();
        for rule in &plan.rules {
            rule.set(set.get(&*rule.name).map_or(rule.configured, |set| resolved(rule, set)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Override>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration may have made another kind of limit of it since.
fn resolved(rule: &Rule, set: &Override) -> RequestBudget {
    set.budget.resolve(rule.counted, rule.configured).unwrap_or_else(|error| {
        warn!(
            limit = &*rule.name,
            error, "what was set for this limit does not fit it: the configuration holds"
        );
        rule.configured
    })
}
