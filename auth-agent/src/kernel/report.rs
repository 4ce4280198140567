//! What the control API asks of the filter.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;

use auth_common::gcra::{self, Charge, Limit};
use auth_common::rules::{Cached, Outcome};
use auth_common::word::Word;
use ipnet::{IpNet, Ipv6Net};

use super::{Filter, FilterError};
use crate::clock::{Monotonic, UnixTime};
use crate::config::DEFAULT_CLASS_NAME as DEFAULT;
use crate::edge::{
    Counter, Debt, Debts, Detached, Edge, EdgeError, FilterStatus, Flow, Rule, SourceBudget, SourceView,
    SourcesStatus,
};
use crate::events::{SubscribeError, Subscription, Wanted};

impl Edge for Filter {
    fn apply_rules(&self, rules: &[Rule]) -> Result<(), EdgeError> {
        Filter::apply_rules(self, rules).map_err(EdgeError::new)
    }

    fn ipv6_prefix(&self) -> u8 {
        self.sources.shape().ipv6_mask.leading_ones() as u8
    }

    fn detach(&self) -> Result<Detached, EdgeError> {
        self.keeper.detach(&self.pin_directory).map_err(EdgeError::new)
    }

    fn forget_debt(&self, source: IpAddr, budget: SourceBudget) -> Result<bool, EdgeError> {
        Ok(self.sources.forgive(source, Monotonic::now(), |line| match budget {
            SourceBudget::AuthFailures => &line.auth_failures,
            SourceBudget::Requests => &line.requests,
        }))
    }

    fn forget_flows(&self) -> Result<(), EdgeError> {
        self.flows().sweep(Monotonic::now()).map_err(EdgeError::new)
    }

    fn revoke_flows(&self, flows: &[Flow], until: Monotonic) -> Result<usize, EdgeError> {
        self.revoke_flows(flows, until).map_err(EdgeError::new)
    }

    fn source(&self, address: IpAddr) -> Result<SourceView, EdgeError> {
        self.view(address.to_canonical(), Monotonic::now(), UnixTime::now()).map_err(EdgeError::new)
    }

    fn status(&self) -> Result<FilterStatus, EdgeError> {
        let counters = self.counters().map_err(EdgeError::new)?.into_iter();
        let counters = counters.filter(|(_, packets)| *packets != 0).map(|(reason, packets)| Counter {
            packets,
            reason: reason.name().to_owned(),
            verdict: reason.verdict().name().to_owned(),
        });
        let (interfaces, warnings) = self.keeper.status().map_err(EdgeError::new)?;
        Ok(FilterStatus {
            counters: counters.collect(),
            flows: self.flows().status(),
            interfaces,
            sources: SourcesStatus {
                lines: self.sources.capacity() as u64,
                used: self.sources.occupied(Monotonic::now()) as u64,
            },
            warnings,
        })
    }

    fn subscribe(&self, wanted: Wanted) -> Result<Subscription, SubscribeError> {
        self.events.subscribe(wanted)
    }
}

impl Filter {
    fn view(&self, address: IpAddr, now: Monotonic, wall: UnixTime) -> Result<SourceView, FilterError> {
        let rules = self.rules();
        let rule = rules.look_up(address)?;
        let outcome = rule.outcome(now.0);
        let generation = rules.policy.rules_generation;
        let tag = self.sources.place(address).tag;
        let budgets = self.budgets_of(address);
        let (requests, request_escalation) = budgets.requests;
        let (failures, failure_escalation) = budgets.auth_failures;
        let banned = outcome == Outcome::Banned && rule.banned_until != u64::MAX;
        Ok(self.sources.peek(address, |line, shared| SourceView {
            banned_until: banned.then(|| on_the_wall(rule.banned_until, now, wall)).flatten(),
            class: self
                .classes
                .load()
                .class(address)
                .map_or_else(|| DEFAULT.to_owned(), |class| class.name.clone()),
            debts: Debts {
                bytes: debt(&line.bytes, now, budgets.bytes, u64::MAX),
                auth_failures: debt(&line.auth_failures, now, failures, failure_escalation.threshold),
                connections: debt(&line.connections, now, budgets.connections, u64::MAX),
                packets: debt(&line.packets, now, budgets.packets, u64::MAX),
                requests: debt(&line.requests, now, requests, request_escalation.threshold),
            },
            in_table: !shared,
            known_until: on_the_wall(line.known_until.read(), now, wall).filter(|_| !shared),
            rule: match outcome {
                Outcome::Allowed => "allowed",
                Outcome::Banned => "banned",
                Outcome::Limited { .. } => "none",
            }
            .to_owned(),
            rule_cached: !shared
                && Cached::from_bits(line.rules.read()).outcome(generation, tag, now.0) == Some(outcome),
            source: self.network(address),
        }))
    }

    /// The network that counts as one source with `address`.
    fn network(&self, address: IpAddr) -> IpNet {
        match address {
            IpAddr::V4(_) => address.into(),
            IpAddr::V6(v6) => {
                Ipv6Net::new(v6, self.ipv6_prefix()).map_or(address.into(), |network| network.trunc().into())
            }
        }
    }
}

fn debt(arrival: &AtomicU64, now: Monotonic, limit: Limit, threshold: u64) -> Debt {
    let debt_ns = gcra::debt(arrival, now.0);
    Debt {
        burst: limit.tolerance / limit.increment,
        debt_events: debt_ns.div_ceil(limit.increment),
        debt_ns,
        dropped: debt_ns > threshold,
        over: gcra::peek(arrival, now.0, limit) != Charge::Within,
    }
}

/// A deadline on the kernel's clock as a date, rounded up; nothing where it has passed.
fn on_the_wall(deadline: u64, now: Monotonic, wall: UnixTime) -> Option<UnixTime> {
    let left = deadline.saturating_sub(now.0).div_ceil(1_000_000_000);
    (left != 0).then(|| UnixTime(wall.0.saturating_add(left)))
}
