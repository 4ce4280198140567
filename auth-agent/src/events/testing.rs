//! A switch that only remembers, and something to publish.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use auth_common::event::{CAPTURE, Event};
use auth_common::gcra::Limit;
use auth_common::packet::Cursor;
use auth_common::verdict::Reason;

use super::{Sample, Switch};
use crate::clock::Monotonic;
use crate::edge::EdgeError;

/// What the kernel was last told, and whether it listens.
#[derive(Clone, Default)]
pub(crate) struct FakeSwitch {
    pub(crate) broken: Arc<Mutex<bool>>,
    pub(crate) set: Arc<Mutex<Option<(u64, Limit)>>>,
}

impl FakeSwitch {
    /// The reasons that are sampled now.
    pub(crate) fn reasons(&self) -> u64 {
        self.set.lock().unwrap().map_or(0, |(reasons, _)| reasons)
    }
}

impl Switch for FakeSwitch {
    fn set(&self, reasons: u64, limit: Limit) -> Result<(), EdgeError> {
        if *self.broken.lock().unwrap() {
            return Err(EdgeError::new("no such map"));
        }
        *self.set.lock().unwrap() = Some((reasons, limit));
        Ok(())
    }
}

/// A SYN from 203.0.113.9:41000 to 10.0.0.1:80, with four bytes of payload, seen at `time`.
pub(crate) fn event(reason: Reason, time: u64) -> Event {
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 203, 0, 113, 9, 10, 0, 0, 1]);
    frame.extend([0xa0, 0x28, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    frame.extend(b"PASS");
    let mut event = Event {
        time: 0,
        interface: 0,
        length: 0,
        captured: 0,
        reason: 0,
        reserved: [0; 5],
        frame: [0; CAPTURE],
    };
    event.record(time, 2, reason as u8, Cursor::new(&frame));
    event
}

/// The sample of [`event`], seen on eth0 at 12:01:02.345 of some day.
pub(crate) fn sample(reason: Reason) -> Sample {
    let wall = Duration::from_millis((19_000 * 86_400 + 43_262) * 1_000 + 345);
    Sample::new(&event(reason, 7), reason, "eth0", Monotonic(7), wall)
}
