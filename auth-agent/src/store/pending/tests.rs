use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::{Builder, TempDir};

use super::*;
use crate::config::{Overrides, RateOverride};
use crate::store::Limit;

const NOW: UnixTime = UnixTime(1_700_000_000);

fn later(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn open() -> (TempDir, Store) {
    let directory = Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
    let store = Store::open(directory.path(), NOW).unwrap();
    (directory, store)
}

fn within(seconds: u64) -> When {
    When { confirm_by: Some(later(seconds)), now: NOW }
}

fn limit(network: &str, burst: u32) -> Limit {
    let packets = Some(RateOverride { burst: Some(burst), rate: None });
    let limits = Overrides { packets, ..Overrides::default() };
    Limit { created: NOW, limits, network: net(network), reason: Some("it's \"quoted\"".into()) }
}

/// All lists, in the words of their rows.
fn state(store: &Store) -> String {
    let bans = store.bans(UnixTime(0)).unwrap();
    format!("{bans:?} {:?} {:?}", store.allows().unwrap(), store.limits().unwrap())
}

type Change = fn(&Store, When) -> bool;

/// Every kind of change, on lists that hold what it replaces or removes.
#[test]
fn a_change_that_nobody_confirms_is_undone_at_its_deadline_to_the_letter_and_one_that_is_stays() {
    let table: [(&str, Change); 9] = [
        ("ban.add", |store, when| store.add_ban(net("10.0.0.0/8"), None, None, when).is_ok()),
        ("ban.add", |store, when| store.add_ban(net("203.0.113.0/24"), None, Some("x"), when).is_ok()),
        ("ban.remove", |store, when| store.remove_ban(net("203.0.113.0/24"), when).unwrap()),
        ("ban.import", |store, when| {
            let networks = ["10.0.0.0/8", "203.0.113.0/24", "10.0.0.0/8"].map(net);
            store.import_bans(&networks, Some(later(9)), None, when).is_ok()
        }),
        ("allow.add", |store, when| store.add_allow(net("10.0.0.0/8"), None, when).is_ok()),
        ("allow.add", |store, when| store.add_allow(net("192.0.2.0/24"), None, when).is_ok()),
        ("allow.remove", |store, when| store.remove_allow(net("192.0.2.0/24"), when).unwrap()),
        ("limit.set", |store, when| store.set_limit(&limit("2001:db8::/48", 9), when.confirm_by).is_ok()),
        ("limit.remove", |store, when| store.remove_limit(net("2001:db8::/48"), when).unwrap()),
    ];
    for (kind, change) in table {
        for confirmed in [false, true] {
            let (directory, store) = open();
            store.add_ban(net("203.0.113.0/24"), Some(later(600)), Some("scan"), NOW).unwrap();
            store.add_allow(net("192.0.2.0/24"), Some("monitoring"), NOW).unwrap();
            store.set_limit(&limit("2001:db8::/48", 7), None).unwrap();
            let before = state(&store);
            assert!(change(&store, within(60)), "{kind}");
            let after = state(&store);
            assert_ne!(before, after, "{kind}");
            let [pending] = &store.pending().unwrap()[..] else { panic!("{kind}") };
            assert_eq!((&*pending.kind, pending.deadline), (kind, later(60)));

            // Kill -9: the next agent finds it.
            drop(store);
            let store = Store::open(directory.path(), later(59)).unwrap();
            assert_eq!(store.undo_unconfirmed(later(59)).unwrap(), []);
            assert_eq!(state(&store), after, "{kind}: too early");
            if confirmed {
                assert!(store.confirm(pending.id, later(59)).unwrap());
            }
            let undone = store.undo_unconfirmed(later(60)).unwrap();
            assert_eq!(undone.len(), usize::from(!confirmed), "{kind}");
            assert_eq!(state(&store), if confirmed { after } else { before }, "{kind}");
            assert_eq!(store.pending().unwrap(), []);
            assert!(!store.confirm(pending.id, later(60)).unwrap(), "{kind}: again");
        }
    }
}

#[test]
fn what_changes_nothing_waits_for_nothing() {
    let (_directory, store) = open();
    assert!(!store.remove_ban(net("10.0.0.0/8"), within(60)).unwrap());
    assert!(!store.remove_allow(net("10.0.0.0/8"), within(60)).unwrap());
    assert!(!store.remove_limit(net("10.0.0.0/8"), within(60)).unwrap());
    assert_eq!(store.pending().unwrap(), []);
}

#[test]
fn after_its_deadline_a_change_can_not_be_confirmed() {
    let (_directory, store) = open();
    store.add_ban(net("10.0.0.0/8"), None, None, within(60)).unwrap();
    assert!(!store.confirm(1, later(60)).unwrap());
    assert!(!store.confirm(2, NOW).unwrap());
    store.undo_unconfirmed(later(61)).unwrap();
    assert_eq!(store.bans(NOW).unwrap(), []);
    let kinds: Vec<_> = store.changes(0, 10).unwrap().into_iter().map(|change| change.kind).collect();
    assert_eq!(kinds, ["ban.add", "change.undo"]);
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, Option<u64>),
    Confirm(usize),
    Remove(u8, Option<u64>),
    Undo(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let network = 0u8..3;
    let within = prop::option::of(1u64..6);
    let step = prop_oneof![
        4 => (network.clone(), within.clone()).prop_map(|(network, within)| Step::Add(network, within)),
        2 => (network, within).prop_map(|(network, within)| Step::Remove(network, within)),
        1 => any::<usize>().prop_map(Step::Confirm),
        2 => (0u64..6).prop_map(Step::Undo),
    ];
    prop::collection::vec(step, 1..16)
}

/// A network's history: what it had in the end of each change that is not yet final, and before all of them.
#[derive(Debug, Default)]
struct Model {
    /// By network: (number of the change, 0 for the final one; the row's mark).
    history: BTreeMap<u8, Vec<(i64, Option<String>)>>,
}

impl Model {
    fn of(&mut self, network: u8) -> &mut Vec<(i64, Option<String>)> {
        self.history.entry(network).or_insert_with(|| vec![(0, None)])
    }

    fn now(&self, network: u8) -> Option<String> {
        self.history.get(&network)?.last()?.1.clone()
    }

    fn change(&mut self, network: u8, id: Option<i64>, row: Option<String>) {
        match id {
            Some(id) => self.of(network).push((id, row)),
            None => *self.of(network) = vec![(0, row)],
        }
    }

    fn undo(&mut self, id: i64) {
        self.history.values_mut().for_each(|history| history.retain(|(change, _)| *change != id));
    }

    fn confirm(&mut self, id: i64) {
        for history in self.history.values_mut() {
            if let Some(at) = history.iter().position(|(change, _)| *change == id) {
                history.drain(..at);
                history[0].0 = 0;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However changes of the same networks overlap, undone ones leave what there would be without them.
    #[test]
    fn any_sequence_leaves_what_its_kept_changes_amount_to(steps in steps()) {
        let (_directory, store) = open();
        let mut model = Model::default();
        let mut now = NOW;
        for (number, step) in steps.into_iter().enumerate() {
            let when = |within: Option<u64>| {
                When { confirm_by: within.map(|seconds| UnixTime(now.0 + seconds)), now }
            };
            let newest = || store.pending().unwrap().last().map(|pending| pending.id);
            match step {
                Step::Add(network, within) => {
                    let mark = number.to_string();
                    let banned = net(&format!("10.0.{network}.0/24"));
                    store.add_ban(banned, None, Some(&mark), when(within)).unwrap();
                    model.change(network, within.and_then(|_| newest()), Some(mark));
                }
                Step::Remove(network, within) => {
                    let banned = net(&format!("10.0.{network}.0/24"));
                    let removed = store.remove_ban(banned, when(within)).unwrap();
                    prop_assert_eq!(removed, model.now(network).is_some());
                    if removed {
                        model.change(network, within.and_then(|_| newest()), None);
                    }
                }
                Step::Confirm(which) => {
                    let pending = store.pending().unwrap();
                    if let Some(pending) = pending.get(which % pending.len().max(1))
                        && store.confirm(pending.id, now).unwrap()
                    {
                        model.confirm(pending.id);
                    }
                }
                Step::Undo(seconds) => {
                    now = UnixTime(now.0 + seconds);
                    for undone in store.undo_unconfirmed(now).unwrap() {
                        model.undo(undone.id);
                    }
                }
            }
            let bans = store.bans(now).unwrap();
            let there: BTreeMap<_, _> = bans.iter().map(|ban| (ban.network, ban.reason.clone())).collect();
            for network in 0..3 {
                let row = there.get(&net(&format!("10.0.{network}.0/24"))).cloned().flatten();
                prop_assert_eq!(row, model.now(network), "network {} after step {}", network, number);
            }
        }
    }
}
