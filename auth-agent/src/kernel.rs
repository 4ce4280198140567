//! The kernel filter, as the rest of the agent sees it.
//!
//! Links and maps are pinned, so the filter stays when the agent goes; [`Filter::start`] adopts what is there.

pub mod error;
pub mod interfaces;
mod links;
mod memory;
mod object;
mod pins;
pub mod rules;
pub mod sources;
mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use auth_common::gcra::{self, Escalation, Limit};
use auth_common::layout::{self, Policy, Ports};
use auth_common::rules::{Cached, Outcome, Rule as Entry};
use auth_common::verdict::Reason;
use auth_common::word::Word;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use serde::Serialize;

pub use error::FilterError;
pub use object::OBJECT;
pub use rules::{Action, Rule};
pub use sources::SourceTable;

use crate::clock::{Monotonic, UnixTime};
use crate::config::{self, HttpLimit, Rate};
use memory::SharedGroups;
use pins::Pins;
use rules::Prefix;
use values::Value;

/// Bans that differ by less are the same ban, seen through two clocks.
const DEADLINE_TOLERANCE: u64 = 1_000_000_000;

/// The budgets in the limiter's terms.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Failed authentications, and when the NIC answers.
    pub auth_failures: (Limit, Escalation),
    /// New connections.
    pub connections: Limit,
    /// Packets.
    pub packets: Limit,
    /// HTTP requests, and when the NIC answers.
    pub requests: (Limit, Escalation),
}

impl From<&config::Limits> for Budgets {
    fn from(limits: &config::Limits) -> Self {
        Self {
            auth_failures: escalating(&limits.auth_failures),
            connections: limit(&limits.connections),
            packets: limit(&limits.packets),
            requests: escalating(&limits.requests),
        }
    }
}

fn limit(rate: &Rate) -> Limit {
    Limit::new(rate.events.get(), nanoseconds(rate.period), rate.burst.get())
}

fn escalating(http: &HttpLimit) -> (Limit, Escalation) {
    let limit = limit(&http.rate);
    let beyond = limit.increment.saturating_mul(http.drop_after.get().into());
    let threshold = limit.tolerance.saturating_add(beyond);
    (limit, Escalation { threshold, sentence: nanoseconds(http.drop_for) })
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The filter in place.
pub struct Filter {
    budgets: Budgets,
    counters: PerCpuArray<MapData, u64>,
    interfaces: Vec<String>,
    rules: Mutex<Rules>,
    sources: SourceTable,
}

struct Rules {
    /// What [`layout::RULES`] holds.
    applied: BTreeMap<Prefix, Entry>,
    ipv6_prefix: u8,
    policy: Policy,
    policy_map: Array<MapData, Value<Policy>>,
    trie: LpmTrie<MapData, [u8; 16], Value<Entry>>,
}

/// What `status` shows of the filter.
#[derive(Clone, Debug, Serialize)]
pub struct FilterStatus {
    /// Packets by reason, the zero ones left out.
    pub counters: Vec<CounterStatus>,
    /// Interfaces that the filter was put on.
    pub interfaces: Vec<InterfaceStatus>,
    /// The source table.
    pub sources: SourcesStatus,
}

/// Packets with one reason.
#[derive(Clone, Debug, Serialize)]
pub struct CounterStatus {
    /// Packets since the maps were made.
    pub packets: u64,
    /// The reason's name.
    pub reason: &'static str,
    /// `drop` or `pass`.
    pub verdict: &'static str,
}

/// An interface.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceStatus {
    /// Its index; 0 where it is gone.
    pub index: u32,
    /// `native` or `generic`; `detached` where no program is on it.
    pub mode: &'static str,
    /// Its name.
    pub name: String,
    /// The program's id.
    pub program_id: u32,
}

/// The source table.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SourcesStatus {
    /// Sources it has room for.
    pub capacity: usize,
    /// Sources that owe something or are known at the moment.
    pub occupied: usize,
}

/// One source, as `source show` prints it. Times are seconds.
#[derive(Clone, Debug, Serialize)]
pub struct SourceView {
    /// The asked address.
    pub address: IpAddr,
    /// `allowed`, `banned` or `none`: what the rules say at the moment.
    pub rule: &'static str,
    /// Seconds until the ban ends; absent without a ban, or without an end.
    pub banned_for: Option<f64>,
    /// Whether the line holds that outcome, so that no look-up is needed.
    pub rule_cached: bool,
    /// Whether the source has a line of its own; else newcomers' shared line is shown.
    pub own_line: bool,
    /// Seconds for which it counts as known.
    pub known_for: f64,
    /// Each debt.
    pub debts: Debts,
}

/// The debts of a line.
#[derive(Clone, Debug, Serialize)]
pub struct Debts {
    /// Failed authentications.
    pub auth_failures: DebtView,
    /// New connections.
    pub connections: DebtView,
    /// Packets.
    pub packets: DebtView,
    /// HTTP requests.
    pub requests: DebtView,
}

/// One debt.
#[derive(Clone, Debug, Serialize)]
pub struct DebtView {
    /// Events that may come at once after a pause.
    pub burst: u64,
    /// Whether the kernel drops the source for this debt.
    pub dropped: bool,
    /// Events not yet paid.
    pub events: u64,
    /// Seconds until all is paid.
    pub paid_in: f64,
}

impl Filter {
    /// Loads the program, sets it up, and puts it on the interfaces, adopting what an earlier agent left.
    /// Nothing is attached before everything is set.
    ///
    /// # Errors
    /// [`FilterError`]; an earlier agent's filter is then still in place.
    pub fn start(
        kernel: &config::Kernel,
        limits: &config::Limits,
        protected_ports: &[u16],
        rules: &[Rule],
    ) -> Result<Self, FilterError> {
        let pins = Pins::open(&kernel.pin_directory)?;
        let object::Loaded { mut ebpf, shape } = object::load(&pins, kernel.sources, kernel.ipv6_prefix)?;
        let ipv6_prefix = shape.ipv6_mask.leading_ones() as u8;
        warn_of_other_shape(kernel, shape.group_mask, ipv6_prefix);

        set_ports(&mut ebpf, kernel, protected_ports)?;
        let budgets = Budgets::from(limits);
        let filter = Self {
            budgets,
            counters: counters(&mut ebpf)?,
            interfaces: kernel.interfaces.clone(),
            rules: Mutex::new(Rules::open(&mut ebpf, &budgets, ipv6_prefix)?),
            sources: source_table(&mut ebpf, shape)?,
        };
        filter.apply_rules(rules)?;
        links::attach(&mut ebpf, &pins, &kernel.interfaces, kernel.mode)?;
        Ok(filter)
    }

    /// The budgets that are enforced.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// The source table.
    pub fn sources(&self) -> &SourceTable {
        &self.sources
    }

    /// Makes the kernel enforce exactly `rules`.
    ///
    /// # Errors
    /// [`FilterError::TooManyRules`] before anything is changed; [`FilterError::Map`].
    pub fn apply_rules(&self, rules: &[Rule]) -> Result<(), FilterError> {
        self.rules().apply(rules)
    }

    /// Packets by reason.
    ///
    /// # Errors
    /// [`FilterError::Map`].
    pub fn counters(&self) -> Result<Vec<(Reason, u64)>, FilterError> {
        Reason::ALL
            .into_iter()
            .map(|reason| {
                let per_cpu = self
                    .counters
                    .get(&(reason as u32), 0)
                    .map_err(|error| FilterError::map(layout::COUNTERS, error))?;
                Ok((reason, per_cpu.iter().sum()))
            })
            .collect()
    }

    /// What is attached where, and what it counted.
    ///
    /// # Errors
    /// [`FilterError::Map`], [`FilterError::Netlink`].
    pub fn status(&self) -> Result<FilterStatus, FilterError> {
        let present = interfaces::list()?;
        let interfaces = self.interfaces.iter().map(|name| {
            let interface = present.iter().find(|interface| interface.name == *name);
            let program = interface.and_then(|interface| interface.program);
            InterfaceStatus {
                index: interface.map_or(0, |interface| interface.index),
                mode: program.map_or("detached", |program| program.mode),
                name: name.clone(),
                program_id: program.map_or(0, |program| program.id),
            }
        });
        let counters = self.counters()?.into_iter().filter(|(_, packets)| *packets != 0);
        Ok(FilterStatus {
            counters: counters
                .map(|(reason, packets)| CounterStatus {
                    packets,
                    reason: reason.name(),
                    verdict: reason.verdict().name(),
                })
                .collect(),
            interfaces: interfaces.collect(),
            sources: SourcesStatus {
                capacity: self.sources.capacity(),
                occupied: self.sources.occupied(Monotonic::now()),
            },
        })
    }

    /// The line of `address`, and what the rules in the kernel say of it.
    ///
    /// # Errors
    /// [`FilterError::Map`].
    pub fn source(&self, address: IpAddr) -> Result<SourceView, FilterError> {
        let address = address.to_canonical();
        let now = Monotonic::now();
        let rules = self.rules();
        let entry = rules.look_up(address)?;
        let generation = rules.policy.rules_generation;
        let tag = self.sources.place(address).tag;
        Ok(self.sources.peek(address, |line, shared| {
            let cached = Cached::from_bits(line.rules.read()).outcome(generation, tag);
            let view = |arrival, limit: Limit, threshold| DebtView {
                burst: limit.tolerance / limit.increment,
                dropped: gcra::debt(arrival, now.0) > threshold,
                events: sources::events(arrival, now, limit),
                paid_in: seconds(gcra::debt(arrival, now.0)),
            };
            let (requests, request_escalation) = self.budgets.requests;
            let (failures, failure_escalation) = self.budgets.auth_failures;
            let outcome = entry.outcome(now.0);
            SourceView {
                address,
                banned_for: (outcome == Outcome::Banned && entry.banned_until != u64::MAX)
                    .then(|| seconds(entry.banned_until - now.0)),
                debts: Debts {
                    auth_failures: view(&line.auth_failures, failures, failure_escalation.threshold),
                    connections: view(&line.connections, self.budgets.connections, u64::MAX),
                    packets: view(&line.packets, self.budgets.packets, u64::MAX),
                    requests: view(&line.requests, requests, request_escalation.threshold),
                },
                known_for: seconds(gcra::debt(&line.known_until, now.0)),
                own_line: !shared,
                rule: match outcome {
                    Outcome::Allowed => "allowed",
                    Outcome::Banned => "banned",
                    Outcome::None => "none",
                },
                rule_cached: !shared && cached == Some(outcome),
            }
        }))
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        // A panic while it was held leaves `applied` behind the kernel at most: the next change mends it.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the filter off every interface and forgets its maps. Needs no running agent.
///
/// Returns the interfaces that it was on.
///
/// # Errors
/// [`FilterError::Directory`].
pub fn detach(pin_directory: &Path) -> Result<Vec<String>, FilterError> {
    let Some(pins) = Pins::existing(pin_directory) else {
        return Ok(Vec::new());
    };
    let interfaces = pins.interfaces()?;
    pins.remove()?;
    Ok(interfaces)
}

impl Rules {
    fn open(ebpf: &mut aya::Ebpf, budgets: &Budgets, ipv6_prefix: u8) -> Result<Self, FilterError> {
        let failed = |error: &dyn std::fmt::Display| FilterError::map(layout::RULES, error);
        let trie = LpmTrie::<_, [u8; 16], Value<Entry>>::try_from(object::take(ebpf, layout::RULES)?)
            .map_err(|error| failed(&error))?;
        let applied = trie
            .iter()
            .map(|entry| {
                let (key, Value(rule)) = entry.map_err(|error| failed(&error))?;
                Ok((Prefix { address: u128::from_be_bytes(key.data()), length: key.prefix_len() }, rule))
            })
            .collect::<Result<_, FilterError>>()?;
        let policy_map = object::array::<Policy>(ebpf, layout::POLICY)?;
        let earlier = policy_map.get(&0, 0).map_err(|error| FilterError::map(layout::POLICY, error))?.0;
        let policy = Policy {
            auth_failure_threshold: budgets.auth_failures.1.threshold,
            connections: budgets.connections,
            packets: budgets.packets,
            request_threshold: budgets.requests.1.threshold,
            // Goes on from where an earlier agent stopped, so that no outcome cached then counts as new.
            rules_generation: earlier.rules_generation,
        };
        Ok(Self { applied, ipv6_prefix, policy, policy_map, trie })
    }

    fn apply(&mut self, rules: &[Rule]) -> Result<(), FilterError> {
        let (now, wall) = (Monotonic::now(), UnixTime::now());
        let wanted = rules::compile(rules, self.ipv6_prefix, |until| deadline(until, wall, now));
        if wanted.len() > layout::MAX_RULES as usize {
            return Err(FilterError::TooManyRules { wanted: wanted.len() });
        }
        let changed = self.change(&wanted);
        // Even after a failure: what did change must not be hidden behind cached outcomes.
        self.policy.rules_generation += 1;
        self.policy_map
            .set(0, Value(self.policy), 0)
            .map_err(|error| FilterError::map(layout::POLICY, error))?;
        changed
    }

    fn change(&mut self, wanted: &BTreeMap<Prefix, Entry>) -> Result<(), FilterError> {
        let failed = |error| FilterError::map(layout::RULES, error);
        // First what goes: the trie may be full.
        let gone: Vec<_> = self.applied.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        for prefix in gone {
            self.trie.remove(&key(prefix)).map_err(failed)?;
            self.applied.remove(&prefix);
        }
        for (prefix, entry) in wanted {
            if self.applied.get(prefix).is_some_and(|applied| same(*applied, *entry)) {
                continue;
            }
            self.trie.insert(&key(*prefix), Value(*entry), 0).map_err(failed)?;
            self.applied.insert(*prefix, *entry);
        }
        Ok(())
    }

    fn look_up(&self, address: IpAddr) -> Result<Entry, FilterError> {
        let whole = Prefix { address: rules::mapped(address), length: auth_common::rules::ADDRESS_BITS };
        match self.trie.get(&key(whole), 0) {
            Ok(Value(entry)) => Ok(entry),
            Err(aya::maps::MapError::KeyNotFound) => Ok(Entry::default()),
            Err(error) => Err(FilterError::map(layout::RULES, error)),
        }
    }
}

fn key(prefix: Prefix) -> Key<[u8; 16]> {
    Key::new(prefix.length, prefix.address.to_be_bytes())
}

fn same(left: Entry, right: Entry) -> bool {
    left.allowed == right.allowed
        && left.mixed == right.mixed
        && left.banned_until.abs_diff(right.banned_until) < DEADLINE_TOLERANCE
}

/// The end of the second `until`, on the kernel's clock.
fn deadline(until: UnixTime, wall: UnixTime, now: Monotonic) -> u64 {
    match (until.0 + 1).saturating_sub(wall.0) {
        0 => 0,
        left => now.0.saturating_add(left.saturating_mul(1_000_000_000)),
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    (nanoseconds / 1_000_000) as f64 / 1_000.0
}

fn warn_of_other_shape(kernel: &config::Kernel, group_mask: u64, ipv6_prefix: u8) {
    let lines = (group_mask + 1) * auth_common::table::LINES_PER_GROUP as u64;
    if lines != u64::from(kernel.sources.get()) || ipv6_prefix != kernel.ipv6_prefix {
        tracing::warn!(
            sources = lines,
            ipv6_prefix,
            "the source table in place is kept with its debts; kernel.sources and kernel.ipv6_prefix take effect after `auth-agent detach`"
        );
    }
}

fn set_ports(ebpf: &mut aya::Ebpf, kernel: &config::Kernel, protected: &[u16]) -> Result<(), FilterError> {
    let mut words = vec![Ports::default(); layout::PORT_WORDS as usize];
    let mut mark = |ports: &[u16], select: fn(&mut Ports) -> &mut u64| {
        for port in ports {
            let (word, bit) = Ports::locate(*port);
            *select(&mut words[word as usize]) |= bit;
        }
    };
    mark(&kernel.plaintext_ports, |ports| &mut ports.plaintext);
    mark(&kernel.guarded_ports, |ports| &mut ports.guarded);
    mark(protected, |ports| &mut ports.protected);

    let mut map = object::array::<Ports>(ebpf, layout::PORTS)?;
    for (index, word) in (0..).zip(words) {
        map.set(index, Value(word), 0).map_err(|error| FilterError::map(layout::PORTS, error))?;
    }
    Ok(())
}

fn counters(ebpf: &mut aya::Ebpf) -> Result<PerCpuArray<MapData, u64>, FilterError> {
    PerCpuArray::try_from(object::take(ebpf, layout::COUNTERS)?)
        .map_err(|error| FilterError::map(layout::COUNTERS, error))
}

fn source_table(
    ebpf: &mut aya::Ebpf,
    shape: auth_common::table::Shape,
) -> Result<SourceTable, FilterError> {
    let failed = |error: &dyn std::fmt::Display| FilterError::map(layout::SOURCES, error);
    let Map::Array(data) = object::take(ebpf, layout::SOURCES)? else {
        return Err(failed(&"not an array"));
    };
    let count = NonZeroUsize::MIN.saturating_add(shape.group_mask as usize);
    let groups = SharedGroups::map(data.fd().as_fd(), count).map_err(|error| failed(&error))?;
    Ok(SourceTable::new(groups, shape))
}
