//! Counts the bytes of one response's body against the limits that count them, as they pass.

use std::sync::Arc;

use super::limiter::Limiter;
use super::plan::Plan;
use super::table::Owner;
use crate::clock::Now;

/// Counts bytes against the budgets that a request was found to have.
pub struct Meter {
    limiter: Arc<Limiter>,
    owners: Vec<(usize, Owner)>,
    plan: Arc<Plan>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Meter").field("owners", &self.owners).finish_non_exhaustive()
    }
}

impl Meter {
    /// For the budgets of these owners, each with the index of its limit in the plan.
    pub(super) fn new(limiter: Arc<Limiter>, plan: Arc<Plan>, owners: Vec<(usize, Owner)>) -> Self {
        Self { limiter, owners, plan }
    }

    /// So many bytes pass now, whatever is left.
    pub fn count(&self, bytes: usize, now: Now) {
        for (rule, owner) in &self.owners {
            if let Some(rule) = self.plan.rules.get(*rule) {
                self.limiter.owe(rule, owner, bytes as u64, now);
            }
        }
    }
}
