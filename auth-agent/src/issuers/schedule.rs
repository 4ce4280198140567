//! When an issuer's keys are fetched: the law, with no clock, no network and no chance in it.
//!
//! One fetch at a time. Regular ones come when the server's answer has aged, within the configured bounds; after a
//! failure they come again sooner, further and further apart. A token with an unknown `kid` calls for one at most once
//! per `refetch_interval`, counted from the start of the last fetch of any kind, and none where a fetch that began after
//! the same `kid` was asked for did not bring it, within that interval.

use std::collections::HashSet;
use std::time::Duration;

use super::unknown::UnknownIds;
use crate::clock::Monotonic;
use crate::config::RemoteKeys;

/// Before the second attempt; doubled before each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Between attempts in a long outage: no longer may its end go unseen, as an issuer without keys is of no use.
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// Ids that wait for one fetch and are remembered if it does not bring them.
const MAX_ASKED: usize = 1_000;

/// A number from 0 to below 1, by chance: many hosts that start together must not ask together for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance(pub f64);

/// What comes of asking for a key that is not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// It was not there a short while ago.
    Absent,
    /// It may come with the fetch that is under way, or about to start.
    Coming,
    /// Something was fetched too recently: whether it is there is not known, and there is nothing to wait for.
    NotNow,
}

/// The state of one issuer's fetches.
#[derive(Debug)]
pub(super) struct Schedule {
    asked: HashSet<String>,
    /// When the last fetch started.
    attempted: Option<Monotonic>,
    failures: u32,
    next: Monotonic,
    refetch_interval: Duration,
    refresh_default: Duration,
    refresh_max: Duration,
    refresh_min: Duration,
    under_way: bool,
    unknown: UnknownIds,
}

impl Schedule {
    /// The first fetch is due at once.
    pub fn new(remote: &RemoteKeys, now: Monotonic) -> Self {
        Self {
            asked: HashSet::new(),
            attempted: None,
            failures: 0,
            next: now,
            refetch_interval: remote.refetch_interval,
            refresh_default: remote.refresh_default,
            refresh_max: remote.refresh_max,
            refresh_min: remote.refresh_min,
            under_way: false,
            unknown: UnknownIds::default(),
        }
    }

    /// A token names a key that is not known. What can't be asked for yet is asked for when the interval is over, for
    /// the clients that come again.
    pub fn ask(&mut self, id: &str, now: Monotonic) -> Asked {
        if self.unknown.contains(id, now, self.refetch_interval) {
            return Asked::Absent;
        }
        if self.under_way {
            // It may have begun before the key was there: if it does not bring it, that says nothing.
            return Asked::Coming;
        }
        if self.asked.len() < MAX_ASKED && !self.asked.contains(id) {
            self.asked.insert(id.to_owned());
        }
        let earliest = self.attempted.map_or(now, |attempted| after(attempted, self.refetch_interval));
        self.next = self.next.min(earliest.max(now));
        if self.is_due(now) { Asked::Coming } else { Asked::NotNow }
    }

    /// The operator wants a fetch now.
    pub fn demand(&mut self, now: Monotonic) {
        self.next = self.next.min(now);
    }

    /// Whether a fetch is to start.
    pub fn is_due(&self, now: Monotonic) -> bool {
        !self.under_way && self.next <= now
    }

    /// When the next fetch is to start.
    pub fn next(&self) -> Monotonic {
        self.next
    }

    /// A fetch starts.
    pub fn started(&mut self, now: Monotonic) {
        self.attempted = Some(now);
        self.under_way = true;
    }

    /// It is no longer under way. One that was broken off brought nothing, and is due anew.
    pub fn ended(&mut self) {
        self.under_way = false;
    }

    /// It brought keys, which the server says are fresh for so long. `has` tells which.
    pub fn succeeded(
        &mut self,
        freshness: Option<Duration>,
        has: impl Fn(&str) -> bool,
        now: Monotonic,
        chance: Chance,
    ) {
        self.under_way = false;
        self.failures = 0;
        for id in self.asked.drain().filter(|id| !has(id)) {
            self.unknown.note(id, now);
        }
        let wanted = freshness.unwrap_or(self.refresh_default).clamp(self.refresh_min, self.refresh_max);
        // Up to a tenth earlier: later would be past the bounds.
        let earlier = wanted.mul_f64(1.0 - 0.1 * chance.0);
        self.next = after(now, earlier.max(self.refresh_min));
    }

    /// It brought nothing.
    pub fn failed(&mut self, now: Monotonic, chance: Chance) {
        self.under_way = false;
        self.failures = self.failures.saturating_add(1);
        // They may be there after all: nobody could look.
        self.asked.clear();
        let doubled = RETRY_FIRST.saturating_mul(1 << (self.failures - 1).min(16));
        let longest = RETRY_LONGEST.min(self.refresh_default);
        self.next = after(now, doubled.min(longest).mul_f64(1.0 - 0.5 * chance.0));
    }
}

fn after(time: Monotonic, duration: Duration) -> Monotonic {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Monotonic(time.0.saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::RemoteSource;
    use crate::https_url::HttpsUrl;

    const NEVER: Chance = Chance(0.0);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    fn seconds(time: Monotonic) -> f64 {
        time.0 as f64 / 1e9
    }

    /// Every 600 s, at least 60 s and at most 3600 s apart; 30 s between fetches for unknown keys.
    fn remote() -> RemoteKeys {
        RemoteKeys {
            ca: None,
            max_age: Duration::from_secs(86_400),
            refetch_interval: Duration::from_secs(30),
            refresh_default: Duration::from_secs(600),
            refresh_max: Duration::from_secs(3600),
            refresh_min: Duration::from_secs(60),
            source: RemoteSource::Jwks(HttpsUrl::parse("https://id.example.com/jwks").unwrap()),
        }
    }

    /// With one good fetch at 0 s.
    fn fetched() -> Schedule {
        let mut schedule = Schedule::new(&remote(), at(0));
        schedule.started(at(0));
        schedule.succeeded(None, |_| true, at(0), NEVER);
        schedule
    }

    #[test]
    fn the_servers_word_counts_within_the_bounds() {
        for (freshness, chance, expected) in [
            (None, 0.0, 600.0),
            (Some(900), 0.0, 900.0),
            (Some(0), 0.0, 60.0),
            (Some(59), 0.0, 60.0),
            (Some(86_400), 0.0, 3600.0),
            (Some(1000), 0.5, 950.0),
            (Some(86_400), 0.999_999, 3240.0),
            (Some(0), 0.999_999, 60.0),
        ] {
            let mut schedule = Schedule::new(&remote(), at(0));
            assert!(schedule.is_due(at(0)));
            schedule.started(at(0));
            assert!(!schedule.is_due(at(0)), "one at a time");
            schedule.succeeded(freshness.map(Duration::from_secs), |_| true, at(0), Chance(chance));
            assert!(
                (seconds(schedule.next()) - expected).abs() < 0.1,
                "{freshness:?}: {:?}",
                schedule.next()
            );
        }
    }

    #[test]
    fn failures_come_further_and_further_apart_up_to_a_minute() {
        let mut schedule = Schedule::new(&remote(), at(0));
        let mut gaps = Vec::new();
        for _ in 0..80 {
            let now = schedule.next();
            schedule.started(now);
            schedule.failed(now, NEVER);
            gaps.push(seconds(Monotonic(schedule.next().0 - now.0)));
        }
        assert_eq!(gaps[..8], [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!((gaps[79], schedule.failures), (60.0, 80));
        let now = schedule.next();
        schedule.started(now);
        schedule.failed(now, Chance(0.999_999));
        assert!(
            (seconds(Monotonic(schedule.next().0 - now.0)) - 30.0).abs() < 0.1,
            "chance halves it at most"
        );
        schedule.started(now);
        schedule.succeeded(None, |_| true, now, NEVER);
        schedule.started(now);
        schedule.failed(now, NEVER);
        assert_eq!(seconds(Monotonic(schedule.next().0 - now.0)), 1.0, "a success starts over");
    }

    #[test]
    fn an_unknown_key_is_fetched_at_once_when_the_interval_is_over_and_waited_for() {
        let mut schedule = fetched();
        assert_eq!(schedule.ask("new", at(29)), Asked::NotNow);
        assert_eq!(schedule.next(), at(30), "and is fetched when it is over, asked again or not");
        assert_eq!(schedule.ask("new", at(31)), Asked::Coming);
        assert_eq!(schedule.ask("gone", at(31)), Asked::Coming);
        assert!(schedule.is_due(at(31)));
        schedule.started(at(31));
        assert_eq!(schedule.ask("other", at(31)), Asked::Coming, "a fetch that is under way is for all");
        schedule.succeeded(None, |id| id == "new", at(32), NEVER);
        assert_eq!(schedule.ask("gone", at(61)), Asked::Absent, "it was not there");
        assert_eq!(schedule.next(), at(632), "and nothing is fetched for its sake");
        assert_eq!(schedule.ask("other", at(33)), Asked::NotNow, "it may have come after that fetch began");
        assert_eq!(schedule.next(), at(61), "and the next one is for it");
        assert_eq!(schedule.ask("gone", at(62)), Asked::Coming, "after the interval it may be there");
    }

    #[test]
    fn a_failed_fetch_says_nothing_about_a_key() {
        let mut schedule = fetched();
        assert_eq!(schedule.ask("new", at(40)), Asked::Coming);
        schedule.started(at(40));
        schedule.failed(at(45), NEVER);
        assert_eq!(schedule.ask("new", at(45)), Asked::NotNow);
        assert_eq!(schedule.ask("new", at(70)), Asked::Coming);
    }

    #[test]
    fn the_operator_need_not_wait() {
        let mut schedule = fetched();
        schedule.demand(at(1));
        assert!(schedule.is_due(at(1)));
    }

    proptest! {
        /// Whatever ids come when, and whatever becomes of the fetches: those that no schedule calls for are at least
        /// an interval after the fetch before.
        #[test]
        fn a_flood_of_unknown_keys_costs_at_most_one_fetch_per_interval(
            steps in prop::collection::vec((0_u64..20, 0_usize..5_000, any::<bool>()), 1..400),
        ) {
            let mut schedule = fetched();
            let (mut now, mut last) = (0, 0);
            let mut regular = schedule.next();
            for (pause, id, good) in steps {
                now += pause;
                schedule.ask(&id.to_string(), at(now));
                if schedule.is_due(at(now)) {
                    prop_assert!(now - last >= 30 || regular <= at(now), "at {now} after {last}");
                    last = now;
                    schedule.started(at(now));
                    if good { schedule.succeeded(None, |_| false, at(now), NEVER) } else { schedule.failed(at(now), NEVER) }
                    regular = schedule.next();
                }
                prop_assert!(schedule.asked.len() <= MAX_ASKED && schedule.unknown.len() <= 1_000);
            }
        }
    }
}
