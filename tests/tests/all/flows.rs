//! Connections that are ended, and their flows, which the kernel drops (issue: revoked flows; promises P8 to P10).

use std::mem::offset_of;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use auth_agent::clock::Monotonic;
use auth_agent::edge::{Edge, Flow, FlowsStatus};
use auth_common::layout::{self, MAX_FLOWS, Policy};
use auth_common::verdict::Reason;
use aya::maps::{Array, Map, MapData};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tests::client::{Client, Session, inside};
use tests::frames::{ACK, Ip, SYN, tcp};
use tests::host::HostMaps;
use tests::kernel::FilterUnderTest;
use tests::privilege;
use tests::stage::Stage;
use tokio::time::timeout;

use super::filter::{HTTPS, kernel, limits};

const HOUR: u64 = 3_600_000_000_000;
/// Far above what anything here takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// IPv4 and IPv6: source, destination.
const ENDS: [[&str; 2]; 2] = [["192.0.2.1", "10.0.0.1"], ["2001:db8::1", "fd00::1"]];

fn frame([source, destination]: [&str; 2], flags: u8) -> Vec<u8> {
    Ip::new(source, destination, 6, tcp(40_000, HTTPS, flags)).frame()
}

fn flow([source, destination]: [&str; 2]) -> Flow {
    let end = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
    Flow { local: end(destination, HTTPS), peer: end(source, 40_000) }
}

fn later(nanoseconds: u64) -> Monotonic {
    Monotonic(Monotonic::now().0 + nanoseconds)
}

fn filter() -> FilterUnderTest {
    FilterUnderTest::start(kernel(), &limits(), &[HTTPS], &[]).unwrap()
}

#[test]
fn a_flow_is_dropped_until_its_deadline_and_passes_from_then_on() {
    let mut maps = HostMaps::new(&kernel(), &limits(), &[HTTPS], &[]).unwrap();
    let start = maps.now.0;
    maps.revoke(&[flow(ENDS[0])], Monotonic(start + 100));
    maps.revoke(&[flow(ENDS[1])], Monotonic(start + 200));
    for (time, reasons) in [
        (0, [Reason::RevokedFlow; 2]),
        (99, [Reason::RevokedFlow; 2]),
        (100, [Reason::WithinBudget, Reason::RevokedFlow]),
        (199, [Reason::WithinBudget, Reason::RevokedFlow]),
        (200, [Reason::WithinBudget; 2]),
    ] {
        maps.now = Monotonic(start + time);
        assert_eq!(ENDS.map(|ends| maps.run(&frame(ends, ACK))), reasons, "{time}");
    }
}

#[test]
fn a_flow_is_dropped_in_the_kernel_until_its_deadline_and_passes_from_then_on() {
    if !privilege::kernel_usable("the deadline of a flow") {
        return;
    }
    let mut filter = filter();
    for ends in ENDS {
        assert_eq!(filter.run(&frame(ends, ACK)).unwrap(), Reason::WithinBudget);
        let until = later(HOUR);
        assert_eq!(filter.filter.revoke_flows(&[flow(ends)], until).unwrap(), 1);
        for flags in [ACK, SYN] {
            assert_eq!(filter.run(&frame(ends, flags)).unwrap(), Reason::RevokedFlow);
        }
        // A sooner end changes nothing.
        assert_eq!(filter.filter.revoke_flows(&[flow(ends)], later(1)).unwrap(), 1);
        assert_eq!(filter.run(&frame(ends, ACK)).unwrap(), Reason::RevokedFlow);
    }
    let short = ["192.0.2.2", "10.0.0.1"];
    let until = later(100_000_000);
    filter.filter.revoke_flows(&[flow(short)], until).unwrap();
    let patience = Instant::now() + PATIENCE;
    while filter.run(&frame(short, ACK)).unwrap() == Reason::RevokedFlow {
        assert!(Instant::now() < patience, "it is dropped beyond its deadline");
    }
    assert!(Monotonic::now() >= until, "it passes before its deadline");
    // The kernel knew by itself; the books follow.
    filter.filter.forget_flows().unwrap();
    let status = filter.filter.status().unwrap().flows;
    assert_eq!(status, FlowsStatus { capacity: MAX_FLOWS.into(), overflowed: 0, revoked: 2 });
}

/// What tells the kernel until when flows are looked up.
fn flows_until(filter: &FilterUnderTest, until: Option<u64>) -> u64 {
    const WORDS: usize = size_of::<Policy>() / 8;
    let data: MapData = filter.map(layout::POLICY).unwrap();
    let mut policy = Array::<_, [u64; WORDS]>::try_from(Map::Array(data)).unwrap();
    let mut words = policy.get(&0, 0).unwrap();
    let word = offset_of!(Policy, flows_until) / 8;
    let before = words[word];
    if let Some(until) = until {
        words[word] = until;
        policy.set(0, words, 0).unwrap();
    }
    before
}

#[test]
fn nothing_is_looked_up_while_no_flow_is_revoked() {
    if !privilege::kernel_usable("a look-up that is saved") {
        return;
    }
    let mut filter = filter();
    let (ends, now) = (ENDS[0], Monotonic::now());
    assert_eq!(flows_until(&filter, None), 0);
    filter.filter.revoke_flows(&[flow(ends)], later(HOUR)).unwrap();
    filter.filter.revoke_flows(&[flow(ENDS[1])], later(HOUR / 2)).unwrap();
    assert_eq!(filter.run(&frame(ends, ACK)).unwrap(), Reason::RevokedFlow);
    // The entry is there, and not seen.
    let until = flows_until(&filter, Some(0));
    assert!((now.0 + HOUR..later(HOUR).0).contains(&until));
    assert_eq!(filter.run(&frame(ends, ACK)).unwrap(), Reason::WithinBudget);
    flows_until(&filter, Some(until));
    assert_eq!(filter.run(&frame(ends, ACK)).unwrap(), Reason::RevokedFlow);
    // A change of rules leaves it alone.
    filter.filter.apply_rules(&[]).unwrap();
    assert_eq!(flows_until(&filter, None), until);
}

#[test]
fn a_full_map_gives_up_what_ends_soonest() {
    if !privilege::kernel_usable("a full map of flows") {
        return;
    }
    let mut filter = filter();
    let local = SocketAddr::new("10.0.0.1".parse().unwrap(), HTTPS);
    let of =
        |number: u32| Flow { local, peer: SocketAddr::from(((10 << 24 | number).to_be_bytes(), 40_000)) };
    let dropped = |filter: &mut FilterUnderTest, number: u32| {
        let source = std::net::Ipv4Addr::from(10 << 24 | number).to_string();
        let reason = filter.run(&frame([&source, "10.0.0.1"], ACK)).unwrap();
        reason == Reason::RevokedFlow
    };
    let (soon, late) = (later(HOUR), later(2 * HOUR));
    filter.filter.revoke_flows(&[of(0)], soon).unwrap();
    let rest: Vec<_> = (1..MAX_FLOWS).map(of).collect();
    assert_eq!(filter.filter.revoke_flows(&rest, late).unwrap(), rest.len());
    assert!(dropped(&mut filter, 0) && dropped(&mut filter, MAX_FLOWS - 1));

    assert_eq!(filter.filter.revoke_flows(&[of(MAX_FLOWS)], late).unwrap(), 1);
    assert!(!dropped(&mut filter, 0) && dropped(&mut filter, MAX_FLOWS));
    assert_eq!(filter.filter.revoke_flows(&[of(0)], soon).unwrap(), 0);
    assert!(!dropped(&mut filter, 0));
    let status = filter.filter.status().unwrap().flows;
    let full = u64::from(MAX_FLOWS);
    assert_eq!(status, FlowsStatus { capacity: full, overflowed: 2, revoked: full });
}

/// Reads on until the response breaks off.
pub async fn breaks_off(body: &mut Incoming) -> bool {
    timeout(PATIENCE, async { while let Some(Ok(_)) = body.frame().await {} }).await.is_ok()
}

pub async fn goes_on(body: &mut Incoming) -> bool {
    for _ in 0..3 {
        if !matches!(timeout(PATIENCE, body.frame()).await, Ok(Some(Ok(_)))) {
            return false;
        }
    }
    true
}

/// A response without end.
pub async fn stream(session: &mut Session, client: &Client, token: &str) -> Incoming {
    let headers = [("authorization", token)];
    session.stream(client, "/stream", &headers).await.unwrap().into_body()
}

/// The one connection from a client.
fn connection(stage: &Stage, client: &Client) -> Value {
    let source = client.source().to_string();
    let list = stage.setup.json(&["connection", "list", "--source", &source]).unwrap();
    let [connection] = list["connections"].as_array().unwrap().as_slice() else { panic!("{list}") };
    connection.clone()
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_ended_connection_is_cut_at_once_and_its_flow_stays_dropped_across_a_restart() {
    if !privilege::kernel_usable("ending connections on the wire") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let token = format!("Bearer {}", stage.setup.issuer.token("alice", "", 600).unwrap());
    let [first, second, third, other] = [3, 4, 5, 6].map(|number| stage.client(number).unwrap());
    let sixth = stage.client6(1, 7).unwrap();
    let ports = inside(&stage.crowd, async || {
        let mut sessions = [
            first.connect().await?,
            second.connect_http2().await?,
            third.connect_http2().await?,
            sixth.connect().await?,
            other.connect_http2().await?,
        ];
        let mut bodies = Vec::new();
        for (session, client) in sessions.iter_mut().zip([&first, &second, &third, &sixth, &other]) {
            bodies.push(stream(session, client, &token).await);
        }
        let [one, two, three, six, others] = bodies.as_mut_slice() else { panic!("five bodies") };
        let seen = [&first, &second, &third, &sixth].map(|client| connection(&stage, client));
        for (seen, protocol) in seen.iter().zip(["http/1.1", "h2", "h2", "http/1.1"]) {
            for (field, value) in [("protocol", protocol), ("subject", "alice"), ("method", "jwt")] {
                assert_eq!(seen[field], value, "{seen}");
            }
            assert_eq!((&seen["requests"], &seen["open_requests"]), (&1.into(), &1.into()), "{seen}");
        }

        // By its source, with its flow; by its number, with its flow; by its number alone.
        let end =
            |arguments: &[&str]| stage.setup.json(&[&["connection", "end"], arguments].concat()).unwrap();
        let ended = end(&["--source", "10.77.0.3", "--drop-for", "1h"]);
        assert_eq!((ended["ended"][0]["id"].clone(), &ended["dropped"]), (seen[0]["id"].clone(), &1.into()));
        assert!(breaks_off(one).await && goes_on(others).await);
        end(&[&seen[1]["id"].to_string(), "--drop-for", "1h"]);
        assert!(breaks_off(two).await && goes_on(others).await);
        end(&[&seen[3]["id"].to_string(), "--drop-for", "1h"]);
        assert!(breaks_off(six).await && goes_on(others).await);
        let ended = end(&[&seen[2]["id"].to_string()]);
        assert_eq!((ended["ended"].as_array().unwrap().len(), &ended["dropped"]), (1, &Value::Null));
        assert!(breaks_off(three).await && goes_on(others).await);
        eventually("the upstream still streams", || stage.upstream.streams() == 1);
        Ok(seen.map(|seen| u16::try_from(seen["source_port"].as_u64().unwrap()).unwrap()))
    })
    .unwrap();

    let knock =
        |stage: &Stage, client: &Client, port| inside(&stage.crowd, async || client.knock(port).await);
    for round in ["before", "after"] {
        for (client, port) in [(&first, ports[0]), (&second, ports[1]), (&sixth, ports[3])] {
            let before = stage.setup.counter("revoked-flow").unwrap();
            assert!(!knock(&stage, client, port).unwrap(), "{round}");
            assert!(stage.setup.counter("revoked-flow").unwrap() > before, "{round}");
            assert!(knock(&stage, client, 0).unwrap(), "another port {round}");
        }
        assert!(knock(&stage, &third, ports[2]).unwrap(), "a flow that was not dropped {round}");
        assert_eq!(stage.setup.json(&["status"]).unwrap()["filter"]["flows"]["revoked"], 3, "{round}");
        if round == "before" {
            stage.kill().unwrap();
            stage.restart().unwrap();
        }
    }
}

#[test]
fn a_ban_cuts_the_live_connections_of_the_banned_but_not_of_the_allowed() {
    if !privilege::kernel_usable("a ban on live connections") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let token = format!("Bearer {}", stage.setup.issuer.token("alice", "", 600).unwrap());
    let [banned, allowed] = [3, 4].map(|number| stage.client(number).unwrap());
    stage.setup.json(&["allow", "add", "10.77.0.4"]).unwrap();
    inside(&stage.crowd, async || {
        let mut sessions = [banned.connect_http2().await?, allowed.connect().await?];
        let [cut, spared] = sessions.each_mut();
        let (mut cut, mut spared) =
            (stream(cut, &banned, &token).await, stream(spared, &allowed, &token).await);
        let ban = stage.setup.json(&["ban", "add", "10.77.0.0/16", "--for", "1h"]).unwrap();
        assert_eq!(ban["ended"], 1, "{ban}");
        assert!(breaks_off(&mut cut).await && goes_on(&mut spared).await);
        eventually("the upstream still streams", || stage.upstream.streams() == 1);
        let status = stage.setup.json(&["status"]).unwrap();
        assert_eq!(status["http"]["closed"]["banned"], 1, "{status}");
        connection(&stage, &allowed);
        Ok(())
    })
    .unwrap();
}
