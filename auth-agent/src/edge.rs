//! What the control API asks of the kernel half, and how the answers look.
//!
//! A trait, so that this side is tested without a kernel.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::{Monotonic, UnixTime};
use crate::config::SourceLimits;
use crate::events::{SubscribeError, Subscription, Wanted};
use crate::network::as_text;

/// The filter in the kernel. Calls may block for as long as system calls do.
pub trait Edge: Send + Sync + 'static {
    /// Makes the kernel enforce exactly these rules; the allowlist wins over every ban.
    fn apply_rules(&self, rules: &[Rule]) -> Result<(), EdgeError>;

    /// The prefix length by which IPv6 sources are told apart.
    fn ipv6_prefix(&self) -> u8;

    /// Removes the filter and its pins; the agent goes on without it.
    fn detach(&self) -> Result<Detached, EdgeError>;

    /// Has a source owe nothing of one budget, and says whether it owed anything that is its own. What newcomers without
    /// a line share stays.
    fn forget_debt(&self, source: IpAddr, budget: SourceBudget) -> Result<bool, EdgeError>;

    /// Forgets revoked flows that are over. To be called now and then; the kernel knows by itself.
    fn forget_flows(&self) -> Result<(), EdgeError>;

    /// Has the kernel drop what comes by these flows until then, at least. Says how many of them it holds: where its
    /// map is full, what ends soonest goes, or does not come in.
    fn revoke_flows(&self, flows: &[Flow], until: Monotonic) -> Result<usize, EdgeError>;

    /// What is known of one source address.
    fn source(&self, address: IpAddr) -> Result<SourceView, EdgeError>;

    /// Interfaces, counters, table.
    fn status(&self) -> Result<FilterStatus, EdgeError>;

    /// Samples of packets, from now on.
    fn subscribe(&self, wanted: Wanted) -> Result<Subscription, SubscribeError>;
}

/// What a source has a budget of, as far as operators reset it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceBudget {
    /// Failed authentications.
    AuthFailures,
    /// HTTP requests.
    Requests,
}

/// Why the kernel half could not do it, in words for the operator.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct EdgeError(String);

impl EdgeError {
    /// From the kernel half's own error.
    pub fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// One rule by source network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// What happens to the packets of these sources.
    pub action: Action,
    /// The sources.
    pub network: IpNet,
}

impl Rule {
    /// The class that it puts its sources into.
    pub fn class(&self) -> Option<&Arc<Class>> {
        match &self.action {
            Action::Limit(class) => Some(class),
            Action::Allow | Action::Ban { .. } => None,
        }
    }
}

/// What a [`Rule`] does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Passes every limit and ban.
    Allow,
    /// Dropped.
    Ban {
        /// The first second in which it no longer holds; `None`: until the rule is gone.
        until: Option<UnixTime>,
    },
    /// Held to the limits of a class, unless a longer network is in another.
    Limit(Arc<Class>),
}

/// Sources that have limits of their own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Class {
    /// What each of them may do.
    pub limits: SourceLimits,
    /// Its name, for people.
    pub name: String,
}

/// A TCP connection, as its packets show it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flow {
    /// Our end.
    pub local: SocketAddr,
    /// The client's end.
    pub peer: SocketAddr,
}

/// The state of the filter.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FilterStatus {
    /// Packets by reason.
    pub counters: Vec<Counter>,
    /// Revoked flows.
    pub flows: FlowsStatus,
    /// The interfaces it was put on.
    pub interfaces: Vec<Interface>,
    /// The source table.
    pub sources: SourcesStatus,
    /// What is not as it was asked for: an interface that is absent or in another mode, and why.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Revoked flows.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct FlowsStatus {
    /// How many the kernel can hold.
    pub capacity: u64,
    /// How many found no room since the agent started, or had to make some.
    pub overflowed: u64,
    /// How many it holds.
    pub revoked: u64,
}

/// Packets that one reason decided.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counter {
    /// How many.
    pub packets: u64,
    /// The reason's name.
    pub reason: String,
    /// `drop` or `pass`.
    pub verdict: String,
}

/// One attachment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Interface {
    /// Interface index; 0: there is no such interface any more.
    pub index: u32,
    /// `native` or `generic`; `detached`: it has no filter; `absent`: it is not there.
    pub mode: String,
    /// Interface name.
    pub name: String,
    /// Kernel's id of the filter's program; 0: it is not on it.
    pub program_id: u32,
}

/// The source table.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SourcesStatus {
    /// Lines in all.
    pub lines: u64,
    /// Lines that hold a source.
    pub used: u64,
}

/// What is known of one source.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SourceView {
    /// Until when it is banned; absent: it is not, or without end.
    pub banned_until: Option<UnixTime>,
    /// The name of the class whose limits it is held to.
    pub class: String,
    /// What it owes; if it has no line of its own, what all newcomers of its group owe together.
    pub debts: Debts,
    /// It has a line of its own; otherwise it owes nothing, or shares its group's overflow budget.
    pub in_table: bool,
    /// Until when it counts as known, having authenticated.
    pub known_until: Option<UnixTime>,
    /// What the rules in the kernel say of it: `allowed`, `banned` or `none`.
    pub rule: String,
    /// Its line holds that outcome, so that no look-up is needed.
    pub rule_cached: bool,
    /// The network that is counted as one source.
    #[serde(with = "as_text")]
    pub source: IpNet,
}

/// Debts of one source.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Debts {
    /// Failed authentications.
    pub auth_failures: Debt,
    /// Blocks of 64 bytes.
    pub bytes: Debt,
    /// New TCP connections.
    pub connections: Debt,
    /// Packets.
    pub packets: Debt,
    /// HTTP requests.
    pub requests: Debt,
}

/// One debt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Debt {
    /// Events that may come at once after a pause.
    pub burst: u64,
    /// In events: how many of the burst are used up.
    pub debt_events: u64,
    /// In time: how long until it is paid.
    pub debt_ns: u64,
    /// The kernel drops the source for this debt.
    pub dropped: bool,
    /// The next event is over the budget.
    pub over: bool,
}

/// What a detach removed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Detached {
    /// Names of the interfaces that are no longer filtered.
    pub interfaces: Vec<String>,
}
