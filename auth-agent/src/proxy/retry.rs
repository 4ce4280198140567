//! What may be sent once more, and how much of it: retries must not make an outage worse.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::Method;

/// So many may always be under way.
const LEAST: usize = 10;
/// Of the requests in flight, at most this part may be retries: one in so many.
const ONE_IN: usize = 5;

/// Whether a request with this method can be sent twice without harm (RFC 9110, 9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || *method == Method::PUT || *method == Method::DELETE
}

/// The retries of one upstream that are under way.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    /// One more, unless there are too many for the requests `in_flight`.
    pub fn take(&self, in_flight: usize) -> Option<Spent<'_>> {
        let more = |retrying| is_within(retrying, in_flight).then_some(retrying + 1);
        self.0.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Spent(self))
    }
}

fn is_within(retrying: usize, in_flight: usize) -> bool {
    retrying < LEAST.max(in_flight / ONE_IN)
}

/// A retry that is under way; over when dropped.
#[derive(Debug)]
pub(super) struct Spent<'b>(&'b Budget);

impl Drop for Spent<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_changes_something_each_time_is_not_sent_twice() {
        for (method, expected) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::PUT, true),
            (Method::DELETE, true),
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::from_bytes(b"PROPFIND").unwrap(), false),
            (Method::from_bytes(b"get").unwrap(), false),
        ] {
            assert_eq!(is_idempotent(&method), expected, "{method}");
        }
    }

    #[test]
    fn a_retry_that_is_over_makes_room() {
        let budget = Budget::default();
        let spent: Vec<_> = (0..LEAST).map(|_| budget.take(0).unwrap()).collect();
        assert!(budget.take(0).is_none());
        assert!(budget.take(LEAST * ONE_IN + ONE_IN).is_some());
        drop(spent);
        assert!(budget.take(0).is_some());
    }

    proptest! {
        #[test]
        fn retries_are_a_fifth_of_what_is_in_flight_at_most(in_flight in 0_usize..1_000) {
            let budget = Budget::default();
            let mut spent = Vec::new();
            while let Some(one) = budget.take(in_flight) {
                spent.push(one);
            }
            prop_assert!(spent.len() == LEAST.max(in_flight / 5));
        }
    }
}
