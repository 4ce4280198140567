//! Sampled packets: what the kernel hands out, and what `auth-agent events` makes of it.

mod capture;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use auth_agent::clock::Monotonic;
use auth_agent::events::{Sample, Switch};
use auth_common::event::{CAPTURE, Event, RING_BYTES, bit};
use auth_common::gcra::Limit;
use auth_common::packet::{self, Cursor, Frame, Transport};
use auth_common::verdict::Reason;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tests::frames::{ACK, Ip, tcp};
use tests::kernel::FilterUnderTest;
use tests::listener::Listener;
use tests::privilege;
use tests::stage::{EDGE, Stage};

use super::filter::{kernel, limits, packets, rules};

const HTTPS: u16 = 8_443;
const ALL: u64 = u64::MAX;
/// An event costs nothing.
const UNLIMITED: Limit = Limit { increment: 0, tolerance: 0 };

fn filter() -> FilterUnderTest {
    FilterUnderTest::start(kernel(), &limits(), &[HTTPS], &rules()).unwrap()
}

fn drain(filter: &mut FilterUnderTest) -> Vec<Event> {
    std::iter::from_fn(|| filter.ring.pop()).collect()
}

/// What the host makes of the same frame.
fn recorded(frame: &[u8], like: &Event) -> Event {
    let mut event = Event { frame: [0; CAPTURE], ..*like };
    event.record(like.time, like.interface, like.reason, Cursor::new(frame));
    event
}

/// Source port, destination port.
fn ports(transport: Transport) -> Option<(u16, u16)> {
    match transport {
        Transport::Tcp { destination, source, .. } | Transport::Udp { destination, source } => {
            Some((source, destination))
        }
        _ => None,
    }
}

/// The law of samples: what one tells is what the parser reads from the whole frame.
fn assert_told(event: &Event, frame: &[u8], what: &str) {
    let reason = event.reason().unwrap();
    let sample = Sample::new(event, reason, "lo", Monotonic(event.time), Duration::from_secs(1));
    assert!(frame.starts_with(&sample.headers), "{what}");
    assert_eq!(sample.length as usize, frame.len(), "{what}");
    let Ok(Frame::Ip(packet)) = packet::parse(Cursor::new(frame)) else { return };
    let text = |address: packet::Address| match address {
        packet::Address::V4(octets) => std::net::IpAddr::from(octets),
        packet::Address::V6(octets) => octets.into(),
    };
    assert_eq!(sample.source, Some(text(packet.source)), "{what}");
    assert_eq!(sample.destination, Some(text(packet.destination)), "{what}");
    let whole = usize::from(event.captured) < CAPTURE;
    let told = sample.source_port.zip(sample.destination_port);
    assert_eq!(told, ports(packet.transport).filter(|_| whole), "{what}");
    assert_eq!(sample.protocol.is_some(), whole, "{what}");
}

#[test]
fn every_packet_of_the_table_can_be_sampled_and_its_sample_tells_the_truth() {
    if !privilege::kernel_usable("samples of the packet table") {
        return;
    }
    let mut filter = filter();
    filter.switch.set(ALL, UNLIMITED).unwrap();
    for row in packets::table() {
        // The kernel's test run refuses frames without a whole Ethernet header.
        if row.reason == Reason::EthernetTruncated {
            continue;
        }
        let before = Monotonic::now();
        let reason = filter.run(&row.frame).unwrap();
        let events = drain(&mut filter);
        let [event] = events.as_slice() else { panic!("{}: {events:?}", row.what) };
        assert_eq!(event.reason(), Some(reason), "{}", row.what);
        assert!((before.0..=Monotonic::now().0).contains(&event.time), "{}", row.what);
        assert_ne!(event.interface, 0, "{}", row.what);
        assert_eq!(*event, recorded(&row.frame, event), "{}", row.what);
        assert_told(event, &row.frame, row.what);
    }
}

/// Also a fuzz test of the copy in the kernel against the same source on the host.
#[test]
fn any_frame_is_sampled_in_the_kernel_as_it_is_on_the_host() {
    if !privilege::kernel_usable("samples of mutated packets") {
        return;
    }
    let filter = std::cell::RefCell::new(filter());
    filter.borrow().switch.set(ALL, UNLIMITED).unwrap();
    let frames: Vec<_> =
        packets::table().into_iter().map(|row| row.frame).filter(|frame| frame.len() > 14).collect();
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let mutated = (
        prop::sample::select(frames),
        prop::collection::vec(change, 0..4),
        prop::collection::vec(any::<u8>(), 0..120),
        any::<prop::sample::Index>(),
    );
    let mutated = mutated.prop_map(|(mut frame, changes, more, cut)| {
        for (index, value) in changes {
            let index = index.index(frame.len());
            frame[index] = value;
        }
        frame.extend(more);
        frame.truncate(14 + cut.index(frame.len() - 13));
        frame
    });
    let mut runner = TestRunner::new(Config { cases: 1_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&mutated, |frame| {
        let mut filter = filter.borrow_mut();
        let reason = filter.run(&frame).unwrap();
        let events = drain(&mut filter);
        prop_assert_eq!(events.len(), 1);
        prop_assert_eq!(events[0].reason(), Some(reason));
        prop_assert_eq!(events[0], recorded(&frame, &events[0]));
        assert_told(&events[0], &frame, reason.name());
        Ok(())
    });
    outcome.unwrap();
}

fn plaintext() -> Vec<u8> {
    let secret = [tcp(40_000, 80, ACK), b"Authorization: Basic c2VjcmV0".to_vec()].concat();
    Ip::new("192.0.2.1", "10.0.0.1", 6, secret).frame()
}

#[test]
fn only_what_is_asked_for_is_sampled_and_no_payload_enters_the_ring() {
    if !privilege::kernel_usable("sampling by reason") {
        return;
    }
    let mut filter = filter();
    let frame = plaintext();
    for (reasons, expected) in
        [(0, 0), (ALL & !bit(Reason::PlaintextPort), 0), (bit(Reason::PlaintextPort), 1), (0, 0)]
    {
        filter.switch.set(reasons, UNLIMITED).unwrap();
        filter.run(&frame).unwrap();
        let events = drain(&mut filter);
        assert_eq!(events.len(), expected, "{reasons:x}");
        for event in events {
            assert_eq!(event.headers(), &frame[..54]);
            assert_eq!(event.frame[54..], [0; CAPTURE - 54]);
        }
    }
}

#[test]
fn the_kernel_keeps_to_the_limit_and_a_new_subscription_has_its_burst() {
    if !privilege::kernel_usable("the limit of samples") {
        return;
    }
    let mut filter = filter();
    let hourly = |burst| Limit::new(1, 3_600_000_000_000, burst);
    for burst in [5, 200, 1] {
        filter.switch.set(ALL, hourly(burst)).unwrap();
        filter.verdict(&plaintext(), 1_000).unwrap();
        assert_eq!(drain(&mut filter).len(), burst as usize);
    }
}

#[test]
fn a_ring_that_nobody_reads_fills_up_and_the_filter_goes_on() {
    if !privilege::kernel_usable("a full ring") {
        return;
    }
    let mut filter = filter();
    filter.switch.set(ALL, UNLIMITED).unwrap();
    let dropped = filter.filter.counters().unwrap()[Reason::PlaintextPort as usize].1;
    filter.verdict(&plaintext(), 5_000).unwrap();
    assert_eq!(filter.filter.counters().unwrap()[Reason::PlaintextPort as usize].1, dropped + 5_000);
    let header = 8;
    let room = RING_BYTES as usize / (size_of::<Event>() + header);
    let held = drain(&mut filter).len();
    assert!((room - 1..=room).contains(&held), "{held} of {room}");
    filter.run(&plaintext()).unwrap();
    assert_eq!(drain(&mut filter).len(), 1);
}

/// Connects to port 80 from the crowd until the listener has seen enough.
fn knock(stage: &Stage, listener: &mut Listener) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !listener.has_ended().unwrap() {
        assert!(Instant::now() < deadline, "the listener does not end");
        stage
            .crowd
            .run(|| {
                let edge = SocketAddr::from((EDGE, 80));
                // Nobody answers; what counts is the packet that went out.
                let _ = std::net::TcpStream::connect_timeout(&edge, Duration::from_millis(50));
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn who_listens_sees_the_crowd_knock_at_port_80() {
    if !privilege::kernel_usable("events end to end") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let arguments = ["--count", "3", "--reason", "plaintext-port", "--json"];
    let mut listener = Listener::start(&stage.setup, &arguments).unwrap();
    knock(&stage, &mut listener);
    let (status, output, said) = listener.finish().unwrap();
    assert!(status.success(), "{said}");
    let output = String::from_utf8(output).unwrap();
    let samples: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(samples.len(), 3);
    for sample in &samples {
        for (field, value) in [
            ("reason", "plaintext-port"),
            ("verdict", "drop"),
            ("interface", "edge0"),
            ("protocol", "tcp"),
            ("destination", "10.77.0.1"),
        ] {
            assert_eq!(sample[field], value, "{sample}");
        }
        assert_eq!(sample["destination_port"], 80, "{sample}");
    }

    // From nobody who is there, through a whole life of the agent.
    let file = stage.setup.path("drops.pcap");
    let file = file.to_str().unwrap();
    let arguments = ["--source", "192.0.2.0/24", "--pcap", file];
    let listener = Listener::start(&stage.setup, &arguments).unwrap();
    listener.interrupt().unwrap();
    let (status, output, said) = listener.finish().unwrap();
    assert!(status.success(), "{said}");
    assert_eq!((output.len(), said), (0, format!("0 packets written to {file}\n")));

    let listener = Listener::start(&stage.setup, &arguments[..2]).unwrap();
    stage.kill().unwrap();
    let (status, _, said) = listener.finish().unwrap();
    assert!(status.code() == Some(1) && said.starts_with("auth-agent: the agent at "), "{said}");

    // What the dead agent left switched on ends with its program.
    stage.restart().unwrap();
    let mut listener = Listener::start(&stage.setup, &["--count", "1", "--pcap", file]).unwrap();
    knock(&stage, &mut listener);
    let (status, output, said) = listener.finish().unwrap();
    assert!(status.success() && output.ends_with(b" tcp 74 bytes\n"), "{said}");
    assert_eq!(capture::read(&std::fs::read(file).unwrap()).len(), 1);

    let listener = Listener::start(&stage.setup, &["--source", "192.0.2.0/24"]).unwrap();
    let agent = stage.agent.as_mut().unwrap();
    agent.terminate().unwrap();
    assert!(agent.wait().unwrap().success());
    let (status, _, said) = listener.finish().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(said.ends_with("has ended the stream: it is stopping\n"), "{said}");
}
