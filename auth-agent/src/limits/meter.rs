//! Counts what goes to a client against the limits that count bytes, as it goes.
//!
//! Some bytes are saved up, so that many small pieces cost no more than a few large ones: so few that whoever asks next is
//! held to nearly all that went before, however many responses are under way.

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
    /// What has passed and was not charged.
    saved: u64,
    step: u64,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Meter").field("owners", &self.owners).finish_non_exhaustive()
    }
}

impl Meter {
    /// For the budgets of these owners, each with the index of its limit in the plan.
    pub(super) fn new(limiter: Arc<Limiter>, plan: Arc<Plan>, owners: Vec<(usize, Owner)>) -> Self {
        let steps = owners.iter().filter_map(|(rule, _)| Some(plan.rules.get(*rule)?.budget.load().step()));
        let step = steps.min().unwrap_or(1);
        Self { limiter, owners, plan, saved: 0, step }
    }

    /// So many bytes pass, whatever is left. The time is asked for only if it is wanted.
    pub fn count(&mut self, bytes: usize, now: impl FnOnce() -> Now) {
        self.saved += bytes as u64;
        if self.saved >= self.step {
            self.charge(now());
        }
    }

    fn charge(&mut self, now: Now) {
        let bytes = std::mem::take(&mut self.saved);
        for (rule, owner) in &self.owners {
            if let Some(rule) = self.plan.rules.get(*rule) {
                self.limiter.owe(rule, owner, bytes, now);
            }
        }
    }
}

impl Drop for Meter {
    /// What is left is charged when nothing more can pass, whatever the reason.
    fn drop(&mut self) {
        if self.saved > 0 {
            self.charge(Now::read());
        }
    }
}
