//! What the rules say is what the kernel does (promise P10).

use std::net::IpAddr;

use auth_agent::clock::UnixTime;
use auth_agent::edge::{Action, Rule};
use auth_common::verdict::Reason;
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tests::frames::{ACK, Ip, tcp};
use tests::kernel::FilterUnderTest;
use tests::{effort, privilege};

use super::filter::{kernel, limits};

/// Few bits, so that rules and addresses meet.
pub fn networks() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0u32..8, 8u8..=32)
            .prop_map(|(bits, length)| IpNet::new(IpAddr::V4((10 << 24 | bits << 16 | bits).into()), length)),
        (0u128..8, 16u8..=128).prop_map(|(bits, length)| {
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

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let action = prop_oneof![
        2 => Just(Action::Ban { until: None }),
        1 => Just(Action::Ban { until: Some(UnixTime(u64::from(u32::MAX))) }),
        1 => Just(Action::Ban { until: Some(UnixTime(1)) }),
        1 => Just(Action::Allow),
    ];
    prop::collection::vec((networks(), action), 0..8)
        .prop_map(|rules| rules.into_iter().map(|(network, action)| Rule { action, network }).collect())
}

fn meant(rules: &[Rule], address: IpAddr) -> Reason {
    let applying = || rules.iter().filter(|rule| rule.network.contains(&address)).map(|rule| rule.action);
    if applying().any(|action| action == Action::Allow) {
        Reason::Allowed
    } else if applying().any(|action| action != Action::Ban { until: Some(UnixTime(1)) }) {
        Reason::Banned
    } else {
        Reason::WithinBudget
    }
}

pub fn frame(address: IpAddr) -> Vec<u8> {
    let here = if address.is_ipv4() { "10.255.0.1" } else { "fd00::1" };
    Ip::new(&address.to_string(), here, 6, tcp(40_000, 9_000, ACK)).frame()
}

/// One filter for all sequences: each starts from whatever the one before left, caches included.
#[test]
fn any_sequence_of_rules_is_enforced_exactly() {
    if !privilege::kernel_usable("rules in the kernel") {
        return;
    }
    let mut limits = limits();
    limits.packets.burst = std::num::NonZeroU32::MAX;
    let filter = std::cell::RefCell::new(FilterUnderTest::start(kernel(), &limits, &[], &[]).unwrap());
    let steps = prop::collection::vec((rules(), prop::collection::vec(addresses(), 1..12)), 1..6);
    let mut runner = TestRunner::new(Config {
        cases: effort::cases(60, 2_000),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&steps, |steps| {
        let mut filter = filter.borrow_mut();
        for (rules, addresses) in steps {
            filter.filter.apply_rules(&rules).unwrap();
            for address in addresses {
                // Twice: looked up, then from the cache.
                for _ in 0..2 {
                    let reason = filter.run(&frame(address)).unwrap();
                    prop_assert_eq!(
                        reason.name(),
                        meant(&rules, address).name(),
                        "{} under {:?}",
                        address,
                        rules
                    );
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
