//! The filter's decision on the host, over maps in ordinary memory.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;

use auth_agent::clock::Monotonic;
use auth_agent::config::{Kernel, Limits, WhenAgentGone};
use auth_agent::edge::{self, Rule};
use auth_agent::kernel::cells::Marks;
use auth_agent::kernel::rules::{self, Prefix};
use auth_agent::kernel::{Budgets, FilterError, Numbers};
use auth_common::facts::Facts;
use auth_common::filter::{Maps, decide};
use auth_common::flow::Flow;
use auth_common::layout::{BREAKER_WORDS, Class, PORT_WORDS, Policy, Ports};
use auth_common::packet::Cursor;
use auth_common::rules::{ADDRESS_BITS, Rule as Entry};
use auth_common::source::ipv6_mask;
use auth_common::table::{Group, Shape};
use auth_common::verdict::Reason;

/// The maps, in this process's memory.
pub struct HostMaps {
    /// The time that decisions see; the caller moves it. Until then, the agent counts as alive.
    pub now: Monotonic,
    /// Index of the interface that packets come by.
    pub interface: u32,
    breakers: Vec<AtomicU64>,
    cells: Vec<AtomicU64>,
    flows: HashMap<Flow, u64>,
    classes: BTreeMap<u16, Class>,
    groups: Vec<Group<AtomicU64>>,
    heartbeat: AtomicU64,
    policy: Policy,
    ports: Vec<Ports>,
    rules: BTreeMap<Prefix, Entry>,
    shape: Shape,
}

impl HostMaps {
    /// What the agent would put into the kernel's maps.
    ///
    /// # Errors
    /// Rules that the agent would refuse.
    pub fn new(
        kernel: &Kernel,
        limits: &Limits,
        protected: &[u16],
        stated: &[Rule],
    ) -> Result<Self, FilterError> {
        let budgets = Budgets::from(limits);
        let numbers = Numbers::default().assign(stated, &budgets)?;
        let number = |class: &edge::Class| numbers.of(&budgets.of_class(&class.limits).class());
        let groups = 1_024_usize;
        let now = Monotonic::now();
        let rules = rules::compile(stated, kernel.ipv6_prefix, number, |until| until.0)?;
        let pass_when_agent_gone = u64::from(kernel.when_agent_gone == WhenAgentGone::Pass);
        let mut ports = vec![Ports::default(); PORT_WORDS as usize];
        for port in &kernel.plaintext_ports {
            let (word, bit) = Ports::locate(*port);
            ports[word as usize].plaintext |= bit;
        }
        for port in &kernel.guarded_ports {
            let (word, bit) = Ports::locate(*port);
            ports[word as usize].guarded |= bit;
        }
        for port in protected {
            let (word, bit) = Ports::locate(*port);
            ports[word as usize].protected |= bit;
        }
        Ok(Self {
            breakers: (0..BREAKER_WORDS).map(|_| AtomicU64::default()).collect(),
            cells: Marks::of(&rules).words().iter().map(|word| AtomicU64::new(*word)).collect(),
            flows: HashMap::new(),
            classes: [(0, budgets.class())].into_iter().chain(numbers.iter()).collect(),
            groups: (0..groups).map(|_| Group::default()).collect(),
            heartbeat: AtomicU64::new(now.0),
            interface: 1,
            now,
            policy: Policy { pass_when_agent_gone, ..budgets.policy(1) },
            ports,
            rules,
            shape: Shape {
                group_mask: groups as u64 - 1,
                ipv6_mask: ipv6_mask(kernel.ipv6_prefix),
                ipv6_site_mask: ipv6_mask(kernel.ipv6_site),
                secret: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
            },
        })
    }

    /// Decides on a frame.
    pub fn run(&self, frame: &[u8]) -> Reason {
        decide(Cursor::new(frame), self)
    }

    /// Revokes flows until then, as the agent does.
    pub fn revoke(&mut self, flows: &[edge::Flow], until: Monotonic) {
        self.flows.extend(flows.iter().map(|flow| (flow.into(), until.0)));
        self.policy.flows_until = self.policy.flows_until.max(until.0);
    }

    /// The line of a source, as the agent would charge it.
    pub fn line<T>(&self, source: IpAddr, work: impl Fn(&auth_common::table::Line<AtomicU64>) -> T) -> T {
        let address = match source {
            IpAddr::V4(address) => auth_common::packet::Address::V4(address.octets()),
            IpAddr::V6(address) => auth_common::packet::Address::V6(address.octets()),
        };
        let key = auth_common::source::SourceKey::new(address, self.shape.ipv6_mask);
        let place = self.shape.place(key);
        work(self.groups[place.group as usize].seat(key, place, self.now.0).line())
    }
}

impl Maps for HostMaps {
    type Word = AtomicU64;

    fn breaker(&self) -> Option<&AtomicU64> {
        self.breakers.get((self.interface % BREAKER_WORDS) as usize)
    }

    fn cells(&self, index: u32) -> Option<&AtomicU64> {
        self.cells.get(index as usize)
    }

    fn class(&self, number: u32) -> Option<&Class> {
        self.classes.get(&u16::try_from(number).ok()?)
    }

    fn group(&self, index: u32) -> Option<&Group<AtomicU64>> {
        self.groups.get(index as usize)
    }

    fn heartbeat(&self) -> Option<&AtomicU64> {
        Some(&self.heartbeat)
    }

    fn now(&self) -> u64 {
        self.now.0
    }

    fn policy(&self) -> Option<&Policy> {
        Some(&self.policy)
    }

    fn ports(&self, index: u32) -> Option<&Ports> {
        self.ports.get(index as usize)
    }

    fn revoked_until(&self, flow: &Flow) -> Option<u64> {
        self.flows.get(flow).copied()
    }

    fn rule(&self, address: [u8; 16]) -> Option<Entry> {
        let address = u128::from_be_bytes(address);
        (0..=ADDRESS_BITS).rev().find_map(|length| {
            let mask = u128::MAX.checked_shl(ADDRESS_BITS - length).unwrap_or(0);
            self.rules.get(&Prefix { address: address & mask, length }).copied()
        })
    }

    fn settle<'f>(&'f self, facts: &'f Facts) -> Option<&'f Facts> {
        Some(facts)
    }

    fn shape(&self) -> Shape {
        self.shape
    }
}
