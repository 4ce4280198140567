//! The maps, and the filter's view of them.

use auth_common::cells;
use auth_common::facts::Facts;
use auth_common::filter::Maps;
use auth_common::flow::Flow;
use auth_common::layout::{
    BREAKER_WORDS, Class, MAX_CLASSES, MAX_FLOWS, MAX_RULES, Meta, PORT_WORDS, Policy, Ports,
};
use auth_common::rules::{ADDRESS_BITS, Rule};
use auth_common::table::{Group, Shape};
use auth_common::verdict::Reason;
use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG, xdp_md};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;

use crate::clock;
use crate::word::KernelWord;

/// Strangers' new connections: the one word that all CPUs of an interface contend for, and only with a SYN in hand.
#[map]
static BREAKERS: Array<KernelWord> = Array::pinned(BREAKER_WORDS, 0);

#[map]
static CELLS: Array<KernelWord> = Array::pinned(cells::WORDS, BPF_F_MMAPABLE);

#[map]
static CLASSES: Array<Class> = Array::pinned(MAX_CLASSES, BPF_F_RDONLY_PROG);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::pinned(Reason::ALL.len() as u32, 0);

#[map]
static FACTS: PerCpuArray<Facts> = PerCpuArray::with_max_entries(1, 0);

#[map]
static FLOWS: HashMap<Flow, u64> = HashMap::pinned(MAX_FLOWS, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);

#[map]
static HEARTBEAT: Array<KernelWord> = Array::pinned(1, 0);

/// Written and read by agents alone; it lies here so that it is pinned with the rest.
#[map]
static META: Array<Meta> = Array::pinned(1, 0);

#[map]
static POLICY: Array<Policy> = Array::pinned(1, BPF_F_RDONLY_PROG);

#[map]
static PORTS: Array<Ports> = Array::pinned(PORT_WORDS, BPF_F_RDONLY_PROG);

#[map]
static RULES: LpmTrie<[u8; 16], Rule> = LpmTrie::pinned(MAX_RULES, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);

/// The loader sets the number of groups.
#[map]
static SOURCES: Array<Group<KernelWord>> = Array::pinned(1, BPF_F_MMAPABLE);

/// The loader sets it, from [`META`]; being read-only data, it costs no look-up.
#[unsafe(no_mangle)]
static SHAPE: Global<Shape> =
    Global::new(Shape { group_mask: 0, ipv6_mask: 0, ipv6_site_mask: 0, secret: [0; 2] });

/// Adds one to the counter of `reason`.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: the pointer is to this CPU's own copy, and XDP programs are not preempted by each other.
        unsafe { *counter += 1 };
    }
}

/// A class, as the agent wrote it.
#[inline(always)]
pub fn class(number: u32) -> Option<&'static Class> {
    CLASSES.get(number)
}

/// The maps of the running program, for one packet.
pub struct KernelMaps(*mut xdp_md);

impl KernelMaps {
    /// For the packet of `context`.
    #[inline(always)]
    pub fn new(context: &XdpContext) -> Self {
        Self(context.ctx)
    }
}

impl Maps for KernelMaps {
    type Word = KernelWord;

    #[inline(always)]
    fn breaker(&self) -> Option<&KernelWord> {
        // SAFETY: the kernel keeps the context readable while the program runs.
        let interface = unsafe { (*self.0).ingress_ifindex };
        BREAKERS.get(interface % BREAKER_WORDS)
    }

    #[inline(always)]
    fn cells(&self, index: u32) -> Option<&KernelWord> {
        CELLS.get(index)
    }

    #[inline(always)]
    fn class(&self, number: u32) -> Option<&Class> {
        class(number)
    }

    #[inline(always)]
    fn group(&self, index: u32) -> Option<&Group<KernelWord>> {
        SOURCES.get(index)
    }

    #[inline(always)]
    fn heartbeat(&self) -> Option<&KernelWord> {
        HEARTBEAT.get(0)
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        clock::now()
    }

    #[inline(always)]
    fn policy(&self) -> Option<&Policy> {
        POLICY.get(0)
    }

    #[inline(always)]
    fn ports(&self, index: u32) -> Option<&Ports> {
        PORTS.get(index)
    }

    #[inline(always)]
    fn revoked_until(&self, flow: &Flow) -> Option<u64> {
        // SAFETY: the program can't write it, and the agent replaces entries as a whole.
        unsafe { FLOWS.get(flow) }.copied()
    }

    #[inline(always)]
    fn rule(&self, address: [u8; 16]) -> Option<Rule> {
        RULES.get(Key::new(ADDRESS_BITS, address)).copied()
    }

    /// What is not asked for of a packet is not read back.
    #[inline(always)]
    fn settle<'f>(&'f self, facts: &'f Facts) -> Option<&'f Facts> {
        let settled = FACTS.get_ptr_mut(0)?;
        // SAFETY: the pointer is to this CPU's own copy, and XDP programs are not preempted by each other. It is
        // read back volatile, so that the compiler does not know it for the one that was just written through.
        unsafe {
            settled.write(*facts);
            Some(&*(&raw const settled).read_volatile())
        }
    }

    #[inline(always)]
    fn shape(&self) -> Shape {
        SHAPE.load()
    }
}
