//! Samples of packets: the switch in the program's memory, and the ring they come in.

#![allow(unsafe_code, reason = "tokio takes the owner of a file descriptor at its word")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use auth_common::event::{self, Event, Sampling};
use auth_common::gcra::Limit;
use aya::maps::{Array, MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::FilterError;
use super::values::Value;
use super::{interfaces, object};
use crate::clock::{Monotonic, since_epoch};
use crate::edge::EdgeError;
use crate::events::{Hub, Sample, Switch};

/// Takes the two ends out of a loaded object. The program samples nothing yet.
///
/// # Errors
/// [`FilterError::Load`], [`FilterError::Map`].
pub fn take(ebpf: &mut aya::Ebpf) -> Result<(SampleSwitch, Ring), FilterError> {
    let switch = SampleSwitch(Mutex::new(object::array(ebpf, event::SAMPLING)?));
    let ring = RingBuf::try_from(object::take(ebpf, event::EVENTS)?)
        .map_err(|error| FilterError::map(event::EVENTS, error))?;
    Ok((switch, Ring(ring)))
}

/// The program's [`Sampling`].
pub struct SampleSwitch(Mutex<Array<MapData, Value<Sampling<u64>>>>);

impl Switch for SampleSwitch {
    fn set(&self, reasons: u64, limit: Limit) -> Result<(), EdgeError> {
        let mut sampling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sampling
            .set(0, Value(Sampling::new(reasons, limit)), 0)
            .map_err(|error| EdgeError::new(FilterError::map(event::SAMPLING, error)))
    }
}

/// The consumer of the ring; there can be one.
pub struct Ring(RingBuf<MapData>);

impl Ring {
    /// The oldest event that has not been read.
    pub fn pop(&mut self) -> Option<Event> {
        loop {
            let item = self.0.next()?;
            match Event::from_bytes(&item) {
                Some(event) => return Some(event),
                // The program is of this very binary, so this can't happen; skipping it is safe.
                None => tracing::error!(bytes = item.len(), "an event that can't be read"),
            }
        }
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Hands on what comes in by the ring, until it is dropped.
///
/// # Errors
/// What the system says of waiting for the ring.
pub async fn pump(ring: Ring, hub: Arc<Hub>) -> io::Result<()> {
    // SAFETY: the ring keeps its file descriptor open, and the same, until it is dropped.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let mut ring = ring.map_err(io::Error::from)?;
    let mut names = Names::default();
    loop {
        let mut ready = ring.readable_mut().await?;
        while let Some(event) = ready.get_inner_mut().pop() {
            let Some(reason) = event.reason() else { continue };
            let interface = names.of(event.interface);
            let sample = Sample::new(&event, reason, interface, Monotonic::now(), since_epoch());
            hub.publish(sample, reason, event.time);
        }
        ready.clear_ready();
    }
}

/// Names of interfaces, asked for once each.
#[derive(Default)]
struct Names(HashMap<u32, String>);

impl Names {
    fn of(&mut self, index: u32) -> &str {
        self.0.entry(index).or_insert_with(|| {
            let present = interfaces::list().unwrap_or_default();
            let interface = present.into_iter().find(|interface| interface.index == index);
            interface.map_or_else(|| format!("#{index}"), |interface| interface.name)
        })
    }
}
