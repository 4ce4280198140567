//! Taking steps: off the request path, many at once, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::error;

use super::{Ladder, Step};
use crate::clock::{Monotonic, UnixTime};
use crate::control::Control;
use crate::store::Sentence;

/// Steps that are taken together.
const AT_ONCE: usize = 1_000;

/// Between two rounds: each has the kernel take all rules anew.
const PAUSE: Duration = Duration::from_millis(50);

/// Between two entries of the log about sources that were dropped: under a flood, many are at any time.
const BETWEEN_DROPS: Duration = Duration::from_secs(5);

/// Sources that are remembered for one entry.
const MOST_DROPS: usize = 10_000;

/// Takes the steps that come, until the agent ends or another takes over.
pub async fn climb(control: Arc<Control>, ladder: Arc<Ladder>, mut steps: mpsc::Receiver<Step>) {
    let (mut batch, mut dropped) = (Vec::new(), BTreeSet::new());
    let mut due = Instant::now();
    loop {
        tokio::select! {
            taken = steps.recv_many(&mut batch, AT_ONCE) => if taken == 0 {
                return;
            },
            () = sleep_until(due), if !dropped.is_empty() => {}
        }
        // What was banned meanwhile has paid.
        let awaited = |step: &Step| !matches!(step, Step::Ban { key, .. } if !ladder.is_sentenced(*key));
        let (keys, sentences, ended) = sort(batch.drain(..).filter(awaited), &mut dropped);
        let drops = if due <= Instant::now() { take(&mut dropped) } else { BTreeSet::new() };
        if !drops.is_empty() {
            due = Instant::now() + BETWEEN_DROPS;
        }
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
                let keys = banned.iter().filter_map(|network| keys.get(network));
                keys.for_each(|key| ladder.pay(*key, Monotonic::now()));
            }
            Ok(Err(error)) => {
                error!(%error, "sources that go on are not all banned; they are for their next offence");
            }
            Err(error) => error!(%error, "banning sources that go on broke off"),
        }
        sleep(PAUSE).await;
    }
}

/// The sources' keys, each source once, and the connections that are to end.
type Sorted = (BTreeMap<IpNet, u64>, Vec<Sentence>, BTreeSet<u64>);

fn sort(steps: impl Iterator<Item = Step>, dropped: &mut BTreeSet<IpNet>) -> Sorted {
    let (mut keys, mut sentences, mut ended) = Sorted::default();
    for step in steps {
        match step {
            Step::Ban { key, network, offence } => {
                if keys.insert(network, key).is_none() {
                    sentences.push(Sentence { network, offence: offence.name() });
                }
            }
            Step::Drop(network) => {
                if dropped.len() < MOST_DROPS {
                    dropped.insert(network);
                }
            }
            Step::End(connection) => drop(ended.insert(connection)),
        }
    }
    (keys, sentences, ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::Offence;

    #[test]
    fn a_source_is_banned_once_for_the_first_of_its_offences_and_named_once_among_the_dropped() {
        let [one, other]: [IpNet; 2] = ["192.0.2.1/32", "192.0.2.2/32"].map(|text| text.parse().unwrap());
        let mut dropped = BTreeSet::new();
        let steps = [
            Step::Drop(one),
            Step::Ban { key: 1, network: one, offence: Offence::Forged },
            Step::Drop(one),
            Step::Ban { key: 2, network: other, offence: Offence::Limit },
            Step::Ban { key: 1, network: one, offence: Offence::Limit },
            Step::End(7),
        ];
        let (keys, sentences, ended) = sort(steps.into_iter(), &mut dropped);
        assert_eq!(keys, BTreeMap::from([(one, 1), (other, 2)]));
        let told: Vec<_> = sentences.iter().map(|sentence| (sentence.network, sentence.offence)).collect();
        assert_eq!(told, [(one, "forged"), (other, "limit")]);
        assert_eq!((dropped, ended), (BTreeSet::from([one]), BTreeSet::from([7])));
    }
}
