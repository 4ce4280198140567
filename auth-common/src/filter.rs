//! The decision on a packet: a list of stages, of which the first to answer wins.

use crate::gcra::{self, Charge};
use crate::layout::{Policy, Ports};
use crate::packet::{self, Cursor, Frame, Packet, Transport};
use crate::rules::{Cached, Outcome, Rule};
use crate::source::SourceKey;
use crate::table::{Group, Line, Place, Seat, Shape};
use crate::verdict::Reason;
use crate::word::Word;

/// How long a line may remember that its source is banned before the rules are asked again, in
/// nanoseconds. It bounds what two CPUs that cache different generations at once can get wrong.
const BAN_CACHED: u64 = 1_000_000_000;

/// What the decision needs from outside. A map that does not answer drops the packet.
pub trait Maps {
    /// The cell type of the source table.
    type Word: Word;

    /// Group number `index` of the source table.
    fn group(&self, index: u32) -> Option<&Group<Self::Word>>;
    /// Nanoseconds on `CLOCK_MONOTONIC`.
    fn now(&self) -> u64;
    /// What the operator set.
    fn policy(&self) -> Option<&Policy>;
    /// Word number `index` of the ports.
    fn ports(&self, index: u32) -> Option<&Ports>;
    /// The rule of the longest prefix that covers the mapped address.
    fn rule(&self, address: [u8; 16]) -> Option<Rule>;
    /// Shape of the source table.
    fn shape(&self) -> Shape;
}

/// Decides on a frame.
#[inline(always)]
pub fn decide(frame: Cursor, maps: &impl Maps) -> Reason {
    match packet::parse(frame) {
        Ok(Frame::Ip(packet)) => match decide_ip(&packet, maps) {
            Ok(reason) | Err(reason) => reason,
        },
        Ok(Frame::NonIp) => Reason::NonIp,
        Err(reason) => reason,
    }
}

/// `Err` is an early answer, from whichever stage.
#[inline(always)]
fn decide_ip(packet: &Packet, maps: &impl Maps) -> Result<Reason, Reason> {
    let protected = ports(packet.transport, maps)?;
    let policy = maps.policy().ok_or(Reason::Internal)?;
    let shape = maps.shape();
    let key = SourceKey::new(packet.source, shape.ipv6_mask);
    let place = shape.place(key);
    let group = maps.group(place.group).ok_or(Reason::Internal)?;
    let now = maps.now();

    let seat = group.seat(key, place, now);
    rules(&seat, place, packet, policy, now, maps)?;
    if protected {
        http_debts(seat.line(), policy, now)?;
    }
    let reason = budgets(seat.line(), packet, policy, now);
    if seat.holds() {
        return Ok(reason);
    }
    // Another source took the line in between: once more, in a line that can't change hands.
    Ok(budgets(group.overflow(key).line(), packet, policy, now))
}

/// Plaintext and guarded ports. Says whether the agent listens on the port.
#[inline(always)]
fn ports(transport: Transport, maps: &impl Maps) -> Result<bool, Reason> {
    let (port, tcp) = match transport {
        Transport::Fragment | Transport::Other { .. } => return Ok(false),
        Transport::NeighbourDiscovery => return Err(Reason::NeighbourDiscovery),
        Transport::Tcp { destination, .. } => (destination, true),
        Transport::Udp { destination, .. } => (destination, false),
    };
    let (word, bit) = Ports::locate(port);
    let ports = maps.ports(word).ok_or(Reason::Internal)?;
    if tcp && ports.plaintext & bit != 0 {
        return Err(Reason::PlaintextPort);
    }
    if ports.guarded & bit != 0 {
        return Err(Reason::Guarded);
    }
    Ok(ports.protected & bit != 0)
}

/// Allow and ban rules, asked once per source and generation.
#[inline(always)]
fn rules<M: Maps>(
    seat: &Seat<M::Word>,
    place: Place,
    packet: &Packet,
    policy: &Policy,
    now: u64,
    maps: &M,
) -> Result<(), Reason> {
    let line = seat.line();
    let cached = Cached::from_bits(line.rules.read()).outcome(policy.rules_generation, place.tag);
    let outcome = match cached {
        Some(Outcome::Banned) if line.banned_until.read() <= now => None,
        cached => cached,
    };
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => {
            let rule = maps.rule(packet.source.mapped()).unwrap_or_default();
            let outcome = rule.outcome(now);
            if rule.mixed == 0 && !seat.is_overflow() {
                if outcome == Outcome::Banned {
                    line.banned_until.write(rule.banned_until.min(now + BAN_CACHED));
                }
                line.rules.write(Cached::new(outcome, policy.rules_generation, place.tag).bits());
            }
            outcome
        }
    };
    match outcome {
        Outcome::Allowed => Err(Reason::Allowed),
        Outcome::Banned => Err(Reason::Banned),
        Outcome::None => Ok(()),
    }
}

/// Debts that the agent charged: far enough over, and the NIC answers for it.
#[inline(always)]
fn http_debts<W: Word>(line: &Line<W>, policy: &Policy, now: u64) -> Result<(), Reason> {
    if gcra::debt(&line.requests, now) > policy.request_threshold {
        return Err(Reason::RequestDebt);
    }
    if gcra::debt(&line.auth_failures, now) > policy.auth_failure_threshold {
        return Err(Reason::AuthFailureDebt);
    }
    Ok(())
}

/// Packets, then new connections.
#[inline(always)]
fn budgets<W: Word>(line: &Line<W>, packet: &Packet, policy: &Policy, now: u64) -> Reason {
    if gcra::charge(&line.packets, now, policy.packets) != Charge::Within {
        return Reason::PacketBudget;
    }
    let opens = matches!(packet.transport, Transport::Tcp { opens: true, .. });
    if opens && gcra::charge(&line.connections, now, policy.connections) != Charge::Within {
        return Reason::ConnectionBudget;
    }
    Reason::WithinBudget
}
