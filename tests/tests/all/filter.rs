//! The filter: one table of packets, run on the host and through the real object in the kernel.

pub mod packets;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use auth_agent::clock::Monotonic;
use auth_agent::config::{HttpLimit, Kernel, Limits, Rate, XdpMode};
use auth_agent::edge::{Action, Rule};
use auth_agent::kernel::Budgets;
use auth_common::gcra;
use auth_common::verdict::Reason;
use tests::host::HostMaps;
use tests::kernel::FilterUnderTest;
use tests::privilege;

use packets::{Debt, Row};

/// An hour: budgets refill so slowly that no test can see it.
const HOUR: Duration = Duration::from_secs(3_600);
const PACKETS: u32 = 1_000;
const CONNECTIONS: u32 = 3;
const HTTP: u32 = 5;
const HTTPS: u16 = 8_443;

fn rate(events: u32) -> Rate {
    let events = NonZeroU32::new(events).unwrap();
    Rate { burst: events, events, period: HOUR }
}

pub fn limits() -> Limits {
    let drop_after = NonZeroU32::new(HTTP).unwrap();
    let http = HttpLimit { drop_after, drop_for: HOUR, rate: rate(HTTP) };
    Limits { auth_failures: http, connections: rate(CONNECTIONS), packets: rate(PACKETS), requests: http }
}

pub fn kernel() -> Kernel {
    Kernel {
        allow: Vec::new(),
        guarded_ports: vec![22],
        interfaces: Vec::new(),
        ipv6_prefix: 64,
        mode: XdpMode::Generic,
        pin_directory: PathBuf::new(),
        plaintext_ports: vec![80, 8_080],
        sources: NonZeroU32::new(8_192).unwrap(),
    }
}

fn rule(network: &str, action: Action) -> Rule {
    Rule { action, network: network.parse().unwrap() }
}

pub fn rules() -> Vec<Rule> {
    let ban = Action::Ban { until: None };
    vec![
        rule("198.51.100.0/24", ban),
        rule("198.51.100.7/32", Action::Allow),
        rule("203.0.113.0/24", Action::Allow),
        rule("2001:db8:bad::/48", ban),
        rule("2001:db8:1::bad/128", ban),
        rule("2001:db8:900d::/48", Action::Allow),
    ]
}

/// Events that bring a debt to where the kernel drops.
fn owe(debt: Debt) -> (usize, usize) {
    let beyond = 2 * HTTP as usize;
    match debt {
        Debt::AuthFailures => (0, beyond),
        Debt::None => (0, 0),
        Debt::Requests => (beyond, 0),
    }
}

fn charge(
    line: &auth_common::table::Line<std::sync::atomic::AtomicU64>,
    budgets: &Budgets,
    debt: Debt,
    now: Monotonic,
) {
    let (requests, failures) = owe(debt);
    let (limit, escalation) = budgets.requests;
    for _ in 0..requests {
        gcra::charge_escalating(&line.requests, now.0, limit, escalation);
    }
    let (limit, escalation) = budgets.auth_failures;
    for _ in 0..failures {
        gcra::charge_escalating(&line.auth_failures, now.0, limit, escalation);
    }
}

fn source(row: &Row) -> IpAddr {
    row.source.parse().unwrap()
}

#[test]
fn every_packet_of_the_table_gets_its_verdict_on_the_host() {
    let maps = HostMaps::new(&kernel(), &limits(), &[HTTPS], &rules());
    let budgets = Budgets::from(&limits());
    for row in packets::table() {
        maps.line(source(&row), |line| charge(line, &budgets, row.debt, maps.now));
        for _ in 1..row.times {
            maps.run(&row.frame);
        }
        assert_eq!(maps.run(&row.frame).name(), row.reason.name(), "{}", row.what);
    }
}

#[test]
fn every_packet_of_the_table_gets_the_same_verdict_in_the_kernel() {
    if !privilege::kernel_usable("packet table in the kernel") {
        return;
    }
    let mut filter = FilterUnderTest::start(kernel(), &limits(), &[HTTPS], &rules()).unwrap();
    for row in packets::table() {
        // The kernel's test run refuses frames without a whole Ethernet header; so does every driver.
        if row.reason == Reason::EthernetTruncated {
            continue;
        }
        filter.filter.sources().charge(source(&row), Monotonic::now(), |line| {
            charge(line, filter.filter.budgets(), row.debt, Monotonic::now());
        });
        for _ in 1..row.times {
            filter.run(&row.frame).unwrap();
        }
        let reason = filter.run(&row.frame).unwrap_or_else(|error| panic!("{}: {error}", row.what));
        assert_eq!(reason.name(), row.reason.name(), "{}", row.what);
    }
}

#[test]
fn the_table_has_a_row_for_every_reason() {
    let table = packets::table();
    for reason in Reason::ALL {
        // Can't be brought about: it stands for a map that does not answer.
        if reason != Reason::Internal {
            assert!(table.iter().any(|row| row.reason == reason), "no row for {}", reason.name());
        }
    }
}
