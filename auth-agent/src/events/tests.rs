use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use auth_common::event::bit;
use auth_common::verdict::{Reason, Verdict};

use super::testing::{FakeSwitch, event, sample};
use super::*;
use crate::clock::{Monotonic, UnixTime};

const SECOND: u64 = 1_000_000_000;

fn hub() -> (FakeSwitch, Arc<Hub>) {
    let switch = FakeSwitch::default();
    (switch.clone(), Hub::new(switch))
}

fn wanted(reason: Reason, rate: u32) -> Wanted {
    Wanted::new(bit(reason), Vec::new(), rate)
}

/// What waits in a subscription: reasons, or how many were lost; then whether it has ended.
fn waiting(subscription: &mut Subscription) -> (Vec<String>, bool) {
    let mut context = Context::from_waker(Waker::noop());
    let mut lines = Vec::new();
    loop {
        match subscription.poll_next(&mut context) {
            Poll::Ready(Some(Line::Dropped { dropped })) => lines.push(format!("dropped {dropped}")),
            Poll::Ready(Some(Line::Sample(sample))) => lines.push(sample.reason),
            end => return (lines, end.is_ready()),
        }
    }
}

#[test]
fn the_kernel_samples_what_anybody_wants_and_nothing_when_nobody_listens() {
    let (switch, hub) = hub();
    let banned = hub.subscribe(wanted(Reason::Banned, 10)).unwrap();
    assert_eq!(*switch.set.lock().unwrap(), Some((bit(Reason::Banned), wanted(Reason::Banned, 10).limit)));
    let plain = hub.subscribe(wanted(Reason::PlaintextPort, 500)).unwrap();
    let both = bit(Reason::Banned) | bit(Reason::PlaintextPort);
    assert_eq!(*switch.set.lock().unwrap(), Some((both, wanted(Reason::Banned, 500).limit)));
    drop(plain);
    assert_eq!(*switch.set.lock().unwrap(), Some((bit(Reason::Banned), wanted(Reason::Banned, 10).limit)));
    drop(banned);
    assert_eq!(switch.reasons(), 0);
}

#[test]
fn a_subscription_that_the_kernel_refuses_leaves_nothing_behind() {
    let (switch, hub) = hub();
    *switch.broken.lock().unwrap() = true;
    let error = hub.subscribe(wanted(Reason::Banned, 10)).err().unwrap();
    assert_eq!(error.to_string(), "no such map");
    *switch.broken.lock().unwrap() = false;
    drop(hub.subscribe(wanted(Reason::PlaintextPort, 10)).unwrap());
    assert_eq!(switch.reasons(), 0);
}

#[test]
fn one_listener_too_many_is_refused_until_another_goes() {
    let (_, hub) = hub();
    let mut subscriptions: Vec<_> =
        (0..MAX_SUBSCRIPTIONS).map(|_| hub.subscribe(wanted(Reason::Banned, 1)).unwrap()).collect();
    assert_eq!(hub.subscribe(wanted(Reason::Banned, 1)).err(), Some(SubscribeError::Full));
    subscriptions.pop();
    assert!(hub.subscribe(wanted(Reason::Banned, 1)).is_ok());
}

#[test]
fn everybody_gets_the_reasons_and_sources_he_asked_for_and_no_others() {
    let (_, hub) = hub();
    let from = |reasons, networks: &[&str]| {
        let sources = networks.iter().map(|network| network.parse().unwrap()).collect();
        hub.subscribe(Wanted::new(reasons, sources, 100)).unwrap()
    };
    let (allowed, plain) = (bit(Reason::Allowed), bit(Reason::PlaintextPort));
    let table = [
        (from(0, &[]), &["plaintext-port"][..]),
        (from(allowed | plain, &[]), &["allowed", "plaintext-port"]),
        (from(plain, &["203.0.113.0/24"]), &["plaintext-port"]),
        (from(plain, &["2001:db8::/32", "203.0.113.9/32"]), &["plaintext-port"]),
        (from(plain, &["203.0.113.8/32"]), &[]),
        (from(bit(Reason::Banned), &[]), &[]),
    ];
    for reason in [Reason::Allowed, Reason::PlaintextPort] {
        hub.publish(sample(reason), reason, SECOND);
    }
    for (number, (mut subscription, expected)) in table.into_iter().enumerate() {
        assert_eq!(
            waiting(&mut subscription),
            (expected.iter().map(ToString::to_string).collect(), false),
            "{number}"
        );
    }
}

#[test]
fn a_frame_without_a_source_is_nobodys() {
    let wanted = Wanted::new(bit(Reason::NonIp), vec!["0.0.0.0/0".parse().unwrap()], 1);
    assert!(!wanted.wants(Reason::NonIp, None));
    assert!(Wanted { sources: Vec::new(), ..wanted }.wants(Reason::NonIp, None));
}

#[test]
fn a_slow_reader_is_told_what_it_lost_and_holds_up_nobody() {
    let (_, hub) = hub();
    let mut slow = hub.subscribe(wanted(Reason::Banned, MAX_RATE)).unwrap();
    let mut quick = hub.subscribe(wanted(Reason::Banned, MAX_RATE)).unwrap();
    let samples = MAX_RATE as usize + 7;
    let mut read = 0;
    for number in 0..samples {
        // A second apart, so that no limit interferes.
        hub.publish(sample(Reason::Banned), Reason::Banned, number as u64 * SECOND);
        read += waiting(&mut quick).0.len();
    }
    assert_eq!(read, samples);
    let (lines, _) = waiting(&mut slow);
    assert_eq!((lines.len(), lines[0].as_str()), (MAX_RATE as usize + 1, "dropped 7"));
    hub.publish(sample(Reason::Banned), Reason::Banned, u64::MAX / 2);
    assert_eq!(waiting(&mut slow).0, ["banned"]);
}

#[test]
fn a_subscription_keeps_to_its_own_rate_where_another_lets_the_kernel_sample_more() {
    let (_, hub) = hub();
    let mut subscriptions = [1, 10, 500].map(|rate| hub.subscribe(wanted(Reason::Banned, rate)).unwrap());
    for time in [SECOND, 2 * SECOND] {
        for _ in 0..100 {
            hub.publish(sample(Reason::Banned), Reason::Banned, time);
        }
    }
    // A burst of two seconds' worth, and what one second earned; the last is the kernel's limit.
    assert_eq!(subscriptions.each_mut().map(|subscription| waiting(subscription).0.len()), [3, 30, 200]);
}

#[test]
fn the_end_comes_after_what_waits() {
    let (switch, hub) = hub();
    let mut subscription = hub.subscribe(wanted(Reason::Banned, 1)).unwrap();
    hub.publish(sample(Reason::Banned), Reason::Banned, SECOND);
    hub.close();
    assert_eq!(switch.reasons(), 0);
    assert_eq!(waiting(&mut subscription), (vec!["banned".to_owned()], true));
}

#[test]
fn reasons_have_the_names_that_the_counters_have() {
    for reason in Reason::ALL {
        assert_eq!(parse_reasons(reason.name()), Ok(bit(reason)));
    }
    let (drop, pass) = (parse_reasons("drop").unwrap(), parse_reasons("pass").unwrap());
    for reason in Reason::ALL {
        let expected = [Verdict::Drop, Verdict::Pass].map(|verdict| reason.verdict() == verdict);
        assert_eq!([drop, pass].map(|set| set & bit(reason) != 0), expected, "{}", reason.name());
    }
    // What was answered with a reset did not pass either.
    assert_eq!(Wanted::new(0, Vec::new(), 1).reasons, drop | parse_reasons("reset").unwrap());
    let error = parse_reasons("plaintext-prot").unwrap_err().to_string();
    assert_eq!(
        error,
        "\"plaintext-prot\" is no reason: write drop, pass, reset or a name like plaintext-port"
    );
}

#[test]
fn a_sample_has_the_date_of_the_packet_and_not_of_its_reading() {
    let event = event(Reason::Banned, 5 * SECOND);
    let (now, wall) = (Monotonic(7 * SECOND + 1), Duration::new(1_000, 0));
    let sample = Sample::new(&event, Reason::Banned, "eth0", now, wall);
    assert_eq!((sample.time, sample.nanoseconds), (UnixTime(997), 999_999_999));
}

#[test]
fn a_sample_is_told_as_json_without_a_byte_of_payload() {
    let sample = sample(Reason::PlaintextPort);
    let json = serde_json::to_value(&sample).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "destination": "10.0.0.1",
            "destination_port": 80,
            "headers": "AAAAAAAAAAAAAAAACABFAAAsAAAAAEAGAADLAHEJCgAAAaAoAFAAAAAAAAAAAFACAAAAAAAA",
            "interface": "eth0",
            "length": 58,
            "nanoseconds": 345_000_000,
            "protocol": "tcp",
            "reason": "plaintext-port",
            "source": "203.0.113.9",
            "source_port": 41_000,
            "time": 19_000 * 86_400 + 43_262,
            "verdict": "drop",
        })
    );
    assert_eq!(serde_json::from_value::<Line>(json).unwrap(), Line::Sample(sample));
    let dropped = Line::Dropped { dropped: 3 };
    assert_eq!(serde_json::to_string(&dropped).unwrap(), r#"{"dropped":3}"#);
}
