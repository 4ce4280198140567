//! What becomes of packets when the agent is gone.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use auth_agent::config::{Kernel, WhenAgentGone};
use auth_common::layout;
use auth_common::verdict::Reason;
use aya::maps::{Array, Map};
use socket2::{Domain, Socket, Type};
use tests::frames::{ACK, Ip, SYN, tcp};
use tests::host::HostMaps;
use tests::kernel::FilterUnderTest;
use tests::privilege;
use tests::stage::{EDGE, HTTPS, Stage};

use crate::filter::{kernel, limits, rules};

fn passing() -> Kernel {
    let agent_gone_after = Duration::from_secs(3_600);
    Kernel { agent_gone_after, when_agent_gone: WhenAgentGone::Pass, ..kernel() }
}

/// Each with its reason while the agent lives, and when it is gone.
fn frames() -> Vec<(Vec<u8>, Reason, Reason)> {
    let from = |source, port, flags| Ip::new(source, "10.0.0.1", 6, tcp(40_000, port, flags)).frame();
    vec![
        (from("198.51.100.1", HTTPS, ACK), Reason::Banned, Reason::AgentGone),
        (from("192.0.2.1", HTTPS, ACK), Reason::WithinBudget, Reason::AgentGone),
        (from("192.0.2.1", 80, SYN), Reason::PlaintextPort, Reason::PlaintextPort),
        (from("192.0.2.1", 22, SYN), Reason::Guarded, Reason::Guarded),
    ]
}

#[test]
fn without_a_heartbeat_limits_and_bans_are_off_and_plaintext_stays_closed() {
    let mut maps = HostMaps::new(&passing(), &limits(), &[HTTPS], &rules()).unwrap();
    for (frame, alive, _) in frames() {
        assert_eq!(maps.run(&frame).name(), alive.name());
    }
    maps.now.0 += 1;
    for (frame, _, gone) in frames() {
        assert_eq!(maps.run(&frame).name(), gone.name());
    }
}

#[test]
fn nobody_is_missed_where_the_filter_is_to_stay() {
    let mut maps = HostMaps::new(&kernel(), &limits(), &[HTTPS], &rules()).unwrap();
    maps.now.0 += 1 << 60;
    for (frame, alive, _) in frames() {
        assert_eq!(maps.run(&frame).name(), alive.name());
    }
}

#[test]
fn the_kernel_reads_the_heartbeat_of_the_agent() {
    if !privilege::kernel_usable("the heartbeat in the kernel") {
        return;
    }
    let mut filter = FilterUnderTest::start(passing(), &limits(), &[HTTPS], &rules()).unwrap();
    for (frame, alive, _) in frames() {
        assert_eq!(filter.run(&frame).unwrap().name(), alive.name());
    }
    let mut heartbeat: Array<_, u64> =
        Array::try_from(Map::Array(filter.map(layout::HEARTBEAT).unwrap())).unwrap();
    heartbeat.set(0, 1, 0).unwrap();
    for (frame, _, gone) in frames() {
        assert_eq!(filter.run(&frame).unwrap().name(), gone.name());
    }
}

/// Whether the edge host answers the banned client, be it with a refusal.
fn reaches(stage: &Stage) -> bool {
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([10, 77, 0, 2], 0)).into())?;
        let edge = SocketAddr::from((EDGE, HTTPS)).into();
        Ok(socket.connect_timeout(&edge, Duration::from_millis(500)).map_err(|error| error.kind()))
    };
    matches!(stage.crowd.run(connect).unwrap(), Ok(()) | Err(ErrorKind::ConnectionRefused))
}

#[test]
fn an_agent_that_is_killed_is_missed_and_one_that_starts_filters_again() {
    if !privilege::kernel_usable("an agent that is missed") {
        return;
    }
    let mut stage = Stage::without_agent("").unwrap();
    stage.setup.configure_kernel("when_agent_gone = \"pass\"\nagent_gone_after = \"2s\"").unwrap();
    stage.restart().unwrap();
    stage.setup.json(&["ban", "add", "10.77.0.2"]).unwrap();
    assert!(!reaches(&stage), "the source is banned");
    stage.agent.take().unwrap().kill().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reaches(&stage) {
        assert!(Instant::now() < deadline, "the ban outlives the heartbeat");
    }
    stage.restart().unwrap();
    let banned = stage.setup.counter("banned").unwrap();
    assert!(!reaches(&stage), "the source is banned again");
    assert!(stage.setup.counter("banned").unwrap() > banned);
    assert!(stage.setup.counter("agent-gone").unwrap() > 0);
}
