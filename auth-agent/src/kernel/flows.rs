//! Revoked flows: what the kernel drops for a while because its connection was ended.
//!
//! The map holds so many and no more. Where it is full, what would end soonest makes room: its connection is long
//! gone, and what still comes of it is answered by the host.
//!
//! A flow is told by what its socket says. Where the host itself translates addresses (DNAT to a listener), its packets
//! come in with others, and are not dropped.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{MutexGuard, PoisonError};

use auth_common::flow::Flow;
use auth_common::layout;
use aya::maps::{HashMap as BpfHashMap, MapData, MapError};

use super::error::FilterError;
use super::sources::as_packet_address;
use super::values::Value;
use super::{Filter, object};
use crate::clock::Monotonic;
use crate::edge;

/// What [`layout::FLOWS`] holds, and how to change it.
pub struct Flows {
    held: Held,
    map: BpfHashMap<MapData, Value<Flow>, u64>,
    overflowed: u64,
}

impl Flows {
    /// Adopts the flows of an earlier agent.
    ///
    /// # Errors
    /// [`FilterError::Map`].
    pub fn open(ebpf: &mut aya::Ebpf) -> Result<Self, FilterError> {
        let map = BpfHashMap::try_from(object::take(ebpf, layout::FLOWS)?).map_err(failed)?;
        let mut held = Held::default();
        for entry in map.iter() {
            let (Value(flow), until) = entry.map_err(failed)?;
            held.insert(flow, until);
        }
        Ok(Self { held, map, overflowed: 0 })
    }

    /// Has these flows dropped until then, at least; says how many of them the kernel holds.
    ///
    /// # Errors
    /// [`FilterError::Map`]; flows before the one at fault are then held.
    pub fn revoke(
        &mut self,
        flows: &[edge::Flow],
        until: Monotonic,
        now: Monotonic,
    ) -> Result<usize, FilterError> {
        self.sweep(now)?;
        let mut held = 0;
        for flow in flows {
            let flow = flow.into();
            match self.held.place(&flow, until.0, layout::MAX_FLOWS as usize) {
                Place::Full => self.overflowed += 1,
                Place::Held => held += 1,
                Place::Of(soonest) => {
                    self.forget(soonest)?;
                    self.overflowed += 1;
                    self.insert(flow, until)?;
                    held += 1;
                }
                Place::Own => {
                    self.insert(flow, until)?;
                    held += 1;
                }
            }
        }
        Ok(held)
    }

    /// Forgets what is over at `now`.
    ///
    /// # Errors
    /// [`FilterError::Map`]; it is tried again the next time.
    pub fn sweep(&mut self, now: Monotonic) -> Result<(), FilterError> {
        while let Some((until, flow)) = self.held.soonest()
            && until <= now.0
        {
            self.forget(flow)?;
        }
        Ok(())
    }

    /// When the last of them is over; 0 where there are none.
    pub fn latest(&self) -> u64 {
        self.held.by_end.last().map_or(0, |(until, _)| *until)
    }

    /// How many there are, and how many found no room or made some.
    pub fn status(&self) -> edge::FlowsStatus {
        let (capacity, revoked) = (layout::MAX_FLOWS.into(), self.held.ends.len() as u64);
        edge::FlowsStatus { capacity, overflowed: self.overflowed, revoked }
    }

    fn insert(&mut self, flow: Flow, until: Monotonic) -> Result<(), FilterError> {
        self.map.insert(Value(flow), until.0, 0).map_err(failed)?;
        self.held.insert(flow, until.0);
        Ok(())
    }

    fn forget(&mut self, flow: Flow) -> Result<(), FilterError> {
        match self.map.remove(&Value(flow)) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(failed(error)),
        }
        self.held.remove(&flow);
        Ok(())
    }
}

impl Filter {
    /// Has the kernel drop what comes by these flows until then, at least; says how many of them it holds.
    ///
    /// # Errors
    /// [`FilterError::Map`].
    pub fn revoke_flows(&self, flows: &[edge::Flow], until: Monotonic) -> Result<usize, FilterError> {
        if self.has_stepped_back() {
            return Ok(0);
        }
        let mut held = self.flows();
        let revoked = held.revoke(flows, until, Monotonic::now());
        // Even after a failure: what is held is to be looked up.
        self.rules().set_flows_until(held.latest())?;
        revoked
    }

    pub(super) fn flows(&self) -> MutexGuard<'_, Flows> {
        // A panic while it was held leaves a flow out of the books at most: the kernel forgets it at its deadline.
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: MapError) -> FilterError {
    FilterError::map(layout::FLOWS, error)
}

impl From<&edge::Flow> for Flow {
    fn from(flow: &edge::Flow) -> Self {
        let end = |end: SocketAddr| (as_packet_address(end.ip()), end.port());
        Self::new(end(flow.peer), end(flow.local))
    }
}

/// Flows by when they end.
#[derive(Default)]
struct Held {
    by_end: BTreeSet<(u64, Flow)>,
    ends: HashMap<Flow, u64>,
}

/// Where a flow can go.
#[derive(Debug, Eq, PartialEq)]
enum Place {
    /// Nowhere: all others end later.
    Full,
    /// It is held for as long already.
    Held,
    /// Where this one is.
    Of(Flow),
    /// Where it is, or where nobody is.
    Own,
}

impl Held {
    fn place(&self, flow: &Flow, until: u64, room: usize) -> Place {
        match (self.ends.get(flow), self.soonest()) {
            (Some(end), _) if *end >= until => Place::Held,
            (None, Some((end, soonest))) if self.ends.len() >= room => {
                if end < until {
                    Place::Of(soonest)
                } else {
                    Place::Full
                }
            }
            _ => Place::Own,
        }
    }

    fn insert(&mut self, flow: Flow, until: u64) {
        self.remove(&flow);
        self.ends.insert(flow, until);
        self.by_end.insert((until, flow));
    }

    fn remove(&mut self, flow: &Flow) {
        if let Some(end) = self.ends.remove(flow) {
            self.by_end.remove(&(end, *flow));
        }
    }

    fn soonest(&self) -> Option<(u64, Flow)> {
        self.by_end.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use auth_common::packet::Address;

    use super::*;

    fn flow(port: u16) -> Flow {
        Flow::new((Address::V4([192, 0, 2, 1]), port), (Address::V4([10, 0, 0, 1]), 443))
    }

    #[test]
    fn a_full_map_gives_up_what_ends_soonest_and_never_what_ends_later() {
        let mut held = Held::default();
        for (port, until) in [(1, 30), (2, 10), (3, 20)] {
            assert_eq!(held.place(&flow(port), until, 3), Place::Own);
            held.insert(flow(port), until);
        }
        for (port, until, place) in [
            (4, 11, Place::Of(flow(2))),
            (4, 10, Place::Full),
            (2, 10, Place::Held),
            (1, 29, Place::Held),
            (1, 31, Place::Own),
        ] {
            assert_eq!(held.place(&flow(port), until, 3), place, "{port} until {until}");
        }
    }

    #[test]
    fn a_flow_that_is_held_for_longer_ends_when_it_then_should() {
        let mut held = Held::default();
        held.insert(flow(1), 10);
        held.insert(flow(2), 15);
        held.insert(flow(1), 20);
        assert_eq!(held.soonest(), Some((15, flow(2))));
        held.remove(&flow(2));
        held.remove(&flow(2));
        assert_eq!(held.soonest(), Some((20, flow(1))));
        held.remove(&flow(1));
        assert!(held.by_end.is_empty() && held.ends.is_empty());
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_the_flow_that_its_packets_make() {
        let mapped = |text: &str| text.parse().unwrap();
        for (peer, local) in [
            ("192.0.2.1:7", "10.0.0.1:443"),
            ("[::ffff:192.0.2.1]:7", "[::ffff:10.0.0.1]:443"),
            ("192.0.2.1:7", "[::ffff:10.0.0.1]:443"),
        ] {
            assert_eq!(Flow::from(&edge::Flow { local: mapped(local), peer: mapped(peer) }), flow(7));
        }
    }
}
