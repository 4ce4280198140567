//! The decision on a packet: a list of stages, of which the first to answer wins.

use crate::facts::{Facts, OPENS, PROTECTED, TCP};
use crate::flow::Flow;
use crate::gcra::{self, Limit};
use crate::layout::{BYTES_PER_BLOCK, Class, Policy, Ports};
use crate::packet::{self, Cursor, Frame, Packet, Transport};
use crate::rules::{Cached, Outcome, Rule};
use crate::table::{Group, Line, Place, Seat, Shape};
use crate::verdict::Reason;
use crate::word::Word;

/// What the decision needs from outside. A map that does not answer drops the packet.
pub trait Maps {
    /// The cell type of the source table.
    type Word: Word;

    /// The word of the breaker of the interface that the packet came by.
    fn breaker(&self) -> Option<&Self::Word>;
    /// Word number `index` of the rules' bitmap.
    fn cells(&self, index: u32) -> Option<&Self::Word>;
    /// Class number `number`.
    fn class(&self, number: u32) -> Option<&Class>;
    /// Group number `index` of the source table.
    fn group(&self, index: u32) -> Option<&Group<Self::Word>>;
    /// The word that holds until when the agent counts as alive.
    fn heartbeat(&self) -> Option<&Self::Word>;
    /// Nanoseconds on `CLOCK_MONOTONIC`.
    fn now(&self) -> u64;
    /// What the operator set.
    fn policy(&self) -> Option<&Policy>;
    /// Word number `index` of the ports.
    fn ports(&self, index: u32) -> Option<&Ports>;
    /// Until when a flow is revoked, if it is.
    fn revoked_until(&self, flow: &Flow) -> Option<u64>;
    /// The rule of the longest prefix that covers the mapped address.
    fn rule(&self, address: [u8; 16]) -> Option<Rule>;
    /// The same facts, in memory of which nothing else is known: see [`Facts`].
    fn settle<'f>(&'f self, facts: &'f Facts) -> Option<&'f Facts>;
    /// Shape of the source table.
    fn shape(&self) -> Shape;
}

/// Decides on a frame.
#[inline(always)]
pub fn decide(frame: Cursor, maps: &impl Maps) -> Reason {
    let blocks = (frame.remaining() as u64).div_ceil(BYTES_PER_BLOCK);
    match packet::parse(frame) {
        Ok(Frame::Ip(packet)) => match decide_ip(&packet, blocks, maps) {
            Ok(reason) | Err(reason) => reason,
        },
        Ok(Frame::NonIp) => Reason::NonIp,
        Err(reason) => reason,
    }
}

/// `Err` is an early answer, from whichever stage.
#[inline(always)]
fn decide_ip(packet: &Packet, blocks: u64, maps: &impl Maps) -> Result<Reason, Reason> {
    // Before anything is written down: a flood to a plaintext port is to cost as little as can be.
    let protected = ports(packet, maps)?;
    let facts = Facts::of(packet, blocks, protected);
    let facts = maps.settle(&facts).ok_or(Reason::Internal)?;
    let protected = facts.has(PROTECTED);
    let policy = maps.policy().ok_or(Reason::Internal)?;
    let now = maps.now();
    if policy.pass_when_agent_gone != 0 {
        heartbeat(now, maps)?;
    }
    let shape = maps.shape();
    let key = facts.key(shape.ipv6_mask);
    let place = shape.place(key);
    let group = maps.group(place.group).ok_or(Reason::Internal)?;

    if protected {
        flow(facts, policy, now, maps)?;
    }
    let seat = group.seat(key, place, now);
    let class = rules(&seat, place, facts, policy, now, maps)?;
    let class = maps.class(class).ok_or(Reason::Internal)?;
    if protected {
        http_debts(seat.line(), class, now)?;
    }
    let event = Event { blocks: facts.blocks, now, opens: facts.has(OPENS) };
    let budgets = Budgets::of_source(class);
    let charged = budgets.charge(seat.line(), event);
    if seat.holds() {
        charged?;
    } else {
        // Another source took the line in between: once more, in a line that can't change hands.
        budgets.charge(group.overflow(key).line(), event)?;
    }
    // The wider a budget, the later: what one source is refused must not eat up what others share.
    site(facts, event, class, shape, maps)?;
    if event.opens && seat.line().known_until.read() <= now {
        breaker(policy, now, maps)?;
    }
    Ok(Reason::WithinBudget)
}

/// Neighbour discovery, plaintext and guarded ports. Says whether the agent listens on the port.
#[inline(always)]
fn ports(packet: &Packet, maps: &impl Maps) -> Result<bool, Reason> {
    let (port, tcp) = match packet.transport {
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

/// Whether somebody still tends the rules, where the operator would rather have no limits than old ones.
#[inline(always)]
fn heartbeat(now: u64, maps: &impl Maps) -> Result<(), Reason> {
    let heartbeat = maps.heartbeat().ok_or(Reason::Internal)?;
    if heartbeat.read() < now { Err(Reason::AgentGone) } else { Ok(()) }
}

/// Connections that the agent ended, whoever they are from: the operator meant this very connection.
#[inline(always)]
fn flow(facts: &Facts, policy: &Policy, now: u64, maps: &impl Maps) -> Result<(), Reason> {
    if policy.flows_until <= now || !facts.has(TCP) {
        return Ok(());
    }
    match maps.revoked_until(&facts.flow) {
        Some(until) if until > now => Err(Reason::RevokedFlow),
        _ => Ok(()),
    }
}

/// Allow and ban rules, asked once per source and generation. Says which class the source is in.
#[inline(always)]
fn rules<M: Maps>(
    seat: &Seat<M::Word>,
    place: Place,
    facts: &Facts,
    policy: &Policy,
    now: u64,
    maps: &M,
) -> Result<u32, Reason> {
    let line = seat.line();
    let generation = policy.rules_generation;
    let outcome = match Cached::from_bits(line.rules.read()).outcome(generation, place.tag, now) {
        Some(outcome) => outcome,
        None => {
            let rule = look_up(facts, maps)?;
            if let Some(cached) = Cached::of(rule, generation, place.tag, now)
                && !seat.is_overflow()
            {
                line.rules.write(cached.bits());
            }
            rule.outcome(now)
        }
    };
    match outcome {
        Outcome::Allowed => Err(Reason::Allowed),
        Outcome::Banned => Err(Reason::Banned),
        Outcome::Limited { class } => Ok(class),
    }
}

/// What the rules say, without asking them where there are none.
#[inline(always)]
fn look_up(facts: &Facts, maps: &impl Maps) -> Result<Rule, Reason> {
    let cell = facts.cell();
    let word = maps.cells(cell.word()).ok_or(Reason::Internal)?;
    Ok(match word.read() & cell.bit() {
        0 => Rule::default(),
        _ => maps.rule(facts.address()).unwrap_or_default(),
    })
}

/// Debts that the agent charged: far enough over, and the NIC answers for it.
#[inline(always)]
fn http_debts<W: Word>(line: &Line<W>, class: &Class, now: u64) -> Result<(), Reason> {
    if gcra::debt(&line.requests, now) > class.request_threshold {
        return Err(Reason::RequestDebt);
    }
    if gcra::debt(&line.auth_failures, now) > class.auth_failure_threshold {
        return Err(Reason::AuthFailureDebt);
    }
    Ok(())
}

/// New connections of sources that have not authenticated lately, all that come by one interface together: a flood at
/// one is nothing to strangers at another.
#[inline(always)]
fn breaker(policy: &Policy, now: u64, maps: &impl Maps) -> Result<(), Reason> {
    let breaker = maps.breaker().ok_or(Reason::Internal)?;
    if gcra::admits(breaker, now, policy.breaker, 1) { Ok(()) } else { Err(Reason::Breaker) }
}

/// The budget that an IPv6 source shares with its site.
#[inline(always)]
fn site(facts: &Facts, event: Event, class: &Class, shape: Shape, maps: &impl Maps) -> Result<(), Reason> {
    let Some(key) = facts.site(shape.ipv6_site_mask) else { return Ok(()) };
    let place = shape.place(key);
    let group = maps.group(place.group).ok_or(Reason::Internal)?;
    // A site that shares its line with newcomers for want of one of its own is limited with them. Should its
    // line change hands in between, one event lands on the new owner.
    let seat = group.seat(key, place, event.now);
    Budgets::of_site(class).charge(seat.line(), event).map_err(|_| Reason::SiteBudget)
}

/// What a packet costs.
#[derive(Clone, Copy)]
struct Event {
    blocks: u64,
    now: u64,
    opens: bool,
}

/// What a line may be charged.
struct Budgets {
    bytes: Limit,
    connections: Limit,
    packets: Limit,
}

impl Budgets {
    #[inline(always)]
    fn of_site(class: &Class) -> Self {
        Self { bytes: class.site_bytes, connections: class.site_connections, packets: class.site_packets }
    }

    #[inline(always)]
    fn of_source(class: &Class) -> Self {
        Self { bytes: class.bytes, connections: class.connections, packets: class.packets }
    }

    /// Packets, then bytes, then new connections. What an earlier budget has been charged stays charged when a
    /// later one refuses: the packet did come.
    #[inline(always)]
    fn charge<W: Word>(&self, line: &Line<W>, event: Event) -> Result<(), Reason> {
        if !gcra::admits(&line.packets, event.now, self.packets, 1) {
            return Err(Reason::PacketBudget);
        }
        if !gcra::admits(&line.bytes, event.now, self.bytes, event.blocks) {
            return Err(Reason::ByteBudget);
        }
        if event.opens && !gcra::admits(&line.connections, event.now, self.connections, 1) {
            return Err(Reason::ConnectionBudget);
        }
        Ok(())
    }
}
