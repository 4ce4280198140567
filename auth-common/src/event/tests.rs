use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use std::thread;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn sampling(reasons: u64, limit: Limit) -> Sampling<AtomicU64> {
    Sampling {
        reasons: AtomicU64::new(reasons),
        increment: AtomicU64::new(limit.increment),
        tolerance: AtomicU64::new(limit.tolerance),
        arrival: AtomicU64::new(0),
    }
}

fn recorded(frame: &[u8]) -> Event {
    let mut event = Event {
        time: 1,
        interface: 1,
        length: 1,
        captured: 1,
        reason: 1,
        reserved: [1; 5],
        frame: [1; CAPTURE],
    };
    event.record(7, 3, Reason::Banned as u8, Cursor::new(frame));
    event
}

#[test]
fn only_the_reasons_that_are_asked_for_are_wanted() {
    let limit = Limit::new(1, SECOND, 1);
    for asked in Reason::ALL {
        let sampling = sampling(bit(asked), limit);
        for reason in Reason::ALL {
            assert_eq!(sampling.wants(reason), reason == asked, "{} of {}", reason.name(), asked.name());
        }
    }
    assert!(!Reason::ALL.iter().any(|reason| sampling(0, limit).wants(*reason)));
}

#[test]
fn cpus_that_sample_at_once_never_get_more_than_the_burst() {
    let sampling = sampling(0, Limit::new(100, SECOND, 200));
    let admitted: usize = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..1_000).filter(|_| sampling.admits(SECOND)).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // A sample that is admitted refuses three others at most, so 4,000 tries are enough for all of them.
    assert_eq!(admitted, 200);
}

proptest! {
    /// Against the definition, not against another bucket: a sample is admitted exactly if no span of time that it
    /// ends then holds more than the burst and what that time earns.
    #[test]
    fn the_limit_is_exact_in_every_span_of_time(
        rate in 1u32..1_000,
        burst in 1u32..50,
        gaps in prop::collection::vec(prop_oneof![Just(0), 0..SECOND / 100, 0..SECOND], 1..300),
    ) {
        let limit = Limit::new(rate, SECOND, burst);
        let sampling = sampling(0, limit);
        let mut admitted: Vec<u64> = Vec::new();
        let mut now = SECOND;
        for gap in gaps {
            now += gap;
            let conforms = admitted.iter().chain([&now]).enumerate().all(|(before, from)| {
                let samples = (admitted.len() - before + 1) as u64;
                samples * limit.increment <= limit.tolerance + (now - from)
            });
            prop_assert_eq!(sampling.admits(now), conforms, "at {} after {:?}", now, admitted);
            if conforms {
                admitted.push(now);
            }
        }
    }

    #[test]
    fn no_frame_makes_recording_panic_and_what_is_captured_is_its_head(
        frame in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let event = recorded(&frame);
        prop_assert!(frame.starts_with(event.headers()));
        prop_assert_eq!(event.length as usize, frame.len());
        prop_assert!(event.frame[event.captured.into()..].iter().all(|byte| *byte == 0));
    }
}

fn ipv4(protocol: u8, fragment: u16, transport: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(((20 + transport.len() + payload.len()) as u16).to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    frame.extend(transport);
    frame.extend(payload);
    frame
}

fn tcp(options: usize) -> Vec<u8> {
    let mut header = vec![1; 20 + options];
    header[12] = (((20 + options) / 4) << 4) as u8;
    header
}

#[test]
fn no_byte_of_a_payload_is_captured() {
    let secret = b"Authorization: Basic c2VjcmV0";
    let mut arp = vec![0; 12];
    arp.extend([8, 6]);
    let table = [
        ("TCP", ipv4(6, 0, &tcp(0), secret)),
        ("TCP with options", ipv4(6, 0, &tcp(40), secret)),
        ("UDP", ipv4(17, 0, &[0, 1, 0, 2, 0, 37, 0, 0], secret)),
        ("ICMP", ipv4(1, 0, &[8; 8], secret)),
        ("a later fragment", ipv4(6, 100, &[], secret)),
        ("a first fragment", ipv4(6, 0x2000, &tcp(0), secret)),
        ("another protocol", ipv4(47, 0, &[], secret)),
        ("not IP", [&arp[..], secret].concat()),
    ];
    for (what, frame) in table {
        let event = recorded(&frame);
        assert_eq!(event.headers(), &frame[..frame.len() - secret.len()], "{what}");
    }
}

#[test]
fn a_frame_cut_short_is_captured_whole() {
    let frame = ipv4(6, 0, &tcp(0), &[]);
    for length in 0..frame.len() {
        assert_eq!(recorded(&frame[..length]).headers(), &frame[..length], "{length}");
    }
}

#[test]
fn an_event_is_read_as_the_kernel_lays_it_out_and_nothing_else_is() {
    let event = recorded(&ipv4(6, 0, &tcp(0), b"x"));
    let mut bytes = vec![0; size_of::<Event>()];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(offset_of!(Event, time), &event.time.to_ne_bytes());
    put(offset_of!(Event, interface), &event.interface.to_ne_bytes());
    put(offset_of!(Event, length), &event.length.to_ne_bytes());
    put(offset_of!(Event, captured), &event.captured.to_ne_bytes());
    put(offset_of!(Event, reason), &[event.reason]);
    put(offset_of!(Event, frame), &event.frame);
    assert_eq!(Event::from_bytes(&bytes), Some(event));
    assert_eq!(event.reason(), Some(Reason::Banned));

    assert_eq!(Event::from_bytes(&bytes[1..]), None);
    assert_eq!(Event::from_bytes(&[&bytes[..], &[0]].concat()), None);
    let with = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        Event::from_bytes(&bytes)
    };
    assert_eq!(with(offset_of!(Event, reason), Reason::ALL.len() as u8), None);
    assert_eq!(with(offset_of!(Event, captured), CAPTURE as u8 + 1), None);
}
