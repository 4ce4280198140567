//! The kernel filter, as the rest of the agent sees it.
//!
//! Links and maps are pinned, so the filter stays when the agent goes; [`Filter::open`] and
//! [`Unattached::attach`] adopt what is there.

mod budgets;
pub mod cells;
mod classes;
mod cures;
mod displaced;
pub mod error;
mod flows;
pub mod foreign;
mod heartbeat;
pub mod interfaces;
mod keeper;
mod links;
mod memory;
mod object;
mod pinned;
mod pins;
pub mod place;
mod report;
pub mod rules;
pub mod samples;
pub mod sources;
mod succession;
mod syscall;
mod values;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use auth_common::layout::{self, Class as Numbered, Policy, Ports};
use auth_common::rules::Rule as Entry;
use auth_common::table::Shape;
use auth_common::verdict::Reason;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, PerCpuArray};

pub use budgets::{Budgets, resets};
pub use classes::Numbers;
pub use error::FilterError;
pub use object::{OBJECT, verify};
pub use pinned::{Pinned, detach, pinned};
pub use pins::on_bpffs;
pub(crate) use pins::same_file;
pub use sources::SourceTable;

use crate::clock::{Monotonic, UnixTime};
use crate::config::{self, WhenAgentGone};
use crate::edge::{Class, Rule};
use crate::events::Hub;
use cells::{Cells, Marks};
use classes::{ByAddress, DEFAULT_CLASS};
use flows::Flows;
use heartbeat::Heartbeat;
use keeper::Keeper;
use links::Hand;
use memory::{Atomic, Shared};
use pins::Pins;
use rules::Prefix;
use samples::Ring;
use values::Value;
use watch::Watch;

/// Bans that differ by less are the same ban, seen through two clocks.
const DEADLINE_TOLERANCE: u64 = 1_000_000_000;

/// The filter in place.
pub struct Filter {
    budgets: ArcSwap<Budgets>,
    /// The same classes that the kernel looks up, for the request path.
    classes: ArcSwap<ByAddress>,
    counters: PerCpuArray<MapData, u64>,
    events: Arc<Hub>,
    /// Where packets are to pass when the agent is gone.
    heartbeat: Option<Heartbeat>,
    flows: Mutex<Flows>,
    keeper: Arc<Keeper>,
    lock: File,
    pin_directory: PathBuf,
    ports: Mutex<Array<MapData, Value<Ports>>>,
    /// Until [`Filter::publish_samples`] takes it.
    ring: Mutex<Option<Ring>>,
    rules: Mutex<Rules>,
    sources: SourceTable,
    /// Another agent has the filter: see [`Filter::step_back`].
    stepped_back: AtomicBool,
}

struct Rules {
    /// What [`layout::RULES`] holds.
    applied: BTreeMap<Prefix, Entry>,
    cells: Cells,
    budgets: Budgets,
    class_map: Array<MapData, Value<Numbered>>,
    ipv6_prefix: u8,
    numbers: Numbers,
    policy: Policy,
    policy_map: Array<MapData, Value<Policy>>,
    trie: LpmTrie<MapData, [u8; 16], Value<Entry>>,
}

impl Filter {
    /// Loads the program over the maps of an earlier agent, or over new ones, and sets ports and budgets. The
    /// rules are the caller's next step; an earlier agent's rules hold until then.
    ///
    /// # Errors
    /// [`FilterError`]; an earlier agent's filter is then still in place.
    pub fn open(
        kernel: &config::Kernel,
        limits: &config::Limits,
        protected_ports: &[u16],
    ) -> Result<(Self, Unattached), FilterError> {
        Self::open_with(kernel, limits, protected_ports, None)
    }

    /// The same, with the lock that an earlier agent handed over.
    ///
    /// # Errors
    /// As [`Filter::open`].
    pub fn open_with(
        kernel: &config::Kernel,
        limits: &config::Limits,
        protected_ports: &[u16],
        lock: Option<File>,
    ) -> Result<(Self, Unattached), FilterError> {
        let pins = Pins::open(&kernel.pin_directory)?;
        let lock = pins.lock(lock)?;
        pins.refuse_other_namespaces()?;
        let object::Loaded { mut ebpf, shape } = object::load(&pins, kernel, resets(kernel, limits))?;
        warn_of_other_shape(kernel, &shape);

        let mut ports = object::array::<Ports>(&mut ebpf, layout::PORTS)?;
        set_ports(&mut ports, kernel, protected_ports)?;
        let budgets = Budgets::from(limits);
        let pass_when_agent_gone = u64::from(kernel.when_agent_gone == WhenAgentGone::Pass);
        let policy = Policy { pass_when_agent_gone, ..budgets.policy(0) };
        let (switch, ring) = samples::take(&mut ebpf)?;
        let counters = counters(&mut ebpf)?;
        let flows = Flows::open(&mut ebpf)?;
        let policy = Policy { flows_until: flows.latest(), ..policy };
        let rules = Rules::open(&mut ebpf, budgets, policy, &shape)?;
        let heartbeat = heartbeat(&mut ebpf, kernel)?;
        let sources = source_table(&mut ebpf, shape)?;
        let keeper = Arc::new(Keeper::new(Hand::new(ebpf, pins, kernel.mode, kernel.replace)?, kernel));
        let filter = Self {
            budgets: ArcSwap::from_pointee(budgets),
            classes: ArcSwap::from_pointee(ByAddress::default()),
            counters,
            events: Hub::new(switch),
            heartbeat,
            flows: Mutex::new(flows),
            keeper: Arc::clone(&keeper),
            lock,
            pin_directory: kernel.pin_directory.clone(),
            ports: Mutex::new(ports),
            ring: Mutex::new(Some(ring)),
            rules: Mutex::new(rules),
            sources,
            stepped_back: AtomicBool::new(false),
        };
        Ok((filter, Unattached(keeper)))
    }

    /// The budgets of sources that are in no class of their own.
    pub fn budgets(&self) -> Budgets {
        **self.budgets.load()
    }

    /// Goes by other limits, with the next [`Filter::apply_rules`] in the kernel, too. What is owed stays.
    pub fn limit_to(&self, limits: &config::Limits) {
        let budgets = Budgets::from(limits);
        self.rules().limit_to(budgets);
        self.budgets.store(Arc::new(budgets));
    }

    /// Makes these the plaintext, the guarded and the agent's own ports.
    ///
    /// # Errors
    /// [`FilterError::Map`].
    pub fn set_ports(&self, kernel: &config::Kernel, protected: &[u16]) -> Result<(), FilterError> {
        if self.has_stepped_back() {
            return Ok(());
        }
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        set_ports(&mut ports, kernel, protected)
    }

    /// The budgets of a source.
    pub fn budgets_of(&self, source: IpAddr) -> Budgets {
        match self.classes.load().class(source) {
            Some(class) => self.budgets().of_class(&class.limits),
            None => self.budgets(),
        }
    }

    /// The source table.
    pub fn sources(&self) -> &SourceTable {
        &self.sources
    }

    /// Hands samples of packets to whoever listens, until it is dropped. To be called once.
    ///
    /// # Errors
    /// What the system says of waiting for the kernel.
    pub async fn publish_samples(&self) -> std::io::Result<()> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner).take();
        match ring {
            Some(ring) => samples::pump(ring, Arc::clone(&self.events)).await,
            None => Ok(()),
        }
    }

    /// Shows the kernel that somebody tends the filter, until it is dropped; at once done where that makes no
    /// difference.
    pub async fn beat(&self) {
        let Some(heartbeat) = &self.heartbeat else { return };
        let mut beats = tokio::time::interval(heartbeat.interval());
        loop {
            beats.tick().await;
            if let Err(error) = heartbeat.beat(Monotonic::now()) {
                tracing::error!(%error, "heartbeat; without one, packets soon pass unlimited");
            }
        }
    }

    /// Ends every subscription to samples.
    pub fn end_samples(&self) {
        self.events.close();
    }

    /// Makes the kernel enforce exactly `rules`.
    ///
    /// # Errors
    /// [`FilterError::ClassTooLong`], [`FilterError::TooManyClasses`] and [`FilterError::TooManyRules`] before
    /// anything is changed in the kernel; [`FilterError::Map`].
    pub fn apply_rules(&self, rules: &[Rule]) -> Result<(), FilterError> {
        let mut in_kernel = self.rules();
        self.classes.store(Arc::new(ByAddress::new(rules)));
        if self.has_stepped_back() {
            return Ok(());
        }
        in_kernel.apply(rules)
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

    fn rules(&self) -> MutexGuard<'_, Rules> {
        // A panic while it was held leaves `applied` behind the kernel at most: the next change mends it.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program that is set up and sees no packet yet.
#[must_use = "nothing is filtered before it is attached"]
pub struct Unattached(Arc<Keeper>);

impl Unattached {
    /// Puts the program on its interfaces; where an earlier agent's is, it takes its place in one step. What is
    /// returned keeps it there.
    ///
    /// # Errors
    /// [`FilterError`]; interfaces that come before the one at fault are then filtered.
    pub fn attach(self) -> Result<Watch, FilterError> {
        let watch = Watch::open(Arc::clone(&self.0))?;
        self.0.attach()?;
        Ok(watch)
    }
}

impl Rules {
    fn open(
        ebpf: &mut aya::Ebpf,
        budgets: Budgets,
        policy: Policy,
        shape: &Shape,
    ) -> Result<Self, FilterError> {
        let trie = LpmTrie::<_, [u8; 16], Value<Entry>>::try_from(object::take(ebpf, layout::RULES)?)
            .map_err(|error| FilterError::map(layout::RULES, error))?;
        let mut rules = Self {
            applied: BTreeMap::new(),
            budgets,
            cells: Cells::new(shared(ebpf, layout::CELLS, cells::COUNT)?),
            class_map: object::array(ebpf, layout::CLASSES)?,
            ipv6_prefix: shape.ipv6_mask.leading_ones() as u8,
            numbers: Numbers::default(),
            policy,
            policy_map: object::array(ebpf, layout::POLICY)?,
            trie,
        };
        rules.read()?;
        Ok(rules)
    }

    /// Takes what is in the kernel for what was applied.
    fn read(&mut self) -> Result<(), FilterError> {
        let entries = self.trie.iter().map(|entry| {
            let (key, Value(rule)) = entry.map_err(|error| FilterError::map(layout::RULES, error))?;
            Ok((Prefix { address: u128::from_be_bytes(key.data()), length: key.prefix_len() }, rule))
        });
        self.applied = entries.collect::<Result<_, FilterError>>()?;
        let in_use: BTreeSet<u16> = self.applied.values().map(|entry| entry.class).collect();
        self.numbers = Numbers::from_kernel(in_use, |number| {
            let class = self.class_map.get(&number.into(), 0);
            Ok(class.map_err(|error| FilterError::map(layout::CLASSES, error))?.0)
        })?;
        let policy = self.policy_map.get(&0, 0).map_err(|error| FilterError::map(layout::POLICY, error))?.0;
        // Goes on from where another agent stopped, so that no outcome cached then counts as new.
        self.policy.rules_generation = policy.rules_generation;
        Ok(())
    }

    fn apply(&mut self, rules: &[Rule]) -> Result<(), FilterError> {
        let (now, wall) = (Monotonic::now(), UnixTime::now());
        let numbers = self.numbers.assign(rules, &self.budgets)?;
        let number = |class: &Class| numbers.of(&self.budgets.of_class(&class.limits).class());
        let wanted = rules::compile(rules, self.ipv6_prefix, number, |until| deadline(until, wall, now))?;
        if wanted.len() > layout::MAX_RULES as usize {
            return Err(FilterError::TooManyRules { wanted: wanted.len() });
        }
        let marks = Marks::of(&wanted);
        self.cells.mark(&marks);
        // What a class may do is in place before anyone is put into it, and until nobody is in it any more.
        self.set_classes(&numbers)?;
        let changed = self.change(&wanted);
        if changed.is_ok() {
            self.cells.set(&marks);
        }
        self.numbers = if changed.is_ok() { numbers } else { numbers.beside(&self.numbers) };
        // Even after a failure: what did change must not be hidden behind cached outcomes.
        self.policy.rules_generation += 1;
        self.set_policy()?;
        changed
    }

    fn limit_to(&mut self, budgets: Budgets) {
        self.budgets = budgets;
        self.policy.breaker = budgets.breaker;
    }

    fn set_flows_until(&mut self, until: u64) -> Result<(), FilterError> {
        self.policy.flows_until = until;
        self.set_policy()
    }

    fn set_policy(&mut self) -> Result<(), FilterError> {
        self.policy_map.set(0, Value(self.policy), 0).map_err(|error| FilterError::map(layout::POLICY, error))
    }

    fn set_classes(&mut self, numbers: &Numbers) -> Result<(), FilterError> {
        for (number, class) in numbers.iter().chain([(DEFAULT_CLASS, self.budgets.class())]) {
            let set = self.class_map.set(number.into(), Value(class), 0);
            set.map_err(|error| FilterError::map(layout::CLASSES, error))?;
        }
        Ok(())
    }

    fn change(&mut self, wanted: &BTreeMap<Prefix, Entry>) -> Result<(), FilterError> {
        let failed = |error| FilterError::map(layout::RULES, error);
        // First what goes: the trie may be full.
        let gone: Vec<_> =
            self.applied.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
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
        && left.class == right.class
        && left.mixed == right.mixed
        && left.banned_until.abs_diff(right.banned_until) < DEADLINE_TOLERANCE
}

/// `until` on the kernel's clock; up to a second late, since the wall clock is read in seconds.
fn deadline(until: UnixTime, wall: UnixTime, now: Monotonic) -> u64 {
    match until.0.saturating_sub(wall.0) {
        0 => 0,
        left => now.0.saturating_add(left.saturating_mul(1_000_000_000)),
    }
}

fn warn_of_other_shape(kernel: &config::Kernel, shape: &Shape) {
    let wanted = object::shape(kernel, shape.secret);
    if wanted != *shape {
        tracing::warn!(
            sources = (shape.group_mask + 1) * auth_common::table::LINES_PER_GROUP as u64,
            ipv6_prefix = shape.ipv6_mask.leading_ones(),
            ipv6_site = shape.ipv6_site_mask.leading_ones(),
            "the source table in place is kept with its debts; kernel.sources, kernel.ipv6_prefix and kernel.ipv6_site take effect after `auth-agent detach`"
        );
    }
}

fn set_ports(
    map: &mut Array<MapData, Value<Ports>>,
    kernel: &config::Kernel,
    protected: &[u16],
) -> Result<(), FilterError> {
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

    for (index, word) in (0..).zip(words) {
        map.set(index, Value(word), 0).map_err(|error| FilterError::map(layout::PORTS, error))?;
    }
    Ok(())
}

fn counters(ebpf: &mut aya::Ebpf) -> Result<PerCpuArray<MapData, u64>, FilterError> {
    PerCpuArray::try_from(object::take(ebpf, layout::COUNTERS)?)
        .map_err(|error| FilterError::map(layout::COUNTERS, error))
}

fn source_table(ebpf: &mut aya::Ebpf, shape: Shape) -> Result<SourceTable, FilterError> {
    let groups = NonZeroUsize::MIN.saturating_add(shape.group_mask as usize);
    Ok(SourceTable::new(shared(ebpf, layout::SOURCES, groups)?, shape))
}

/// The memory of a map of `count` elements.
fn shared<T: Atomic>(
    ebpf: &mut aya::Ebpf,
    name: &'static str,
    count: NonZeroUsize,
) -> Result<Shared<T>, FilterError> {
    let Map::Array(data) = object::take(ebpf, name)? else {
        return Err(FilterError::map(name, "not an array"));
    };
    Shared::map(data.fd().as_fd(), count).map_err(|error| FilterError::map(name, error))
}

/// Beats for the first time, so that nothing passes for want of it.
fn heartbeat(ebpf: &mut aya::Ebpf, kernel: &config::Kernel) -> Result<Option<Heartbeat>, FilterError> {
    if kernel.when_agent_gone == WhenAgentGone::Filter {
        return Ok(None);
    }
    let map = Array::try_from(object::take(ebpf, layout::HEARTBEAT)?)
        .map_err(|error| FilterError::map(layout::HEARTBEAT, error))?;
    let heartbeat = Heartbeat::new(map, kernel.agent_gone_after);
    heartbeat.beat(Monotonic::now())?;
    Ok(Some(heartbeat))
}
