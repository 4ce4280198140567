use std::time::Duration;

use super::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000_000;

/// Ten points, of which one is forgiven each second; 10.0.0.0/8 are proxies.
fn config(more: &str) -> Config {
    let rate = if more.contains("rate") { "" } else { "rate = \"1/s\"" };
    let text = format!(
        "{}\n[proxies]\ntrusted = [\"10.0.0.0/8\"]\n[ladder]\n{rate}\nburst = 10\nknown_factor = 2\n\
         prices = {{ auth_failure = 1, drop = 2, enumeration = 3, forged = 5, limit = 0, plaintext = 4, protocol = 10 }}\n\
         {more}",
        config::tests::MINIMAL
    );
    Config::parse(&text, std::path::Path::new("edge.toml")).unwrap()
}

fn at(milliseconds: u64) -> Monotonic {
    Monotonic(START * SECOND + milliseconds * 1_000_000)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Steps that were taken.
fn taken(steps: &mut mpsc::Receiver<Step>) -> Vec<Step> {
    std::iter::from_fn(|| steps.try_recv().ok()).collect()
}

const ONE: &str = "192.0.2.1";

fn ban(network: &str, offence: Offence) -> Step {
    Step::Ban { key: 1, network: network.parse().unwrap(), offence }
}

#[test]
fn each_offence_has_its_price_and_the_one_too_many_makes_a_ban() {
    for (offence, within) in [
        (Offence::AuthFailure, 10),
        (Offence::Drop, 5),
        (Offence::Enumeration, 3),
        (Offence::Forged, 2),
        (Offence::Plaintext, 2),
        (Offence::Protocol, 1),
    ] {
        let (ladder, mut steps) = Ladder::new(&config(""));
        for _ in 0..within {
            assert!(!ladder.charge(address(ONE), 1, offence, false, at(0)), "{offence:?}");
        }
        assert_eq!(taken(&mut steps), []);
        assert!(ladder.charge(address(ONE), 1, offence, false, at(0)), "{offence:?}");
        assert_eq!(taken(&mut steps), [ban("192.0.2.1/32", offence)]);
    }
}

#[test]
fn a_ban_pays_for_what_led_to_it_once_it_holds_and_not_before() {
    let (ladder, mut steps) = Ladder::new(&config(""));
    let offend = |milliseconds| ladder.charge(address(ONE), 1, Offence::Protocol, false, at(milliseconds));
    assert_eq!([offend(0), offend(0)], [false, true]);
    // It is on its way: what else the source does meanwhile is no reason for another.
    assert!(ladder.is_sentenced(1) && !offend(0) && !offend(500));
    assert_eq!(taken(&mut steps), [ban("192.0.2.1/32", Offence::Protocol)]);
    let owed = |milliseconds| ladder.offenders(at(milliseconds)).first().map_or(0, |found| found.points);
    assert_eq!(owed(500), 10);
    ladder.pay(1, at(600));
    assert_eq!((owed(600), ladder.is_sentenced(1)), (0, false));
    // Nobody pays twice.
    offend(700);
    ladder.pay(1, at(800));
    assert_eq!(owed(800), 10);
}

#[test]
fn a_ban_that_was_not_made_is_made_for_a_later_offence_and_not_asked_for_all_the_time() {
    let (ladder, mut steps) = Ladder::new(&config("rate = \"1/h\"\n"));
    let offend = |milliseconds| ladder.charge(address(ONE), 1, Offence::Protocol, false, at(milliseconds));
    offend(0);
    let again: Vec<_> = (0..30_000).step_by(1_000).filter(|milliseconds| offend(*milliseconds)).collect();
    assert_eq!(again, [0, 10_000, 20_000]);
    assert_eq!(taken(&mut steps).len(), 3);
}

#[test]
fn what_is_forgiven_or_costs_nothing_makes_no_ban() {
    let (ladder, mut steps) = Ladder::new(&config(""));
    for number in 0..100 {
        assert!(!ladder.charge(address(ONE), 1, Offence::AuthFailure, false, at(1_000 * number)));
        assert!(!ladder.charge(address(ONE), 1, Offence::Limit, false, at(1_000 * number)));
    }
    assert_eq!(taken(&mut steps), []);
    assert_eq!(ladder.counts(), [100, 0, 0, 0, 100, 0, 0, 0]);
}

#[test]
fn a_source_that_authenticated_lately_may_do_more() {
    for (known, within) in [(false, 10), (true, 20)] {
        let (ladder, mut steps) = Ladder::new(&config(""));
        let offences =
            (0..).take_while(|_| !ladder.charge(address(ONE), 1, Offence::AuthFailure, known, at(0)));
        assert_eq!(offences.count(), within, "{known}");
        assert_eq!(taken(&mut steps), [ban("192.0.2.1/32", Offence::AuthFailure)]);
    }
}

#[test]
fn a_proxy_is_never_banned_and_nobody_is_while_the_ladder_is_off() {
    let (ladder, mut steps) = Ladder::new(&config(""));
    for proxy in ["10.1.2.3", "::ffff:10.1.2.3"] {
        for _ in 0..100 {
            assert!(!ladder.charge(address(proxy), 1, Offence::Protocol, false, at(0)));
        }
        ladder.note_drop(address(proxy));
        assert!(!ladder.end(address(proxy), 7));
    }
    let (off, mut none) = Ladder::new(&config("on = false"));
    assert!((0..100).all(|_| !off.charge(address(ONE), 1, Offence::Protocol, false, at(0))));
    assert_eq!((taken(&mut steps), taken(&mut none)), (vec![], vec![]));
    assert_eq!(off.counts(), [0, 0, 0, 0, 0, 0, 100, 0]);
}

#[test]
fn an_ipv6_source_is_banned_by_its_prefix_and_a_mapped_one_as_ipv4() {
    for (source, expected) in
        [("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("::ffff:192.0.2.1", "192.0.2.1/32")]
    {
        let (ladder, mut steps) = Ladder::new(&config(""));
        for _ in 0..2 {
            ladder.charge(address(source), 1, Offence::Protocol, false, at(0));
        }
        ladder.note_drop(address(source));
        let network = expected.parse().unwrap();
        assert_eq!(taken(&mut steps), [ban(expected, Offence::Protocol), Step::Drop(network)]);
    }
}

#[test]
fn nobody_is_banned_for_the_debts_of_a_line_that_it_shares() {
    let (mut ladder, mut steps) = Ladder::new(&config(""));
    ladder.sources = Table::new(1);
    for key in 1..=7 {
        ladder.charge(address(ONE), key, Offence::AuthFailure, false, at(0));
    }
    for key in 8..50 {
        assert!(!ladder.charge(address(ONE), key, Offence::Protocol, false, at(0)));
    }
    assert_eq!(taken(&mut steps), []);
    // The first ones owe nothing after a second, and make room.
    ladder.charge(address(ONE), 8, Offence::Protocol, false, at(1_000));
    assert!(ladder.charge(address(ONE), 8, Offence::Protocol, false, at(1_000)));
}

#[test]
fn a_ban_that_finds_no_room_is_made_for_the_next_offence() {
    let (ladder, mut steps) = Ladder::new(&config(""));
    for _ in 0..STEPS + 3 {
        ladder.note_drop(address("192.0.2.9"));
    }
    assert_eq!(ladder.lost(), 3);
    let offend = || ladder.charge(address(ONE), 1, Offence::Protocol, false, at(0));
    assert_eq!([offend(), offend()], [false, false]);
    assert_eq!(taken(&mut steps).len(), STEPS);
    assert!(offend());
    assert_eq!(taken(&mut steps), [ban("192.0.2.1/32", Offence::Protocol)]);
}

#[test]
fn who_owes_half_of_a_ban_is_suspect_until_that_is_forgiven() {
    let (ladder, _steps) = Ladder::new(&config(""));
    assert!(!ladder.is_suspect(1, at(0)));
    ladder.charge(address(ONE), 1, Offence::Forged, false, at(0));
    assert!(!ladder.is_suspect(1, at(0)));
    ladder.charge(address(ONE), 1, Offence::AuthFailure, false, at(0));
    for (key, milliseconds, expected) in [(1, 0, true), (2, 0, false), (1, 999, true), (1, 1_000, false)] {
        assert_eq!(ladder.is_suspect(key, at(milliseconds)), expected, "{key} {milliseconds}");
    }
}

#[test]
fn those_who_owe_most_are_shown_first_with_their_last_offence() {
    let (ladder, _steps) = Ladder::new(&config(""));
    for (key, offences) in [
        (1, &[Offence::Forged, Offence::AuthFailure][..]),
        (2, &[Offence::Forged, Offence::Enumeration]),
        (3, &[Offence::AuthFailure]),
    ] {
        for offence in offences {
            ladder.charge(address(ONE), key, *offence, false, at(0));
        }
    }
    let shown: Vec<_> =
        ladder.offenders(at(1_500)).iter().map(|found| (found.key, found.points, found.offence)).collect();
    assert_eq!(shown, [(2, 7, Offence::Enumeration), (1, 5, Offence::AuthFailure)]);
}

#[test]
fn another_configuration_counts_at_once_and_what_is_owed_stays() {
    let (ladder, mut steps) = Ladder::new(&config(""));
    for _ in 0..5 {
        ladder.charge(address(ONE), 1, Offence::AuthFailure, false, at(0));
    }
    ladder.configure(&config("first = \"5s\"\n"));
    assert_eq!(ladder.terms().first, Duration::from_secs(5));
    assert!(!ladder.charge(address(ONE), 1, Offence::Forged, false, at(0)));
    assert!(ladder.charge(address(ONE), 1, Offence::AuthFailure, false, at(0)));
    assert_eq!(taken(&mut steps).len(), 1);
}

#[test]
fn refusals_are_offences_where_their_source_can_be_blamed() {
    let wait = Duration::from_secs(1);
    for (refusal, expected) in [
        (Refusal::ApiKeyInvalid, Some(Offence::AuthFailure)),
        (Refusal::ApiKeyLimit { retry_after: wait }, None),
        (Refusal::AuthFailureLimit { retry_after: wait }, Some(Offence::Limit)),
        (Refusal::CredentialMissing, None),
        (Refusal::EnumerationLimit { retry_after: wait }, None),
        (Refusal::FramingInvalid, Some(Offence::Protocol)),
        (Refusal::Quota { by_source: false, retry_after: wait }, None),
        (Refusal::Quota { by_source: true, retry_after: wait }, Some(Offence::RouteLimit)),
        (Refusal::RateLimit { by_source: false, retry_after: wait }, None),
        (Refusal::RateLimit { by_source: true, retry_after: wait }, Some(Offence::RouteLimit)),
        (Refusal::RequestLimit { retry_after: wait }, Some(Offence::Limit)),
        (Refusal::RouteNotFound, None),
        (Refusal::ScopeMissing, None),
        (Refusal::Token(TokenError::Expired), Some(Offence::AuthFailure)),
        (Refusal::Token(TokenError::KeyUnknown), Some(Offence::AuthFailure)),
        (Refusal::Token(TokenError::KeysUnavailable), None),
        (Refusal::Token(TokenError::Signature), Some(Offence::Forged)),
        (Refusal::UpstreamTimeout, None),
    ] {
        assert_eq!(Offence::of(&refusal), expected, "{refusal:?}");
    }
}
