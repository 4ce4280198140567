//! What the operator is told of the upstreams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::balance::Candidate;
use super::endpoint::Endpoint;
use super::group::{Group, Kept};
use crate::clock::UnixTime;

/// What happened at one upstream since it was first configured.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests that were sent once more.
    pub retries: AtomicU64,
    /// Retries that there was no budget for.
    pub retries_refused: AtomicU64,
}

/// The upstreams that are configured now, for whoever asks.
#[derive(Debug, Default)]
pub struct Board(ArcSwap<Vec<Arc<Kept>>>);

impl Board {
    pub(super) fn show(&self, upstreams: &[Arc<Kept>]) {
        self.0.store(Arc::new(upstreams.to_vec()));
    }

    /// How they are doing, in the order of the configuration.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.0.load().iter().map(|kept| UpstreamStatus::of(&kept.group)).collect()
    }
}

/// What happened at one endpoint, or at several.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Totals {
    /// Responses that broke off, or stopped coming.
    pub broken: u64,
    /// Connections that were opened.
    pub connects: u64,
    /// Times that it was ejected.
    pub ejections: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Requests that were sent to it.
    pub requests: u64,
}

impl Totals {
    /// Those of `endpoint`.
    pub fn of(endpoint: &EndpointStatus) -> Self {
        let EndpointStatus { broken, connects, ejections, failures, requests, .. } = *endpoint;
        Self { broken, connects, ejections, failures, requests }
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.broken += other.broken;
        self.connects += other.connects;
        self.ejections += other.ejections;
        self.failures += other.failures;
        self.requests += other.requests;
    }
}

/// How one upstream is doing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct UpstreamStatus {
    /// Its endpoints.
    pub endpoints: Vec<EndpointStatus>,
    /// What happened at addresses that a name of it had before, by that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<String, Totals>,
    /// Its name.
    pub name: String,
    /// Requests that were sent once more.
    pub retries: u64,
    /// Retries that there was no budget for.
    pub retries_refused: u64,
    /// Why a name of it can't be looked up; absent: all of them can.
    pub unresolved: Option<String>,
    /// Requests that wait for room.
    pub waiting: usize,
}

impl UpstreamStatus {
    fn of(group: &Group) -> Self {
        let counts = &group.report;
        Self {
            endpoints: group.members().iter().map(EndpointStatus::of).collect(),
            former: group.former(),
            name: group.settings.upstream.name.to_string(),
            retries: counts.retries.load(Relaxed),
            retries_refused: counts.retries_refused.load(Relaxed),
            unresolved: group.unresolved(),
            waiting: group.settings.waiting.count(),
        }
    }

    /// Whether requests to it are answered `upstream-down`.
    pub fn is_down(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.state != EndpointState::In)
    }
}

/// How one endpoint is doing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// Responses that broke off, or stopped coming.
    pub broken: u64,
    /// Connections that are open, or being opened.
    #[serde(default)]
    pub connections: usize,
    /// Connections that were opened.
    pub connects: u64,
    /// For how much longer it is ejected; absent: it is not.
    pub ejected_for_seconds: Option<f64>,
    /// Times that it was ejected.
    pub ejections: u64,
    /// As the configuration names it, and the address where that is not all of it.
    pub endpoint: String,
    /// Requests that failed.
    pub failures: u64,
    /// Open connections without a request.
    pub idle: usize,
    /// Requests.
    pub in_flight: usize,
    /// What was last wrong with it.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<UnixTime>,
    /// As the configuration names it: several addresses of one DNS name share it.
    #[serde(default)]
    pub name: String,
    /// Requests that were sent to it.
    pub requests: u64,
    /// Whether requests are sent to it.
    pub state: EndpointState,
}

/// Whether requests are sent to an endpoint.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointState {
    /// Not for a while: it failed too often.
    Ejected,
    /// They are.
    In,
    /// Not before its health checks are good again.
    Unhealthy,
}

impl EndpointState {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::In => "in",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl EndpointStatus {
    pub(super) fn of(endpoint: &Arc<Endpoint>) -> Self {
        let (counts, ejection) = (&endpoint.counts, endpoint.ejection());
        let (last_error, last_error_at) = endpoint.last_error().unzip();
        Self {
            broken: counts.broken.load(Relaxed),
            connections: endpoint.connections(),
            connects: counts.connects.load(Relaxed),
            ejected_for_seconds: ejection.map(|left| left.as_secs_f64()),
            ejections: counts.ejections.load(Relaxed),
            endpoint: endpoint.label.to_string(),
            failures: counts.failures.load(Relaxed),
            idle: endpoint.idle_connections(),
            in_flight: endpoint.in_flight(),
            last_error,
            last_error_at,
            name: endpoint.name.clone(),
            requests: counts.requests.load(Relaxed),
            state: match ejection {
                _ if !endpoint.is_healthy() => EndpointState::Unhealthy,
                Some(_) => EndpointState::Ejected,
                None => EndpointState::In,
            },
        }
    }
}
