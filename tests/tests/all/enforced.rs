//! What `ban list` and `allow list` print is what the kernel enforces, through changes, expiry and restarts
//! (promise P10).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use auth_agent::clock::UnixTime;
use auth_common::layout;
use auth_common::verdict::Reason;
use aya::maps::{Map, MapData, PerCpuArray};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tests::agent::{Agent, Setup};
use tests::kernel::{Program, attached};
use tests::netns::Namespace;
use tests::{effort, privilege};

use super::rules::{addresses, frame, networks};

const UPSTREAM: &str = "http://127.0.0.1:9000";
/// Each is a sequence of changes.
const CASES: u32 = 4;
const LONG: u32 = 40;
const SEED: [u8; 32] = *b"what is listed is what is so....";
/// A ban is over when its second has come; the kernel may know of it a second later, and asks once a second.
const LATE: u64 = 2;
/// Seconds; nobody waits for the end of the second kind.
const SHORT: u8 = 1;
const LONG_LASTING: u8 = 250;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
enum Change {
    Allow(IpNet),
    Ban(IpNet, Option<u8>),
    Kill,
    Restart,
    /// One of those listed.
    Unallow(Index),
    Unban(Index),
}

fn changes() -> impl Strategy<Value = Change> {
    // Narrower than what wants to be forced.
    let network = || networks(16..=128).prop_filter("too wide", |network| network.prefix_len() >= 16);
    prop_oneof![
        5 => (network(), prop_oneof![2 => Just(None), 1 => Just(Some(SHORT)), 1 => Just(Some(LONG_LASTING))])
            .prop_map(|(network, seconds)| Change::Ban(network, seconds)),
        2 => network().prop_map(Change::Allow),
        2 => any::<Index>().prop_map(Change::Unban),
        1 => any::<Index>().prop_map(Change::Unallow),
        1 => Just(Change::Kill),
        1 => Just(Change::Restart),
    ]
}

/// What the CLI prints.
#[derive(Debug)]
struct Listed {
    allowed: Vec<IpNet>,
    /// With the second from which it no longer holds.
    banned: Vec<(IpNet, Option<u64>)>,
}

impl Listed {
    /// What it means for packets that come between two moments; `None` while a ban is about to end, or has just ended
    /// and is listed no more.
    fn means(&self, short: &[(IpNet, u64)], address: IpAddr, from: UnixTime, to: UnixTime) -> Option<Reason> {
        if self.allowed.iter().any(|network| network.contains(&address)) {
            return Some(Reason::Allowed);
        }
        let bans = || self.banned.iter().filter(|(network, _)| network.contains(&address));
        if bans().any(|(_, until)| until.is_none_or(|until| to.0 < until)) {
            return Some(Reason::Banned);
        }
        let mut ends = bans()
            .map(|(_, until)| until.unwrap_or(u64::MAX))
            .chain(short.iter().filter(|(network, _)| network.contains(&address)).map(|(_, until)| *until));
        let over = ends.all(|end| from.0 >= end.saturating_add(LATE));
        over.then_some(Reason::WithinBudget)
    }
}

/// The agent, its CLI, and the program on its interface.
struct Host {
    agent: Option<Agent>,
    namespace: Namespace,
    setup: Setup,
    /// Bans that were to end soon, with the second from which they no longer hold.
    short: Vec<(IpNet, u64)>,
}

impl Host {
    fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::new()?;
        let setup = Setup::new(&["localhost"])?;
        // Budgets that no test uses up.
        let limits = "[limits.packets]\nrate = \"1000000/s\"\nburst = 4000000000\n";
        setup.configure("lo", "generic", UPSTREAM, limits)?;
        let agent = Some(setup.start(&namespace)?);
        Ok(Self { agent, namespace, setup, short: Vec::new() })
    }

    fn listed(&self) -> anyhow::Result<Listed> {
        let network =
            |entry: &serde_json::Value| entry["network"].as_str().unwrap().parse::<IpNet>().unwrap();
        let allows = self.setup.json(&["allow", "list"])?;
        let bans = self.setup.json(&["ban", "list"])?;
        Ok(Listed {
            allowed: allows["allows"].as_array().unwrap().iter().map(network).collect(),
            banned: bans["bans"]
                .as_array()
                .unwrap()
                .iter()
                .map(|ban| (network(ban), ban["until"].as_u64()))
                .collect(),
        })
    }

    fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        let pick = |index: &Index, networks: Vec<IpNet>| {
            (!networks.is_empty()).then(|| networks[index.index(networks.len())].to_string())
        };
        match change {
            Change::Allow(network) => self.cli(&["allow", "add", &network.to_string()]),
            Change::Ban(network, None) => self.cli(&["ban", "add", &network.to_string()]),
            Change::Ban(network, Some(seconds)) => {
                let length = format!("{seconds}s");
                let added = self.setup.json(&["ban", "add", &network.to_string(), "--for", &length])?;
                let until = added["until"].as_u64().context("a ban without an end")?;
                if *seconds == SHORT {
                    self.short.push((*network, until));
                }
                Ok(())
            }
            Change::Kill => {
                self.agent.take().unwrap().kill()?;
                self.start()
            }
            Change::Restart => {
                let mut agent = self.agent.take().unwrap();
                agent.terminate()?;
                agent.wait()?;
                self.start()
            }
            Change::Unallow(index) => match pick(index, self.listed()?.allowed) {
                Some(network) => self.cli(&["allow", "remove", &network]),
                None => Ok(()),
            },
            // One that is about to end may be gone before it is removed.
            Change::Unban(index) => {
                let lasting = |(network, until): (IpNet, Option<u64>)| {
                    until.is_none_or(|until| until > UnixTime::now().0 + 20).then_some(network)
                };
                match pick(index, self.listed()?.banned.into_iter().filter_map(lasting).collect()) {
                    Some(network) => self.cli(&["ban", "remove", &network]),
                    None => Ok(()),
                }
            }
        }
    }

    fn cli(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.setup.json(arguments).map(|_| ())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.agent = Some(self.setup.start(&self.namespace)?);
        Ok(())
    }

    /// Compares what is listed with what packets from these addresses meet; says for how many the list is clear.
    fn compare(&self, addresses: &[IpAddr]) -> Result<usize, TestCaseError> {
        let told = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
        let listed = self.listed().map_err(told)?;
        let program = attached(&self.namespace).map_err(told)?.into();
        let mut clear = 0;
        for address in addresses {
            // Twice: looked up, then from the cache.
            for _ in 0..2 {
                let from = UnixTime::now();
                let reason = reason(&program, self.setup.pins(), *address).map_err(told)?;
                let Some(meant) = listed.means(&self.short, *address, from, UnixTime::now()) else {
                    continue;
                };
                prop_assert_eq!(reason.name(), meant.name(), "{} under {:?}", address, listed);
                clear += 1;
            }
        }
        Ok(clear)
    }

    /// Waits until every ban that was to end soon is over, also in the kernel.
    fn outwait(&self) -> anyhow::Result<()> {
        let ends = self.short.iter().map(|(_, until)| *until).max();
        let deadline = Instant::now() + PATIENCE;
        while ends.is_some_and(|end| UnixTime::now().0 < end + LATE) {
            anyhow::ensure!(Instant::now() < deadline, "the clock stands still");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The reason that a packet from this address is counted under.
fn reason(program: &Program, pins: &Path, address: IpAddr) -> anyhow::Result<Reason> {
    let before = counters(pins)?;
    program.run(&frame(address), 1)?;
    let after = counters(pins)?;
    let moved: Vec<_> =
        Reason::ALL.into_iter().filter(|reason| before[reason.name()] != after[reason.name()]).collect();
    anyhow::ensure!(moved.len() == 1, "one packet moved {moved:?}");
    Ok(moved[0])
}

fn counters(pins: &Path) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let data = MapData::from_pin(pins.join("maps").join(layout::COUNTERS))?;
    let counters = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(data))?;
    let count = |reason: Reason| Ok((reason.name(), counters.get(&(reason as u32), 0)?.iter().sum()));
    Reason::ALL.into_iter().map(count).collect()
}

#[test]
fn what_the_cli_lists_is_what_the_kernel_enforces_through_changes_expiry_and_restarts() {
    if !privilege::kernel_usable("lists and their enforcement") {
        return;
    }
    let host = RefCell::new(Host::new().unwrap());
    let clear = RefCell::new(0);
    let sequence = prop::collection::vec((changes(), prop::collection::vec(addresses(), 1..8)), 4..10);
    let cases = effort::cases(CASES, LONG);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 16, ..Config::default() };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let outcome = TestRunner::new_with_rng(config, random).run(&sequence, |sequence| {
        let mut host = host.borrow_mut();
        let told = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
        for (change, addresses) in &sequence {
            host.apply(change).map_err(told)?;
            *clear.borrow_mut() += host.compare(addresses)?;
        }
        host.outwait().map_err(told)?;
        let all: Vec<_> = sequence.iter().flat_map(|(_, addresses)| addresses.clone()).collect();
        let compared = host.compare(&all)?;
        prop_assert_eq!(compared, 2 * all.len(), "nothing is about to end");
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("seed {SEED:?}: {failure}");
    }
    println!("{} packets compared in the midst of changes", clear.borrow());
}
