//! One filter and two agents, for as long as one takes the other's place: at any time one of them touches it.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering::SeqCst;

use super::{Filter, FilterError};
use crate::config;

impl Filter {
    /// Leaves the kernel to another agent: changes of rules count for requests alone, and no flow is dropped. Debts go on,
    /// since they are in memory that both share; so does the sign of life, until [`Filter::beat`] is dropped.
    pub fn step_back(&self) {
        self.stepped_back.store(true, SeqCst);
        self.keeper.rest(true);
    }

    /// Takes the filter back from an agent that is gone: what that one changed is as it was with the next
    /// [`Filter::apply_rules`], and the program is on its interfaces when this returns. Blocks.
    ///
    /// # Errors
    /// [`FilterError::Map`]; the interfaces are looked after all the same.
    pub fn take_back(&self, kernel: &config::Kernel, protected: &[u16]) -> Result<(), FilterError> {
        self.stepped_back.store(false, SeqCst);
        self.keeper.rest(false);
        self.keeper.reconcile();
        let mut rules = self.rules();
        rules.read()?;
        rules.set_policy()?;
        drop(rules);
        self.set_ports(kernel, protected)
    }

    pub(super) fn has_stepped_back(&self) -> bool {
        self.stepped_back.load(SeqCst)
    }

    /// The lock on the pins, for another agent.
    ///
    /// # Errors
    /// What the system says.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }
}
