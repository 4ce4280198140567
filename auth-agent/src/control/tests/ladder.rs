use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::super::testing::{Desk, used_by};
use super::super::*;
use crate::clock::Monotonic;
use crate::identity::Method;
use crate::ladder::Offence;
use crate::store::Sentence;

fn sentence(network: &str) -> Sentence {
    Sentence { network: network.parse().unwrap(), offence: "forged" }
}

fn punish(desk: &Desk, networks: &[&str]) -> Result<Vec<IpNet>, Problem> {
    let sentences: Vec<_> = networks.iter().map(|network| sentence(network)).collect();
    desk.control.punish(&sentences, &[], &desk.control.ladder.terms(), UnixTime::now())
}

fn banned(desk: &Desk) -> Vec<String> {
    let rules = desk.edge.told();
    let bans = rules.iter().filter(|rule| matches!(rule.action, Action::Ban { .. }));
    bans.map(|rule| rule.network.to_string()).collect()
}

#[test]
fn who_goes_on_is_banned_in_the_kernel_loses_its_connections_and_is_listed_with_its_offence() {
    let desk = Desk::open(&[]);
    let enter = |peer: [u8; 4]| {
        desk.connections.enter("10.0.0.1:443".parse().unwrap(), SocketAddr::from((peer, 1)), UnixTime::now())
    };
    let (offender, innocent) = (enter([203, 0, 113, 9]), enter([203, 0, 113, 10]));
    let told = punish(&desk, &["203.0.113.9/32", "2001:db8::/64"]).unwrap();
    assert_eq!(told, ["203.0.113.9/32", "2001:db8::/64"].map(|network| network.parse().unwrap()));
    assert_eq!(banned(&desk), ["203.0.113.9/32", "2001:db8::/64"]);
    assert_eq!((offender.connection().is_ended(), innocent.connection().is_ended()), (true, false));
    desk.ask("POST", "/v1/bans", r#"{"network": "203.0.113.77"}"#);
    let (_, list) = desk.ask("GET", "/v1/bans", "");
    let listed: Vec<_> =
        list["bans"].as_array().unwrap().iter().map(|ban| ban["automatic"].to_string()).collect();
    let automatic = r#"{"offence":"forged","times":1}"#;
    assert_eq!(listed, [automatic, "null", automatic]);
    let (_, status) = desk.ask("GET", "/v1/status", "");
    assert_eq!((&status["ladder"]["banned"], &status["rules"]["banned"]), (&2.into(), &3.into()), "{status}");

    let (status, _) = desk.ask("DELETE", "/v1/bans/203.0.113.9%2F32", "");
    assert_eq!((status, banned(&desk).len()), (200, 2));
    assert_eq!(desk.store.times_banned(sentence("203.0.113.9/32").network, UnixTime::now()).unwrap(), 0);
}

#[test]
fn nobody_on_the_allowlist_is_banned_and_nobody_by_an_agent_that_was_replaced() {
    let desk = Desk::open(&[]);
    punish(&desk, &["198.51.100.9/32"]).unwrap();
    assert!(desk.store.bans(UnixTime::now()).unwrap().is_empty());
    drop(desk.control.hold().unwrap());
    punish(&desk, &["203.0.113.8/32"]).unwrap();
    let _ = desk.control.hold().unwrap().give_up();
    punish(&desk, &["203.0.113.9/32"]).unwrap();
    assert_eq!(banned(&desk), ["203.0.113.8/32"]);
}

#[test]
fn a_ban_that_the_kernel_refuses_is_stored_and_made_later() {
    let desk = Desk::open(&[]);
    *desk.edge.broken.lock().unwrap() = true;
    assert!(matches!(punish(&desk, &["203.0.113.9/32"]), Err(Problem::RulesPending(_))));
    *desk.edge.broken.lock().unwrap() = false;
    desk.control.upkeep(UnixTime::now()).unwrap();
    assert_eq!(banned(&desk), ["203.0.113.9/32"]);
}

#[test]
fn a_ban_that_holds_is_told_of_and_one_that_the_kernel_refused_is_once_it_does() {
    let desk = Desk::open(&[]);
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
    *desk.edge.broken.lock().unwrap() = true;
    for _ in 0..2 {
        punish(&desk, &["203.0.113.9/32"]).unwrap_err();
    }
    *desk.edge.broken.lock().unwrap() = false;
    let now_and_before = ["203.0.113.10/32", "203.0.113.9/32"];
    assert_eq!(punish(&desk, &["203.0.113.9/32", "203.0.113.10/32"]).unwrap(), nets(&now_and_before));
    assert_eq!(punish(&desk, &["203.0.113.9/32", "198.51.100.9/32"]).unwrap(), nets(&["203.0.113.9/32"]));
    // It is one ban, however often it was tried.
    assert_eq!(desk.store.times_banned(sentence("203.0.113.9/32").network, UnixTime::now()).unwrap(), 1);
}

#[test]
fn nobody_loses_a_connection_whom_no_ban_was_made_for() {
    let desk = Desk::open(&[]);
    let enter = |peer: [u8; 4]| {
        desk.connections.enter("10.0.0.1:443".parse().unwrap(), SocketAddr::from((peer, 1)), UnixTime::now())
    };
    // Whose ban an operator lifts, as long as that waits to be confirmed; who is on the allowlist; whom a ban stands for.
    desk.ask("POST", "/v1/bans", r#"{"network": "203.0.113.9"}"#);
    desk.ask("DELETE", "/v1/bans/203.0.113.9%2F32?confirm_within_seconds=600", "");
    desk.ask("POST", "/v1/bans", r#"{"network": "203.0.113.10"}"#);
    let sources = [[203, 0, 113, 9], [203, 0, 113, 10], [198, 51, 100, 9], [203, 0, 113, 11]];
    let networks = sources.map(|source| format!("{}/32", std::net::Ipv4Addr::from(source)));
    let networks = networks.each_ref().map(String::as_str);
    let entries = sources.map(enter);
    let ended = || entries.each_ref().map(|entry| entry.connection().is_ended());
    punish(&desk, &networks[..3]).unwrap();
    assert_eq!(ended(), [false; 4]);
    // Nor where nothing could be stored.
    let store = rusqlite::Connection::open(desk.directory.path().join("store/auth-agent.db")).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON bans BEGIN SELECT RAISE(ABORT, 'full'); END";
    store.execute_batch(full).unwrap();
    punish(&desk, &networks).unwrap_err();
    assert_eq!(ended(), [false; 4]);
}

#[test]
fn bans_are_forgotten_only_by_a_clock_that_was_steady_and_hold_again_if_it_goes_back() {
    let desk = Desk::open(&[]);
    let now = UnixTime::now();
    let network = sentence("203.0.113.9/32").network;
    punish(&desk, &["203.0.113.9/32"]).unwrap();
    let in_days = |days: u64| UnixTime(now.0 + days * 24 * 60 * 60);
    let tidy = |seconds, now| {
        desk.control.tidy_bans(Duration::from_secs(seconds), now).unwrap();
        desk.control.upkeep(now).unwrap();
        banned(&desk).len()
    };
    // The clock says that it is over, and lifts it.
    assert_eq!(tidy(0, in_days(30)), 0);
    assert!(!desk.control.bans.contains(network.addr()));
    assert_eq!(tidy(3_599, in_days(30)), 0);
    // It was wrong.
    assert_eq!(tidy(0, now), 1);
    assert!(desk.control.bans.contains(network.addr()));
    assert_eq!(desk.store.times_banned(network, now).unwrap(), 1);
    // It was right.
    assert_eq!((tidy(3_600, in_days(30)), tidy(0, now)), (0, 0));
    assert_eq!(desk.store.times_banned(network, now).unwrap(), 0);
}

#[test]
fn a_ban_that_is_over_is_lifted_at_once() {
    let desk = Desk::open(&[]);
    punish(&desk, &["203.0.113.9/32"]).unwrap();
    let network = sentence("203.0.113.9/32").network;
    let until = desk.store.bans(UnixTime::now()).unwrap()[0].until.unwrap();
    for (now, left) in [(UnixTime(until.0 - 1), 1), (until, 0)] {
        desk.control.upkeep(now).unwrap();
        assert_eq!((banned(&desk).len(), desk.control.bans.contains(network.addr())), (left, left == 1));
    }
}

#[test]
fn a_connection_is_ended_for_its_user_and_no_other_and_the_kernel_drops_what_still_comes() {
    let desk = Desk::open(&[]);
    let [one, other] = [1, 2].map(|port| {
        let peer = SocketAddr::from(([203, 0, 113, 9], port));
        desk.connections.enter("10.0.0.1:443".parse().unwrap(), peer, UnixTime::now())
    });
    let _request = used_by(&one, Method::Jwt, "mallory");
    desk.control.end_offending(&BTreeSet::from([one.connection().id, 99]));
    assert_eq!((one.connection().is_ended(), other.connection().is_ended()), (true, false));
    let flows: Vec<_> = desk.edge.flows.lock().unwrap().iter().map(|(flow, _)| flow.peer.port()).collect();
    assert_eq!(flows, [1]);
    let changes = desk.store.changes(0, 9).unwrap();
    let change = changes.last().unwrap();
    assert_eq!(
        (&*change.kind, &change.payload["connections"][0]["subject"]),
        ("connection.end", &"mallory".into())
    );
}

#[test]
fn offenders_are_listed_with_what_they_owe_and_how_often_they_were_banned() {
    let desk = Desk::open(&[]);
    let source = "203.0.113.9".parse().unwrap();
    let key = 0xffff_ffff_cb00_7109;
    punish(&desk, &["203.0.113.9/32"]).unwrap();
    desk.control.ladder.charge(source, key, Offence::Forged, false, Monotonic::now());
    let (_, list) = desk.ask("GET", "/v1/offenders", "");
    let [offender] = &list["offenders"].as_array().unwrap()[..] else { panic!("{list}") };
    let (network, times) = (offender["network"].as_str(), offender["banned_times"].as_u64());
    assert_eq!((network, times, list["banned_at"].as_u64()), (Some("203.0.113.9/32"), Some(1), Some(500)));
    assert_eq!((offender["points"].as_u64(), offender["offence"].as_str()), (Some(5), Some("forged")));
}
