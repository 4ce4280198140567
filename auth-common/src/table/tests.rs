//! The table against a limiter that keeps every source for ever.

use core::cell::RefCell;
use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::collections::HashMap;
use std::thread;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::gcra::{self, Charge, Limit};
use crate::packet::Address;

const SHAPE: Shape = Shape { group_mask: 1, ipv6_mask: u64::MAX, ipv6_site_mask: 0, secret: [3, 5] };
const LIMIT: Limit = Limit::new(1, 100, 4);
/// Long enough that a line with a debt of requests outlasts many of packets.
const SLOW: Limit = Limit::new(1, 10_000, 2);

fn key(source: u8) -> SourceKey {
    SourceKey::new(Address::V4([192, 0, 2, source]), u64::MAX)
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Event {
    AuthFailure,
    Connection,
    Packet,
    Request,
}

impl Event {
    fn limit(self) -> Limit {
        match self {
            Self::Connection | Self::Packet => LIMIT,
            Self::AuthFailure | Self::Request => SLOW,
        }
    }

    fn debt(self, line: &Line<AtomicU64>) -> &AtomicU64 {
        match self {
            Self::AuthFailure => &line.auth_failures,
            Self::Connection => &line.connections,
            Self::Packet => &line.packets,
            Self::Request => &line.requests,
        }
    }
}

fn events() -> impl Strategy<Value = Vec<(u8, u64, Event)>> {
    let event = prop::sample::select(
        [Event::AuthFailure, Event::Connection, Event::Packet, Event::Request].as_slice(),
    );
    // Forty sources on fourteen lines, so that groups are full most of the time.
    prop::collection::vec((0u8..40, 0u64..60, event), 1..600)
}

proptest! {
    /// Through its own line, a source is admitted exactly when a limiter that never forgets admits it. Through
    /// the overflow line, all newcomers of a group together are admitted as often as one source would be.
    #[test]
    fn the_table_never_admits_what_the_model_refuses(events in events()) {
        let groups: [Group<AtomicU64>; 2] = Default::default();
        let mut model = HashMap::<(u64, Event), AtomicU64>::new();
        let mut now = 1_000_000;
        for (source, pause, event) in events {
            now += pause;
            let place = SHAPE.place(key(source));
            let seat = groups[place.group as usize].seat(key(source), place, now);
            let answer = gcra::charge(event.debt(seat.line()), now, event.limit());

            // An IPv4 key has its upper half set, so the number of a group is no source's key.
            let owner = if seat.is_overflow() { u64::from(place.group) } else { key(source).get() };
            let expected = gcra::charge(model.entry((owner, event)).or_default(), now, event.limit());
            prop_assert_eq!(answer, expected);
        }
    }

    #[test]
    fn a_line_with_a_debt_never_changes_hands(events in events()) {
        let groups: [Group<AtomicU64>; 2] = Default::default();
        let mut now = 1_000_000;
        for (source, pause, event) in events {
            now += pause;
            let owing: Vec<_> = groups
                .iter()
                .flat_map(|group| &group.lines[1..])
                .filter(|line| !line.owes_nothing(now))
                .map(|line| (core::ptr::from_ref(line), line.key.read()))
                .collect();
            let place = SHAPE.place(key(source));
            let seat = groups[place.group as usize].seat(key(source), place, now);
            gcra::charge(event.debt(seat.line()), now, event.limit());
            for (line, owner) in owing {
                let after = groups.iter().flat_map(|group| &group.lines).find(|after| core::ptr::eq(*after, line));
                prop_assert_eq!(after.map(|line| line.key.read()), Some(owner));
            }
        }
    }

    #[test]
    fn a_source_never_has_two_lines(events in events()) {
        let groups: [Group<AtomicU64>; 2] = Default::default();
        let mut now = 1_000_000;
        for (source, pause, event) in events {
            now += pause;
            let place = SHAPE.place(key(source));
            let group = &groups[place.group as usize];
            gcra::charge(event.debt(group.seat(key(source), place, now).line()), now, event.limit());
            let lines = group.lines[1..].iter().filter(|line| line.key.read() == key(source).get());
            prop_assert!(lines.count() <= 1);
        }
    }
}

/// A cell that lets something happen just before the first compare-exchange of the thread.
#[derive(Default)]
struct Interrupted(AtomicU64);

std::thread_local! {
    static INTERRUPT: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

impl Word for Interrupted {
    fn read(&self) -> u64 {
        self.0.read()
    }

    fn write(&self, value: u64) {
        self.0.write(value);
    }

    fn replace(&self, current: u64, new: u64) -> bool {
        if let Some(interrupt) = INTERRUPT.take() {
            interrupt();
        }
        self.0.replace(current, new)
    }
}

#[test]
fn a_source_that_is_charged_while_its_line_is_taken_keeps_the_line_and_the_debt() {
    const NOW: u64 = 1_000_000;
    let group: &Group<Interrupted> = Box::leak(Box::default());
    let place = SHAPE.place(key(1));
    let line = group.seat(key(1), place, NOW).line();
    INTERRUPT.set(Some(Box::new(|| {
        for _ in 0..4 {
            assert_eq!(gcra::charge(&line.packets, NOW, LIMIT), Charge::Within);
        }
    })));
    assert!(group.seat(key(2), place, NOW).is_overflow());
    let seat = group.seat(key(1), place, NOW);
    assert!(!seat.is_overflow());
    assert_ne!(gcra::charge(&seat.line().packets, NOW, LIMIT), Charge::Within);
}

#[test]
fn a_known_source_keeps_its_line_though_it_owes_nothing() {
    let group = Group::<AtomicU64>::default();
    let place = SHAPE.place(key(1));
    group.seat(key(1), place, 10).line().known_until.write(100);
    for newcomer in 2..40 {
        group.seat(key(newcomer), place, 10);
    }
    assert!(group.find(key(1), place).is_some());
    for newcomer in 2..40 {
        group.seat(key(newcomer), place, 100);
    }
    assert!(group.find(key(1), place).is_none());
}

#[test]
fn sources_spread_over_the_groups() {
    let shape = Shape { group_mask: 255, ..SHAPE };
    let mut counts = [0u32; 256];
    for source in 0..25_600_u32 {
        let key = SourceKey::new(Address::V4(source.to_be_bytes()), u64::MAX);
        counts[shape.place(key).group as usize] += 1;
    }
    // A hundred each on average; a fair hash stays within six standard deviations.
    assert!(counts.iter().all(|count| (40..160).contains(count)), "{counts:?}");
}

/// Many threads on a full group: whatever line an event lands on, each line admits exactly one budget.
#[test]
fn threads_that_fight_for_lines_stay_within_the_budgets() {
    const THREADS: u8 = 4;
    const NOW: u64 = 1_000_000;
    let limit = Limit::new(1, 1_000, 16);
    let group = Group::<AtomicU64>::default();
    let place = SHAPE.place(key(1));
    let admitted: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let group = &group;
                scope.spawn(move || {
                    (0..20_000_u32)
                        .filter(|turn| {
                            let source = key(((turn + u32::from(thread) * 7) % 32) as u8);
                            let seat = group.seat(source, place, NOW);
                            gcra::charge(&seat.line().packets, NOW, limit) == Charge::Within
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, LINES_PER_GROUP * 16);
}
