//! Budgets are exact when one source is on every CPU at once (promise P5).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use auth_agent::config::{ByteRate, Limits, Rate, SourceLimits};
use auth_agent::kernel::Budgets;
use auth_common::gcra::Limit;
use auth_common::layout::BYTES_PER_BLOCK;
use auth_common::verdict::Reason;
use tests::frames::{ACK, Ip, SYN, tcp};
use tests::kernel::FilterUnderTest;
use tests::{privilege, system};

use super::filter;

/// Of a kernel with `CONFIG_HZ=100`: the filter's clock may be so late.
const TICK: Duration = Duration::from_millis(10);
const ROUNDS: usize = 10;
const HOUR: Duration = Duration::from_secs(3_600);

/// One budget, and packets that use it up before any other.
struct Row {
    /// What one of the packets costs.
    cost: u64,
    /// The limit, as the kernel has it.
    limit: fn(&Budgets) -> Limit,
    /// The packets of one CPU, sent in turn; each row's are from sources of its own.
    packets: Vec<Vec<u8>>,
    reason: Reason,
    /// Times that each packet is sent, on all CPUs together.
    times: u32,
    what: &'static str,
}

/// So many per `period`, and at once.
fn rate(events: u32, burst: u32, period: Duration) -> Rate {
    let [events, burst] = [events, burst].map(|number| NonZeroU32::new(number).unwrap());
    Rate { burst, events, period }
}

/// Next to nothing comes back while the test runs.
fn slow() -> Limits {
    let source = SourceLimits {
        bytes: ByteRate { burst: 1 << 22, per_second: 1 },
        connections: rate(1_000, 1_000, HOUR),
        packets: rate(5_000, 5_000, HOUR),
        ..filter::limits().source
    };
    Limits { breaker: rate(u32::MAX, u32::MAX, HOUR), source, ..filter::limits() }
}

/// A thousand packets come back per second.
fn quick() -> Limits {
    let source = SourceLimits {
        connections: rate(u32::MAX, u32::MAX, HOUR),
        packets: rate(1_000, 100, Duration::from_secs(1)),
        ..slow().source
    };
    Limits { breaker: rate(2_000, 2_000, HOUR), source, ..slow() }
}

/// Rows, by the limits that they need.
fn rows() -> [(Limits, Vec<Row>); 2] {
    let frame = |source: &str, flags, payload: usize| {
        let here = if source.contains(':') { "fd00::1" } else { "10.0.0.1" };
        let segment = [tcp(40_000, 9_000, flags), vec![0; payload]].concat();
        Ip::new(source, here, 6, segment).frame()
    };
    let large = frame("192.0.2.2", ACK, 1_400);
    let site = (0..8).map(|network| frame(&format!("2001:db8:1:{network}::1"), ACK, 0)).collect();
    let crowd = (0..100).map(|host| frame(&format!("198.51.100.{host}"), SYN, 0)).collect();
    let row = |what, reason, limit, times, packets| Row { cost: 1, limit, packets, reason, times, what };
    let slow_rows = vec![
        row(
            "packets",
            Reason::PacketBudget,
            |budgets| budgets.packets,
            40_000,
            vec![frame("192.0.2.1", ACK, 0)],
        ),
        Row {
            cost: (large.len() as u64).div_ceil(BYTES_PER_BLOCK),
            ..row("bytes", Reason::ByteBudget, |budgets| budgets.bytes, 5_000, vec![large])
        },
        row(
            "connections",
            Reason::ConnectionBudget,
            |budgets| budgets.connections,
            5_000,
            vec![frame("192.0.2.3", SYN, 0)],
        ),
        row("packets of a site", Reason::SiteBudget, |budgets| budgets.class().site_packets, 4_000, site),
    ];
    let quick_rows = vec![
        row(
            "packets, of which many come back",
            Reason::PacketBudget,
            |budgets| budgets.packets,
            1_000_000,
            vec![frame("192.0.2.4", ACK, 0)],
        ),
        row("connections of strangers", Reason::Breaker, |budgets| budgets.breaker, 100, crowd),
    ];
    [(slow(), slow_rows), (quick(), quick_rows)]
}

/// Sends the packets on every CPU at once, and returns how long it took.
fn drive(filter: &FilterUnderTest, row: &Row, cpus: usize, turn: u32) -> Duration {
    let start = Barrier::new(cpus);
    let programs: Vec<_> = (0..cpus).map(|_| filter.another_program().unwrap()).collect();
    let begin = Instant::now();
    thread::scope(|scope| {
        for (cpu, program) in programs.into_iter().enumerate() {
            let start = &start;
            scope.spawn(move || {
                system::stay_on(cpu).unwrap();
                start.wait();
                // A few at a time, so that all CPUs are at it at once.
                for _ in 0..ROUNDS {
                    for packet in &row.packets {
                        program.run(packet, turn).unwrap();
                    }
                }
            });
        }
    });
    begin.elapsed()
}

#[test]
fn a_source_on_every_cpu_at_once_gets_its_budget_and_not_one_packet_more() {
    if !privilege::kernel_usable("budgets on every CPU") {
        return;
    }
    let cpus = thread::available_parallelism().unwrap().get();
    if cpus < 2 {
        eprintln!("skipped: budgets on every CPU: there is but one");
        return;
    }
    for (limits, rows) in rows() {
        let filter = FilterUnderTest::start(filter::kernel(), &limits, &[], &[]).unwrap();
        for row in rows {
            check(&filter, &row, cpus);
        }
    }
}

fn check(filter: &FilterUnderTest, row: &Row, cpus: usize) {
    let turn = row.times / (ROUNDS * cpus) as u32;
    let before = filter.counts().unwrap();
    let elapsed = drive(filter, row, cpus, turn);
    let after = filter.counts().unwrap();
    let counted = |reason: Reason| after[&(reason as usize)] - before[&(reason as usize)];

    let Limit { increment, tolerance } = (row.limit)(&filter.filter.budgets());
    let burst = tolerance / (increment * row.cost);
    let refilled = (elapsed + TICK).as_nanos() as u64 / (increment * row.cost);
    let sent = u64::from(turn) * (ROUNDS * cpus * row.packets.len()) as u64;
    let (admitted, refused) = (counted(Reason::WithinBudget), counted(row.reason));
    println!("{}: {admitted} of {sent}, burst {burst}, at most {refilled} refilled", row.what);
    // Whoever loses the race for a word to the other CPUs again and again is refused for that word's budget, also for one
    // that is asked earlier.
    let total = |counts: &BTreeMap<usize, u64>| counts.values().sum::<u64>();
    let judged = total(&after) - total(&before);
    assert_eq!(judged, sent, "{}: {before:?}, then {after:?}", row.what);
    let lost = judged - admitted - refused;
    assert!(lost <= sent / 100, "{}: {before:?}, then {after:?}", row.what);
    // One more where the burst is no whole number of packets.
    let bounds = burst..=burst + refilled + 1;
    assert!(bounds.contains(&admitted), "{}: {admitted} admitted, not {bounds:?}", row.what);
}
