//! The filter: one table of packets, run on the host and through the real object in the kernel.

pub mod packets;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use auth_agent::clock::Monotonic;
use auth_agent::config::{ByteRate, HttpLimit, Kernel, Limits, Rate, SourceLimits, XdpMode};
use auth_agent::edge::{Action, Class, Rule};
use auth_agent::kernel::Budgets;
use auth_common::gcra;
use auth_common::verdict::Reason;
use auth_common::word::Word;
use tests::frames::{ACK, Ip, SYN, tcp};
use tests::host::HostMaps;
use tests::kernel::FilterUnderTest;
use tests::privilege;

use packets::{Debt, Row};

type Line = auth_common::table::Line<AtomicU64>;

/// What an event costs: budgets refill so slowly that no test can see it, on the busiest machine.
const HOUR: Duration = Duration::from_secs(3_600);
const PACKETS: u32 = 1_000;
const CONNECTIONS: u32 = 3;
const HTTP: u32 = 5;
const BYTES: u64 = 1 << 20;
const SITE: u32 = 2;
pub const RESETS: u32 = 4;
const STRANGERS: u32 = 8;
pub const HTTPS: u16 = 8_443;

fn rate(events: u32) -> Rate {
    let events = NonZeroU32::new(events).unwrap();
    Rate { burst: events, events, period: HOUR * events.get() }
}

pub fn limits() -> Limits {
    let drop_after = NonZeroU32::new(HTTP).unwrap();
    let http = HttpLimit { drop_after, drop_for: HOUR, rate: rate(HTTP) };
    Limits {
        breaker: rate(STRANGERS),
        enumeration: None,
        credential_failures: Limits::default().credential_failures,
        resets: rate(RESETS),
        site_factor: NonZeroU32::new(SITE).unwrap(),
        source: SourceLimits {
            auth_failures: http,
            bytes: ByteRate { burst: BYTES, per_second: 1 },
            connections: rate(CONNECTIONS),
            packets: rate(PACKETS),
            requests: http,
        },
    }
}

pub fn kernel() -> Kernel {
    Kernel {
        mode: XdpMode::Generic,
        plaintext_ports: vec![80, 8_080],
        sources: NonZeroU32::new(8_192).unwrap(),
        ..Kernel::default()
    }
}

fn rule(network: &str, action: Action) -> Rule {
    Rule { action, network: network.parse().unwrap() }
}

/// A class whose sources have so many times half of what others have.
pub fn class(name: &str, halves: u32) -> Action {
    let times = |number: u32| NonZeroU32::new(number * halves / 2).unwrap();
    let SourceLimits { auth_failures, bytes, connections, packets, requests } = limits().source;
    let rate = |rate: Rate| Rate { burst: times(rate.burst.get()), ..rate };
    let http = |http: HttpLimit| HttpLimit {
        drop_after: times(http.drop_after.get()),
        rate: rate(http.rate),
        ..http
    };
    let limits = SourceLimits {
        auth_failures: http(auth_failures),
        bytes,
        connections: rate(connections),
        packets: rate(packets),
        requests: http(requests),
    };
    Action::Limit(Arc::new(Class { limits, name: name.to_owned() }))
}

pub fn rules() -> Vec<Rule> {
    let ban = || Action::Ban { until: None };
    vec![
        rule("198.51.100.0/24", ban()),
        rule("198.51.100.7/32", Action::Allow),
        rule("203.0.113.0/24", Action::Allow),
        rule("2001:db8:bad::/48", ban()),
        rule("2001:db8:1::bad/128", ban()),
        rule("2001:db8:900d::/48", Action::Allow),
        // More than others, and in a part of it less.
        rule("192.0.3.0/24", class("more", 4)),
        rule("192.0.3.128/25", class("less", 1)),
        rule("192.0.3.77/32", Action::Ban { until: Some(auth_agent::clock::UnixTime(1)) }),
        rule("2001:db8:c1a5::/48", class("more", 4)),
        rule("2001:db8:c1a5:1::/64", class("less", 1)),
        rule("2001:db8:c1a5:2::bad/128", ban()),
    ]
}

/// Events that bring a debt to where the kernel drops.
fn owe(debt: Debt) -> (usize, usize) {
    let beyond = 2 * HTTP as usize;
    match debt {
        Debt::AuthFailures => (0, beyond),
        Debt::Known | Debt::None => (0, 0),
        Debt::Requests => (beyond, 0),
    }
}

fn charge(line: &Line, budgets: &Budgets, debt: Debt, now: Monotonic) {
    if let Debt::Known = debt {
        line.known_until.write(now.0 + u64::from(u32::MAX));
    }
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
    let mut maps = HostMaps::new(&kernel(), &limits(), &[HTTPS], &rules()).unwrap();
    maps.revoke(&packets::revoked(), Monotonic(maps.now.0 + 1));
    let budgets = Budgets::from(&limits());
    for row in packets::table() {
        maps.line(source(&row), |line| charge(line, &budgets, row.debt, maps.now));
        for _ in 1..row.times {
            maps.run(&row.frame);
        }
        assert_eq!(maps.run(&row.frame).name(), row.reason.name(), "{}", row.what);
    }
}

/// The table's packets all come by one interface, as they do in a test run in the kernel; of two, `shared.rs` has a wire.
#[test]
fn the_breaker_of_one_interface_is_nothing_to_strangers_at_another() {
    let mut maps = HostMaps::new(&kernel(), &limits(), &[HTTPS], &[]).unwrap();
    let open = |maps: &HostMaps, last: u8| {
        maps.run(&Ip::new(&format!("192.0.2.{last}"), "10.0.0.1", 6, tcp(40_000, HTTPS, SYN)).frame()).name()
    };
    let strangers = STRANGERS as u8;
    for last in 0..strangers {
        assert_eq!(open(&maps, last), "within-budget");
    }
    let table =
        [(1, "breaker"), (2, "within-budget"), (1, "breaker"), (257, "breaker"), (300, "within-budget")];
    for (last, (interface, expected)) in (strangers..).zip(table) {
        maps.interface = interface;
        assert_eq!(open(&maps, last), expected, "{interface}");
    }
}

#[test]
fn every_packet_of_the_table_gets_the_same_verdict_in_the_kernel() {
    if !privilege::kernel_usable("packet table in the kernel") {
        return;
    }
    let mut filter = FilterUnderTest::start(kernel(), &limits(), &[HTTPS], &rules()).unwrap();
    filter.filter.revoke_flows(&packets::revoked(), Monotonic(u64::MAX)).unwrap();
    for row in packets::table() {
        // The kernel's test run refuses frames without a whole Ethernet header; so does every driver.
        if row.reason == Reason::EthernetTruncated {
            continue;
        }
        filter.filter.sources().charge(source(&row), Monotonic::now(), |line| {
            charge(line, &filter.filter.budgets(), row.debt, Monotonic::now());
        });
        // In one go: budgets refill, if slowly.
        if row.times > 1 {
            filter.verdict(&row.frame, row.times - 1).unwrap();
        }
        let reason = filter.run(&row.frame).unwrap_or_else(|error| panic!("{}: {error}", row.what));
        assert_eq!(reason.name(), row.reason.name(), "{}", row.what);
    }
}

/// Kernels of other versions look at more of the program than this one: room is needed below their limit of a
/// million.
#[test]
fn the_verifier_needs_less_than_half_of_what_it_may() {
    if !privilege::kernel_usable("the verifier's count") {
        return;
    }
    let filter = FilterUnderTest::start(kernel(), &limits(), &[], &[]).unwrap();
    let (instructions, verified) = filter.instructions().unwrap();
    println!("{instructions} instructions, {verified} verified");
    assert!(verified < 500_000, "{verified} verified");
}

/// Packets of one source on every CPU at once, while the agent charges its requests and those of so many
/// others that groups fill up: what is admitted is one budget, and where the source has no line of its own,
/// what its group's shared line had left.
#[test]
fn kernel_and_agent_together_admit_no_more_than_the_budgets() {
    const ROUNDS: u8 = 24;
    const TURNS: u32 = 400;
    if !privilege::kernel_usable("kernel and agent on the same lines") {
        return;
    }
    let filter = FilterUnderTest::start(kernel(), &limits(), &[HTTPS], &[]).unwrap();
    let mut programs: Vec<_> = (0..2).map(|_| filter.another_program().unwrap()).collect();
    let (sources, budgets) = (filter.filter.sources(), filter.filter.budgets());
    let (limit, escalation) = budgets.requests;
    let request = |source| {
        let now = Monotonic::now();
        let charge = |line: &Line| gcra::charge_escalating(&line.requests, now.0, limit, escalation);
        sources.charge(source, now, charge) == gcra::Charge::Within
    };
    for round in 0..ROUNDS {
        let text = format!("192.0.2.{round}");
        let (text, source) = (text.as_str(), text.parse().unwrap());
        let frame = Ip::new(text, "10.0.0.1", 6, tcp(40_000, 9_000, ACK)).frame();
        let within = |filter: &FilterUnderTest| filter.counts().unwrap()[&(Reason::WithinBudget as usize)];
        let before = within(&filter);
        let requests: u32 = thread::scope(|scope| {
            for program in &mut programs {
                let frame = &frame;
                scope.spawn(move || program.run(frame, 2 * PACKETS).unwrap());
            }
            let agents: Vec<_> = (0..2_u32)
                .map(|agent| {
                    scope.spawn(move || {
                        let others = (u32::from(round) * 2 + agent) * TURNS;
                        let others =
                            (others..others + TURNS).map(|number| Ipv4Addr::from_bits(10 << 24 | number));
                        others
                            .map(|other| {
                                request(other.into());
                                u32::from(request(source))
                            })
                            .sum::<u32>()
                    })
                })
                .collect();
            agents.into_iter().map(|agent| agent.join().unwrap()).sum()
        });
        let packets = within(&filter) - before;
        let shared = sources.peek(source, |_, shared| shared);
        let (packets_allowed, requests_allowed) = match shared {
            false => (u64::from(PACKETS)..=u64::from(PACKETS), HTTP..=HTTP),
            true => (0..=u64::from(PACKETS), 0..=HTTP),
        };
        assert!(packets_allowed.contains(&packets), "{packets} packets in round {round}, shared: {shared}");
        assert!(
            requests_allowed.contains(&requests),
            "{requests} requests in round {round}, shared: {shared}"
        );
    }
}

#[test]
fn the_table_has_a_row_for_every_reason() {
    let table = packets::table();
    for reason in Reason::ALL {
        let elsewhere = match reason {
            // Can't be brought about: it stands for a map that does not answer.
            Reason::Internal => true,
            // What is not the default: `heartbeat.rs`, `reset.rs`.
            Reason::AgentGone | Reason::PlaintextReset => true,
            _ => false,
        };
        if !elsewhere {
            assert!(table.iter().any(|row| row.reason == reason), "no row for {}", reason.name());
        }
    }
}
