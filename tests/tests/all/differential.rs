//! The filter's view of packets beside Linux's own.
//!
//! Every generated packet goes over two wires: into a host without a filter, whose stack says what it makes of it,
//! and into a host with the real object on its interface.

mod case;
mod generate;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;

use auth_agent::config::{Kernel, Limits, XdpMode};
use auth_agent::edge::{Action, Rule};
use auth_agent::kernel::Filter;
use auth_common::packet::{self, Address, Cursor, Frame, Transport};
use auth_common::verdict::{Reason, Verdict};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tests::effort;
use tests::host::HostMaps;
use tests::kernel::PinDirectory;
use tests::privilege;
use tests::raw::{self, Heard, RawSockets};
use tests::wire::{MARK, NEAR, Wire};
use tests::witness::View;

use self::case::{ALLOWED, BANNED, Case};
use super::filter;

/// Each case is a packet, or one in fragments.
const CASES: u32 = 6_000;
const LONG: u32 = 200_000;
const SEED: [u8; 32] = *b"what Linux sees the filter sees!";

const HTTPS: u16 = 8_443;
const PLAINTEXT: [u16; 2] = [80, 8_080];

/// Where the filter drops what Linux takes, each with its reason. It never takes for one thing what Linux takes for
/// another.
const STRICTER: [(Reason, &str); 6] = [
    (
        Reason::FragmentOverlap,
        "RFC 3128: Linux drops such fragments when their first is there, and not before",
    ),
    (Reason::FragmentTiny, "RFC 1858, RFC 7112: nothing that is honest cuts a transport header in two"),
    (Reason::IcmpTruncated, "Linux drops it too, when raw sockets have had it"),
    (Reason::Ipv6ExtensionChain, "longer than RFC 8200 4.1 has it; Linux has no limit"),
    (
        Reason::SourceInvalid,
        "a v4-mapped source would be taken for the IPv4 host, and be banned or allowed as that",
    ),
    (Reason::VlanTooDeep, "Linux takes off priority tags without end"),
];

/// Of each, Linux must have taken some.
const KINDS: [&str; 10] =
    ["fragmented", "IPv4", "IPv6", "mutated", "other", "plaintext", "tagged", "TCP", "truncated", "UDP"];

/// A filter with no budget that a test can use up.
struct Filtered {
    counts: BTreeMap<usize, u64>,
    filter: Filter,
    _pins: PinDirectory,
    wire: Wire,
}

fn limits() -> Limits {
    let mut limits = filter::limits();
    for rate in [&mut limits.breaker, &mut limits.source.connections, &mut limits.source.packets] {
        (rate.burst, rate.events) = (NonZeroU32::MAX, NonZeroU32::MAX);
    }
    (limits.source.bytes.burst, limits.source.bytes.per_second) = (1 << 40, 1 << 40);
    limits
}

fn kernel() -> Kernel {
    Kernel {
        guarded_ports: vec![MARK, 22],
        interfaces: vec![NEAR.to_owned()],
        mode: XdpMode::Native,
        plaintext_ports: PLAINTEXT.to_vec(),
        ..filter::kernel()
    }
}

fn rules() -> Vec<Rule> {
    let rules = [
        (format!("10.{BANNED}.0.0/16"), Action::Ban { until: None }),
        (format!("fd00:{BANNED}::/32"), Action::Ban { until: None }),
        (format!("10.{ALLOWED}.0.0/16"), Action::Allow),
        (format!("fd00:{ALLOWED}::/32"), Action::Allow),
    ];
    rules.into_iter().map(|(network, action)| Rule { action, network: network.parse().unwrap() }).collect()
}

impl Filtered {
    fn new() -> anyhow::Result<Self> {
        let wire = Wire::new()?;
        let pins = PinDirectory::new();
        let kernel = Kernel { pin_directory: pins.path().to_owned(), ..kernel() };
        let filter = wire.host.run(|| {
            let (filter, unattached) = Filter::open(&kernel, &limits(), &[HTTPS])?;
            filter.apply_rules(&rules())?;
            drop(unattached.attach()?);
            Ok(filter)
        })?;
        let mut filtered = Self { counts: BTreeMap::new(), filter, _pins: pins, wire };
        filtered.reasons()?;
        Ok(filtered)
    }

    /// What the host behind the filter looked up, and the reasons that the filter counted.
    fn send(&mut self, frames: &[Vec<u8>]) -> anyhow::Result<(Vec<View>, Vec<Reason>)> {
        let seen = self.wire.send(frames)?;
        Ok((seen, self.reasons()?))
    }

    /// Reasons counted since the last call, in their own order.
    fn reasons(&mut self) -> anyhow::Result<Vec<Reason>> {
        let mut reasons = Vec::new();
        for (reason, count) in self.filter.counters()? {
            let before = self.counts.insert(reason as usize, count).unwrap_or(0);
            reasons.extend((before..count).map(|_| reason));
        }
        Ok(reasons)
    }
}

/// Both wires, and what has been seen so far.
struct Laboratory {
    bare: Wire,
    filtered: Filtered,
    /// The decision on the host.
    maps: HostMaps,
    /// Who hears of other protocols, in the host without a filter.
    raw: RawSockets,
    serial: u32,
    /// Cases of each kind that Linux took.
    taken: HashMap<&'static str, u32>,
    /// Reasons for which the filter dropped what Linux took.
    stricter: HashSet<Reason>,
}

impl Laboratory {
    fn new() -> anyhow::Result<Self> {
        let bare = Wire::new()?;
        Ok(Self {
            raw: RawSockets::new(&bare.host)?,
            bare,
            filtered: Filtered::new()?,
            maps: HostMaps::new(&kernel(), &limits(), &[HTTPS], &rules())?,
            serial: 0,
            stricter: HashSet::new(),
            taken: HashMap::new(),
        })
    }

    fn check(&mut self, case: &Case) -> Result<(), TestCaseError> {
        self.serial += 1;
        let frames = case.frames(self.serial);
        let told = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
        let linux = self.bare.send(&frames).map_err(told)?;
        let heard = self.raw.heard().map_err(told)?;
        let (behind, reasons) = self.filtered.send(&frames).map_err(told)?;

        let decided: Vec<_> = frames.iter().map(|frame| self.maps.run(frame)).collect();
        let mut expected = [decided.as_slice(), &[Reason::Guarded]].concat();
        expected.sort_by_key(|reason| *reason as usize);
        prop_assert_eq!(&reasons, &expected, "counted by the object, and decided on the host");
        let parsed: Vec<_> = frames.iter().map(|frame| packet::parse(Cursor::new(frame))).collect();
        self.compare(case, &parsed, &linux)?;
        self.compare_others(&parsed, &heard)?;
        assert_nothing_slips_through(&frames, &linux, &behind, &decided)
    }

    /// What Linux takes for something, the parser takes for the same, or refuses for a reason of the table.
    fn compare(&mut self, case: &Case, parsed: &[Parsed], linux: &[View]) -> Result<(), TestCaseError> {
        for view in linux {
            let same = parsed.iter().any(|parsed| of(parsed) == Some(*view));
            prop_assert!(
                same || self.is_stricter(parsed),
                "Linux looks for the socket of {:?}, and the parser sees {:?}",
                view,
                parsed
            );
            self.count(case, *view);
        }
        // Of a datagram as its sender made it, each frame must be seen for what it is.
        for parsed in parsed.iter().filter(|_| case.is_untouched() && !linux.is_empty()) {
            let same = of(parsed).is_none_or(|view| linux.contains(&view));
            let refused = parsed.err().is_some_and(|reason| !stricter(reason));
            prop_assert!(
                same && !refused,
                "Linux takes it for {:?}, and the parser sees {:?}",
                linux,
                parsed
            );
        }
        Ok(())
    }

    /// The same for protocols without ports.
    fn compare_others(&mut self, parsed: &[Parsed], heard: &[Heard]) -> Result<(), TestCaseError> {
        for one in heard {
            let same = parsed.iter().any(|parsed| other(parsed) == Some(*one));
            prop_assert!(
                same || self.is_stricter(parsed),
                "Linux takes it for {:?}, and the parser sees {:?}",
                one,
                parsed
            );
            *self.taken.entry("other").or_default() += 1;
        }
        Ok(())
    }

    fn is_stricter(&mut self, parsed: &[Parsed]) -> bool {
        let refused = parsed.iter().filter_map(|parsed| parsed.err()).find(|reason| stricter(*reason));
        self.stricter.extend(refused);
        refused.is_some()
    }

    fn count(&mut self, case: &Case, view: View) {
        let kinds = [
            ("fragmented", case.is_fragmented()),
            ("IPv4", view.source.is_ipv4()),
            ("IPv6", view.source.is_ipv6()),
            ("mutated", !case.mutations.is_empty()),
            ("plaintext", is_plaintext(&view)),
            ("tagged", !case.tags.is_empty()),
            ("TCP", view.is_tcp()),
            ("truncated", case.cut.is_some()),
            ("UDP", !view.is_tcp()),
        ];
        for (kind, _) in kinds.iter().filter(|(_, is)| *is) {
            *self.taken.entry(kind).or_default() += 1;
        }
    }
}

fn stricter(reason: Reason) -> bool {
    STRICTER.iter().any(|(stricter, _)| *stricter == reason)
}

type Parsed = Result<Frame, Reason>;

/// A protocol without ports, as raw sockets tell it.
fn other(parsed: &Parsed) -> Option<Heard> {
    let Ok(Frame::Ip(packet)) = parsed else { return None };
    let protocol = match packet.transport {
        Transport::NeighbourDiscovery => raw::ICMPV6,
        Transport::Other { protocol } => protocol,
        _ => return None,
    };
    Some(Heard { ipv6: matches!(packet.source, Address::V6(_)), protocol })
}

fn of(parsed: &Parsed) -> Option<View> {
    match parsed {
        Ok(Frame::Ip(packet)) => View::of(packet),
        _ => None,
    }
}

fn is_plaintext(view: &View) -> bool {
    view.is_tcp() && PLAINTEXT.contains(&view.destination.port())
}

/// Promise P1, and the filter's verdicts: behind it is what it let through, and nothing else.
fn assert_nothing_slips_through(
    frames: &[Vec<u8>],
    linux: &[View],
    behind: &[View],
    decided: &[Reason],
) -> Result<(), TestCaseError> {
    let passed = |reason: &Reason| reason.verdict() == Verdict::Pass;
    let let_through: Vec<_> = frames
        .iter()
        .zip(decided)
        .filter(|(_, reason)| passed(reason))
        .filter_map(|(frame, _)| of(&packet::parse(Cursor::new(frame))))
        .collect();
    for view in behind {
        prop_assert!(!is_plaintext(view), "{:?} reached the host", view);
        prop_assert!(let_through.contains(view), "{:?} reached the host, decided {:?}", view, decided);
    }
    if decided.iter().all(passed) {
        prop_assert_eq!(behind, linux, "all of it passed");
    }
    Ok(())
}

#[test]
fn linux_and_the_filter_see_the_same_in_generated_packets_and_nothing_gets_around_a_plaintext_port() {
    if !privilege::kernel_usable("generated packets beside Linux's own view") {
        return;
    }
    // One CPU, so that a wire keeps its order.
    tests::system::stay_on_this_cpu().unwrap();
    let laboratory = RefCell::new(Laboratory::new().unwrap());
    let cases = effort::cases(CASES, LONG);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4_096, ..Config::default() };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let outcome = TestRunner::new_with_rng(config, random)
        .run(&generate::cases(), |case| laboratory.borrow_mut().check(&case));
    if let Err(failure) = outcome {
        panic!("seed {SEED:?}: {failure}");
    }

    let Laboratory { stricter, taken, .. } = laboratory.into_inner();
    println!("of {cases} cases, Linux took {taken:?}");
    for kind in KINDS {
        let count = taken.get(kind).copied().unwrap_or(0);
        assert!(count >= cases / 200, "{count} cases that are {kind}: the test shows little");
    }
    for (reason, why) in STRICTER {
        assert!(stricter.contains(&reason), "{}: not seen, {why}", reason.name());
    }
}
