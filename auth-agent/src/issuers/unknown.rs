//! Key ids that an issuer was asked for and did not have.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Monotonic;

/// Ids that are remembered per issuer; the oldest make room. However many there are, the interval between fetches
/// holds: this only keeps the same few from using it up.
const MAX_IDS: usize = 1_000;

/// For so long at most an id that was not there is not asked for again: a new key that is on its way through the issuer's
/// caches is there within minutes.
const REMEMBERED: Duration = Duration::from_secs(120);

/// Bounded in number, and so, as ids are at most 255 bytes long, in size.
#[derive(Debug, Default)]
pub(super) struct UnknownIds(VecDeque<(String, Monotonic)>);

impl UnknownIds {
    /// Notes an id that was not there at `now`.
    pub fn note(&mut self, id: String, now: Monotonic) {
        self.0.retain(|(other, _)| *other != id);
        if self.0.len() >= MAX_IDS {
            self.0.pop_front();
        }
        self.0.push_back((id, now));
    }

    /// Whether it was not there a short while ago, which is at most `interval`.
    pub fn contains(&mut self, id: &str, now: Monotonic, interval: Duration) -> bool {
        let remembered = REMEMBERED.min(interval);
        let age = |noted: &Monotonic| Duration::from_nanos(now.0.saturating_sub(noted.0));
        while self.0.front().is_some_and(|(_, noted)| age(noted) >= remembered) {
            self.0.pop_front();
        }
        self.0.iter().any(|(other, _)| other == id)
    }

    /// How many are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    #[test]
    fn an_id_is_remembered_for_a_while_and_noting_it_again_prolongs_it() {
        let mut ids = UnknownIds::default();
        ids.note("a".into(), at(0));
        assert!(ids.contains("a", at(119), HOUR) && !ids.contains("b", at(119), HOUR));
        ids.note("a".into(), at(119));
        assert!(ids.contains("a", at(238), HOUR));
        assert!(!ids.contains("a", at(239), HOUR));
        assert_eq!(ids.len(), 0);
    }

    #[test]
    fn many_ids_push_out_the_oldest_and_take_bounded_room() {
        let mut ids = UnknownIds::default();
        for id in 0..MAX_IDS + 10 {
            ids.note(id.to_string(), at(0));
        }
        assert_eq!(ids.len(), MAX_IDS);
        assert!(
            !ids.contains("9", at(1), HOUR)
                && ids.contains("10", at(1), HOUR)
                && ids.contains("1009", at(1), HOUR)
        );
    }
}
