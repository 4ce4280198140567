//! Budgets are exact when one source is on every CPU at once (promise P5).

use std::num::NonZeroU32;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use auth_agent::config::Limits;
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
const MANY: NonZeroU32 = NonZeroU32::MAX;

/// One budget, and packets that use it up.
struct Row {
    /// What one of the packets costs.
    cost: u64,
    /// The limit, as the kernel has it.
    limit: fn(&Budgets) -> Limit,
    /// What the operator set: everything but this one budget is out of reach.
    limits: Limits,
    /// The packets of one CPU, from these sources in turn.
    packets: Vec<Vec<u8>>,
    reason: Reason,
    /// Times that each packet is sent, on all CPUs together.
    times: u32,
    what: &'static str,
}

/// No budget within reach.
fn without_end() -> Limits {
    let mut limits = filter::limits();
    for rate in [&mut limits.breaker, &mut limits.connections, &mut limits.packets] {
        (rate.burst, rate.events) = (MANY, MANY);
    }
    (limits.bytes.burst, limits.bytes.per_second) = (1 << 40, 1 << 40);
    limits
}

/// So many per hour, and at once: next to nothing comes back while the test runs.
fn few(burst: u32) -> auth_agent::config::Rate {
    let events = NonZeroU32::new(burst).unwrap();
    auth_agent::config::Rate { burst: events, events, period: Duration::from_secs(3_600) }
}

/// A thousand a second: much comes back.
fn quick(burst: u32) -> auth_agent::config::Rate {
    let events = NonZeroU32::new(1_000).unwrap();
    auth_agent::config::Rate { burst: NonZeroU32::new(burst).unwrap(), events, period: Duration::from_secs(1) }
}

fn rows() -> Vec<Row> {
    let frame = |source: &str, flags, payload: usize| {
        let here = if source.contains(':') { "fd00::1" } else { "10.0.0.1" };
        let segment = [tcp(40_000, 9_000, flags), vec![0; payload]].concat();
        Ip::new(source, here, 6, segment).frame()
    };
    let one = |flags, payload| vec![frame("192.0.2.1", flags, payload)];
    let site: Vec<_> = (0..8).map(|network| frame(&format!("2001:db8:1:{network}::1"), ACK, 0)).collect();
    let crowd: Vec<_> = (0..40).map(|host| frame(&format!("192.0.2.{host}"), SYN, 0)).collect();
    let large = one(ACK, 1_400);
    let blocks = (large[0].len() as u64).div_ceil(BYTES_PER_BLOCK);
    let row = |what, reason, limits, limit, packets| Row { cost: 1, limit, limits, packets, reason, times: 40_000, what };
    let mut bytes = without_end();
    (bytes.bytes.burst, bytes.bytes.per_second) = (1 << 22, 1);
    vec![
        row(
            "packets",
            Reason::PacketBudget,
            Limits { packets: few(5_000), ..without_end() },
            |budgets| budgets.packets,
            one(ACK, 0),
        ),
        row(
            "packets, of which many come back",
            Reason::PacketBudget,
            Limits { packets: quick(100), ..without_end() },
            |budgets| budgets.packets,
            one(ACK, 0),
        ),
        Row {
            cost: blocks,
            ..row("bytes", Reason::ByteBudget, bytes, |budgets| budgets.bytes, large)
        },
        row(
            "connections",
            Reason::ConnectionBudget,
            Limits { connections: few(5_000), ..without_end() },
            |budgets| budgets.connections,
            one(SYN, 0),
        ),
        Row {
            times: 2_000,
            ..row(
                "packets of a site",
                Reason::SiteBudget,
                Limits { packets: few(2_000), ..without_end() },
                |budgets| budgets.policy(0).site_packets,
                site,
            )
        },
        Row {
            times: 1_000,
            ..row(
                "connections of strangers",
                Reason::Breaker,
                Limits { breaker: few(5_000), ..without_end() },
                |budgets| budgets.breaker,
                crowd,
            )
        },
    ]
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
    for row in rows() {
        let filter = FilterUnderTest::start(filter::kernel(), &row.limits, &[], &[]).unwrap();
        let turn = row.times / (ROUNDS * cpus) as u32;
        let elapsed = drive(&filter, &row, cpus, turn);
        let Limit { increment, tolerance } = (row.limit)(filter.filter.budgets());
        let burst = tolerance / (increment * row.cost);
        let refilled = (elapsed + TICK).as_nanos() as u64 / (increment * row.cost);
        let counts = filter.counts().unwrap();
        let admitted = counts[&(Reason::WithinBudget as usize)];
        let refused = counts[&(row.reason as usize)];
        let sent = u64::from(turn) * (ROUNDS * cpus * row.packets.len()) as u64;
        println!("{}: {admitted} of {sent}, burst {burst}, at most {refilled} refilled", row.what);
        assert_eq!(admitted + refused, sent, "{}: {counts:?}", row.what);
        // One more where the burst is no whole number of packets.
        let bounds = burst..=burst + refilled + 1;
        assert!(bounds.contains(&admitted), "{}: {admitted} admitted, not {bounds:?}", row.what);
    }
}
