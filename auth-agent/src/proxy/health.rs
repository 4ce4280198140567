//! Whether an endpoint is fit to be asked, as far as asking it now and then tells.

use crate::config::HealthCheck;

/// What the checks of one endpoint say. An endpoint is healthy until they say otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Health {
    is_healthy: bool,
    /// Checks in a row that say the opposite.
    streak: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { is_healthy: true, streak: 0 }
    }
}

impl Health {
    /// Notes a check; says whether that changed anything.
    pub fn note(&mut self, passed: bool, check: &HealthCheck) -> bool {
        if passed == self.is_healthy {
            self.streak = 0;
            return false;
        }
        self.streak += 1;
        let needed = if passed { check.healthy_after } else { check.unhealthy_after };
        let changes = self.streak >= needed.get();
        if changes {
            *self = Self { is_healthy: passed, streak: 0 };
        }
        changes
    }

    /// Whether it is fit.
    pub fn is_healthy(&self) -> bool {
        self.is_healthy
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_answers_in_a_row_change_what_is_thought_of_an_endpoint() {
        let count = |count| NonZeroU32::new(count).unwrap();
        let check = HealthCheck {
            expect: 200..=399,
            healthy_after: count(2),
            interval: Duration::from_secs(1),
            path: "/".to_owned(),
            timeout: Duration::from_secs(1),
            unhealthy_after: count(3),
        };
        for (checks, expected) in [
            ("", true),
            ("--", true),
            ("--+--", true),
            ("---", false),
            ("---+", false),
            ("---+-+", false),
            ("---++", true),
            ("---++--", true),
            ("---++---", false),
        ] {
            let mut health = Health::default();
            let changes = checks.chars().filter(|check_| health.note(*check_ == '+', &check)).count();
            assert_eq!(health.is_healthy(), expected, "{checks}");
            assert_eq!(changes % 2 == 0, expected, "{checks}");
        }
    }
}
