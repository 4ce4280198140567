//! What the rules say is what the kernel does (promise P10).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use auth_agent::clock::{Monotonic, UnixTime};
use auth_agent::config::{ByteRate, Limits, SourceLimits};
use auth_agent::edge::{Action, Class, Rule};
use auth_common::verdict::Reason;
use auth_common::word::Word;
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tests::frames::{ACK, Ip, tcp};
use tests::kernel::FilterUnderTest;
use tests::{effort, privilege};

use super::filter::{kernel, limits};

/// Few bits, so that rules and addresses meet.
pub fn networks(v6_length: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0u32..8, 8u8..=32)
            .prop_map(|(bits, length)| IpNet::new(IpAddr::V4((10 << 24 | bits << 16 | bits).into()), length)),
        (0u128..8, v6_length).prop_map(|(bits, length)| {
            IpNet::new(IpAddr::V6((0x2001 << 112 | bits << 80 | bits << 60 | bits).into()), length)
        }),
    ]
    .prop_map(|network| network.unwrap().trunc())
}

pub fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u32..8, 0u32..8).prop_map(|(high, low)| IpAddr::V4((10 << 24 | high << 16 | low).into())),
        (0u128..8, 0u128..8, 0u128..8).prop_map(|(high, middle, low)| {
            IpAddr::V6((0x2001 << 112 | high << 80 | middle << 60 | low).into())
        }),
    ]
}

/// Everyone may do more than the test does.
fn generous() -> Limits {
    let Limits { source, .. } = limits();
    let bytes = ByteRate { burst: 1 << 30, per_second: 1 };
    let packets = auth_agent::config::Rate { burst: NonZeroU32::MAX, ..source.packets };
    Limits { source: SourceLimits { bytes, packets, ..source }, ..limits() }
}

/// Limits under which the test's packets, whose sources owe an hour, are dropped for `reason`, or not at all. The
/// number makes more classes of them.
fn class(reason: Reason, number: u16) -> Action {
    let mut limits = generous().source;
    match reason {
        Reason::ByteBudget => limits.bytes.burst = 1,
        Reason::PacketBudget => limits.packets.burst = NonZeroU32::MIN,
        _ => {}
    }
    limits.connections.burst = limits.connections.burst.saturating_add(number.into());
    Action::Limit(Arc::new(Class { limits, name: reason.name().to_owned() }))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let action = prop_oneof![
        2 => Just(Action::Ban { until: None }),
        1 => Just(Action::Ban { until: Some(UnixTime(u64::from(u32::MAX))) }),
        1 => Just(Action::Ban { until: Some(UnixTime(1)) }),
        1 => Just(Action::Allow),
    ];
    let reason =
        prop_oneof![Just(Reason::ByteBudget), Just(Reason::PacketBudget), Just(Reason::WithinBudget)];
    let class = (reason, 0u16..4).prop_map(|(reason, number)| class(reason, number));
    let limited = prop::collection::vec((networks(16..=64), class), 0..6).prop_map(|mut limited| {
        let mut taken = BTreeSet::new();
        limited.retain(|(network, _)| taken.insert(*network));
        limited
    });
    (prop::collection::vec((networks(16..=128), action), 0..6), limited).prop_map(|(judged, limited)| {
        let rules = judged.into_iter().chain(limited);
        rules.map(|(network, action)| Rule { action, network }).collect()
    })
}

fn meant(rules: &[Rule], address: IpAddr) -> &str {
    let applying = || rules.iter().filter(|rule| rule.network.contains(&address));
    let bans = |rule: &Rule| matches!(rule.action, Action::Ban { until } if until != Some(UnixTime(1)));
    if applying().any(|rule| rule.action == Action::Allow) {
        Reason::Allowed.name()
    } else if applying().any(bans) {
        Reason::Banned.name()
    } else {
        let limited = applying().filter(|rule| rule.class().is_some());
        let longest = limited.max_by_key(|rule| rule.network.prefix_len());
        longest.and_then(Rule::class).map_or(Reason::WithinBudget.name(), |class| &class.name)
    }
}

/// Two blocks of bytes.
pub fn frame(address: IpAddr) -> Vec<u8> {
    let here = if address.is_ipv4() { "10.255.0.1" } else { "fd00::1" };
    let payload = [tcp(40_000, 9_000, ACK), vec![0; 40]].concat();
    Ip::new(&address.to_string(), here, 6, payload).frame()
}

/// One filter for all sequences: each starts from whatever the one before left, caches included; some of its steps
/// begin with another agent.
#[test]
fn any_sequence_of_rules_is_enforced_exactly() {
    const HOUR: u64 = 3_600_000_000_000;
    if !privilege::kernel_usable("rules in the kernel") {
        return;
    }
    let limits = generous();
    let filter = FilterUnderTest::start(kernel(), &limits, &[], &[]).unwrap();
    let filter = std::cell::RefCell::new(Some(filter));
    let step = (rules(), prop::collection::vec(addresses(), 1..12), prop::bool::weighted(0.04));
    let steps = prop::collection::vec(step, 1..6);
    let config = Config { cases: effort::cases(60, 2_000), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&steps, |steps| {
        let mut slot = filter.borrow_mut();
        for (rules, addresses, restarts) in steps {
            if restarts {
                let restarted = slot.take().unwrap().restart(kernel(), &limits, &[], &rules).unwrap();
                *slot = Some(restarted);
            }
            let filter = slot.as_mut().unwrap();
            filter.filter.apply_rules(&rules).unwrap();
            for address in addresses {
                let now = Monotonic::now();
                filter.filter.sources().charge(address, now, |line| line.packets.write(now.0 + HOUR));
                // Twice: looked up, then from the cache.
                for _ in 0..2 {
                    let reason = filter.run(&frame(address)).unwrap();
                    let meant = meant(&rules, address);
                    prop_assert_eq!(reason.name(), meant, "{} under {:?}", address, rules);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
