//! Taking steps: off the request path, many at once, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::error;

use super::{Ladder, Offence, Step};
use crate::clock::{Monotonic, UnixTime};
use crate::control::Control;
use crate::store::Sentence;

/// Steps that are taken together.
const AT_ONCE: usize = 1_000;

/// Between two rounds, at least: each has the kernel take all rules anew.
const PAUSE: Duration = Duration::from_millis(50);

/// Of the time, one part goes to rounds, and so many to others who change rules, however many offenders there are.
const REST: u32 = 4;

/// Until bans that could not be made are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Between two entries of the log about sources that were dropped: under a flood, many are at any time.
const BETWEEN_DROPS: Duration = Duration::from_secs(5);

/// Sources that are remembered for one entry, or until they are banned.
const MOST: usize = 10_000;

/// What is still to be done.
#[derive(Default)]
struct Todo {
    /// Sources that are to be named in the log.
    dropped: BTreeSet<IpNet>,
    /// Connections that are to end.
    ended: BTreeSet<u64>,
    /// Sources that are to be banned: their keys, and for what.
    sentenced: BTreeMap<IpNet, (u64, Offence)>,
}

/// Takes the steps that come, until the agent ends or another takes over.
pub async fn climb(control: Arc<Control>, ladder: Arc<Ladder>, mut steps: mpsc::Receiver<Step>) {
    let (mut batch, mut todo) = (Vec::new(), Todo::default());
    let mut due = Instant::now();
    loop {
        tokio::select! {
            biased;
            taken = steps.recv_many(&mut batch, AT_ONCE) => if taken == 0 {
                return;
            },
            // What failed is tried again: there was a pause.
            () = ready(()), if !todo.sentenced.is_empty() => {}
            () = sleep_until(due), if !todo.dropped.is_empty() => {}
        }
        batch.drain(..).for_each(|step| todo.add(step));
        // What was banned meanwhile has paid.
        todo.sentenced.retain(|_, (key, _)| ladder.is_sentenced(*key));
        let begun = Instant::now();
        let drops = if due <= begun { take(&mut todo.dropped) } else { BTreeSet::new() };
        if !drops.is_empty() {
            due = begun + BETWEEN_DROPS;
        }
        let (ended, sentences) = (take(&mut todo.ended), todo.sentences());
        if sentences.is_empty() && drops.is_empty() && ended.is_empty() {
            continue;
        }
        let (control, terms) = (Arc::clone(&control), ladder.terms());
        let round = move || {
            let drops: Vec<_> = drops.into_iter().collect();
            // The sooner comes first.
            control.end_offending(&ended);
            control.punish(&sentences, &drops, &terms, UnixTime::now())
        };
        match spawn_blocking(round).await {
            Ok(Ok(banned)) => {
                let sentenced = take(&mut todo.sentenced);
                let keys = banned.iter().filter_map(|network| sentenced.get(network));
                keys.for_each(|(key, _)| ladder.pay(*key, Monotonic::now()));
                sleep(pause(begun.elapsed())).await;
                continue;
            }
            Ok(Err(error)) => error!(%error, "sources that go on are not all banned; it is tried again"),
            Err(error) => error!(%error, "banning sources that go on broke off; it is tried again"),
        }
        sleep(RETRY).await;
    }
}

/// After a round that took so long.
fn pause(took: Duration) -> Duration {
    PAUSE.max(REST * took)
}

impl Todo {
    /// A source is banned for the first of its offences. Who finds no room is for its next one.
    fn add(&mut self, step: Step) {
        match step {
            Step::Ban { key, network, offence } => {
                if self.sentenced.len() < MOST {
                    self.sentenced.entry(network).or_insert((key, offence));
                }
            }
            Step::Drop(network) => {
                if self.dropped.len() < MOST {
                    self.dropped.insert(network);
                }
            }
            Step::End(connection) => drop(self.ended.insert(connection)),
        }
    }

    fn sentences(&self) -> Vec<Sentence> {
        let sentence = |(network, (_, offence)): (&IpNet, &(u64, Offence))| Sentence {
            network: *network,
            offence: offence.name(),
        };
        self.sentenced.iter().map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::runtime::Runtime;

    use super::*;
    use crate::config::{Config, tests::MINIMAL};
    use crate::control::testing::Desk;

    #[test]
    fn a_source_is_banned_once_for_the_first_of_its_offences_and_named_once_among_the_dropped() {
        let [one, other]: [IpNet; 2] = ["192.0.2.1/32", "192.0.2.2/32"].map(|text| text.parse().unwrap());
        let mut todo = Todo::default();
        for step in [
            Step::Drop(one),
            Step::Ban { key: 1, network: one, offence: Offence::Forged },
            Step::Drop(one),
            Step::Ban { key: 2, network: other, offence: Offence::Limit },
            Step::Ban { key: 1, network: one, offence: Offence::Limit },
            Step::End(7),
        ] {
            todo.add(step);
        }
        let told: Vec<_> =
            todo.sentences().iter().map(|sentence| (sentence.network, sentence.offence)).collect();
        assert_eq!(told, [(one, "forged"), (other, "limit")]);
        assert_eq!((todo.dropped, todo.ended), (BTreeSet::from([one]), BTreeSet::from([7])));
    }

    #[test]
    fn however_long_rounds_take_most_of_the_time_is_left_to_others() {
        for (took, expected) in [(0, 50), (10, 50), (200, 800), (3_000, 12_000)] {
            assert_eq!(pause(Duration::from_millis(took)), Duration::from_millis(expected), "{took}");
        }
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(std::time::Instant::now() < deadline, "in vain: {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// As long as the kernel does not take the ban, the source owes what led to it; then it has paid, by one ban.
    #[test]
    fn a_ban_that_fails_is_tried_again_until_it_holds_and_is_one_ban() {
        let desk = Desk::open(&[]);
        let config = Config::parse(MINIMAL, std::path::Path::new("edge.toml")).unwrap();
        let (ladder, steps) = Ladder::new(&config);
        let (ladder, network) = (Arc::new(ladder), "203.0.113.9/32".parse::<IpNet>().unwrap());
        *desk.edge.broken.lock().unwrap() = true;
        let offend = || ladder.charge(network.addr(), 9, Offence::Drop, false, Monotonic::now());
        until("it is to be banned", offend);
        let runtime = Runtime::new().unwrap();
        let climbing = runtime.spawn(climb(Arc::clone(&desk.control), Arc::clone(&ladder), steps));
        let times = || desk.store.times_banned(network, UnixTime::now()).unwrap();
        until("it is stored", || times() == 1);
        assert!(ladder.is_sentenced(9) && ladder.offenders(Monotonic::now())[0].points > 400);
        *desk.edge.broken.lock().unwrap() = false;
        until("it holds", || !ladder.is_sentenced(9));
        assert!(ladder.offenders(Monotonic::now()).is_empty() && desk.edge.told().len() == 2);
        assert_eq!(times(), 1);
        climbing.abort();
    }
}
