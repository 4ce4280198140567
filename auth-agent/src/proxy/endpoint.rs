//! One place that requests can go to: its connections, and what is known of it.
//!
//! A connection is used by the thread that opened it alone. Each thread has its own idle ones, behind a lock that only
//! the upkeep ever waits for.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use thread_local::ThreadLocal;

use super::balance::{self, Candidate};
use super::connect::{ConnectError, Opened, Stream, Target, connect};
use super::ejection::{Failure, Record};
use super::health::Health;
use super::link::Link;
use super::multiplex::Multiplexed;
use super::queue::Waiting;
use super::tls::ClientTls;
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Address, Place, Protocol, Scheme, Upstream};

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Speaks {
    /// What TLS agrees to.
    Either,
    Http1,
    Http2,
}

/// What the endpoints of one upstream share.
#[derive(Debug)]
pub(super) struct Settings {
    pub connect: Duration,
    pub tls: Option<ClientTls>,
    pub upstream: Upstream,
    pub waiting: Waiting,
}

/// One endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub counts: Counts,
    /// What health checks name as their host.
    pub host: String,
    in_flight: AtomicUsize,
    /// Until when it is ejected; 0: it is not.
    ejected_until: AtomicU64,
    idle: ThreadLocal<Mutex<VecDeque<Idle>>>,
    /// The failures in a row are not 0.
    is_failing: AtomicBool,
    is_healthy: AtomicBool,
    /// TLS did not agree to HTTP/2 when it was last asked.
    is_http1: AtomicBool,
    /// As the configuration names it, and the address where that is not all of it.
    pub label: Arc<str>,
    mark: u64,
    pub multiplexed: ThreadLocal<Multiplexed>,
    /// As the configuration names it.
    pub name: String,
    opened: Opened,
    pub settings: Arc<Settings>,
    pub speaks: Speaks,
    state: Mutex<State>,
    target: Target,
    server_name: Option<ServerName<'static>>,
}

/// What happened at one endpoint since it was first configured.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Responses that were not whole.
    pub broken: AtomicU64,
    pub connects: AtomicU64,
    pub ejections: AtomicU64,
    pub failures: AtomicU64,
    pub requests: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    health: Health,
    last_error: Option<(String, UnixTime)>,
    record: Record,
}

/// A connection that waits for a request.
#[derive(Debug)]
struct Idle {
    link: Link,
    /// Rounds of upkeep that it has been through.
    rounds: u32,
}

impl Endpoint {
    /// The endpoint that `address` has at `target`.
    pub fn new(address: &Address, target: Target, settings: &Arc<Settings>) -> Self {
        let label = match (&address.place, &target) {
            (Place::Name(..), Target::Socket(socket)) => format!("{address} ({socket})"),
            _ => address.to_string(),
        };
        Self {
            counts: Counts::default(),
            host: match &address.place {
                Place::Name(name, port) => format!("{name}:{port}"),
                Place::Socket(socket) => socket.to_string(),
                Place::Unix(_) => "localhost".to_owned(),
            },
            in_flight: AtomicUsize::new(0),
            ejected_until: AtomicU64::new(0),
            idle: ThreadLocal::new(),
            is_failing: AtomicBool::new(false),
            is_healthy: AtomicBool::new(true),
            is_http1: AtomicBool::new(false),
            mark: balance::hash(label.as_bytes()),
            label: label.into(),
            multiplexed: ThreadLocal::new(),
            name: address.to_string(),
            opened: Opened::default(),
            settings: Arc::clone(settings),
            speaks: speaks(address.scheme, settings.upstream.protocol),
            state: Mutex::default(),
            target,
            server_name: server_name(address, &settings.upstream),
        }
    }

    /// Whether it is where `label` says.
    pub fn is_at(&self, target: &Target, address: &Address) -> bool {
        self.target == *target && self.name == address.to_string()
    }

    /// What is spoken to it, now that TLS may have told; a request that `offers` to switch protocols needs HTTP/1.1.
    pub fn speaks(&self, offers: bool) -> Speaks {
        match self.speaks {
            Speaks::Either if offers || self.is_http1.load(Relaxed) => Speaks::Http1,
            speaks => speaks,
        }
    }

    /// Notes that TLS does not agree to HTTP/2.
    pub fn learn_http1(&self) {
        self.is_http1.store(true, Relaxed);
    }

    /// Whether it is connected to by TLS.
    pub fn is_tls(&self) -> bool {
        self.server_name.is_some()
    }

    /// Whether requests may be sent to it.
    pub fn is_in(&self) -> bool {
        self.is_healthy.load(Relaxed) && self.ejection().is_none()
    }

    /// Whether it may have one more request in flight.
    pub fn has_room(&self) -> bool {
        self.in_flight.load(SeqCst) < self.settings.upstream.connections.get()
    }

    /// How much longer it is ejected.
    pub fn ejection(&self) -> Option<Duration> {
        match self.ejected_until.load(Relaxed) {
            0 => None,
            until => {
                let left = until.saturating_sub(Monotonic::now().0);
                (left > 0).then(|| Duration::from_nanos(left))
            }
        }
    }

    /// Whether its ejection has ended since this was last asked.
    pub fn end_ejection(&self) -> bool {
        let until = self.ejected_until.load(Relaxed);
        let is_over = until > 0 && until <= Monotonic::now().0;
        // It may have been ejected again since.
        is_over && self.ejected_until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok()
    }

    /// A connection that was used before, the one that was used last: it is the one most likely to be open still.
    pub fn take_idle(&self) -> Option<Link> {
        self.shelf().pop_back().map(|idle| idle.link)
    }

    /// Keeps an idle connection for the next request.
    pub fn keep(&self, link: Link) {
        let most = self.settings.upstream.idle_connections;
        let mut shelf = self.shelf();
        shelf.push_back(Idle { link, rounds: 0 });
        // Never dropped under the lock: closing is a system call.
        let oldest = if shelf.len() > most { shelf.pop_front() } else { None };
        drop(shelf);
        drop(oldest);
    }

    fn shelf(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.get_or_default().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes connections that nobody used for `most` rounds, and those that the endpoint has closed.
    pub fn tidy(&self, most: u32) {
        for shelf in &self.idle {
            let over = take_over(&mut shelf.lock().unwrap_or_else(PoisonError::into_inner), most);
            drop(over);
        }
        for multiplexed in &self.multiplexed {
            multiplexed.tidy(most);
        }
    }

    /// A new connection, for what is to be spoken over it, within `limit`.
    pub async fn connect(&self, speaks: Speaks, limit: Duration) -> Result<Stream, ConnectError> {
        let settings = &self.settings;
        let tls = settings.tls.as_ref().zip(self.server_name.as_ref());
        let tls = tls.map(|(tls, name)| (tls.connector(speaks), name.clone()));
        self.counts.connects.fetch_add(1, Relaxed);
        connect(&self.target, tls, limit, &self.opened).await
    }

    /// Notes a failure; says whether it is ejected for it. It is the `last` one if no other endpoint is in.
    pub fn failed(&self, failure: Failure, why: String, last: bool, now: Monotonic) -> bool {
        self.counts.failures.fetch_add(1, Relaxed);
        self.is_failing.store(true, Relaxed);
        // What comes back may be another server.
        self.is_http1.store(false, Relaxed);
        let mut state = self.state();
        state.last_error = Some((why, UnixTime::now()));
        let ejected = state.record.fail(failure, last, &self.settings.upstream.ejection, now);
        if let Some(until) = ejected {
            self.counts.ejections.fetch_add(1, Relaxed);
            self.ejected_until.store(until.0, Relaxed);
        }
        ejected.is_some()
    }

    /// Notes that a response was not whole.
    pub fn broke_off(&self, why: &dyn std::error::Error) {
        self.counts.broken.fetch_add(1, Relaxed);
        self.state().last_error = Some((why.to_string(), UnixTime::now()));
    }

    /// Notes an answer.
    pub fn succeeded(&self) {
        if self.is_failing.load(Relaxed) {
            self.is_failing.store(false, Relaxed);
            let was_ejected = self.ejected_until.swap(0, Relaxed) > 0;
            self.state().record.succeed();
            if was_ejected {
                self.settings.waiting.made_room();
            }
        }
    }

    /// Notes what a health check says; whether that changed anything.
    pub fn checked(&self, outcome: Result<(), String>) -> bool {
        let Some(check) = &self.settings.upstream.health_check else { return false };
        let mut state = self.state();
        let changed = state.health.note(outcome.is_ok(), check);
        let is_healthy = state.health.is_healthy();
        if let Err(why) = outcome {
            state.last_error = Some((format!("health check: {why}"), UnixTime::now()));
        }
        self.is_healthy.store(is_healthy, Relaxed);
        changed
    }

    /// Whether the health checks say that it is fit.
    pub fn is_healthy(&self) -> bool {
        self.is_healthy.load(Relaxed)
    }

    /// What was last wrong with it, and when.
    pub fn last_error(&self) -> Option<(String, UnixTime)> {
        self.state().last_error.clone()
    }

    /// Connections that are open, or being opened.
    pub fn connections(&self) -> usize {
        self.opened.load(Relaxed)
    }

    /// Connections that are open and have nothing to do.
    pub fn idle_connections(&self) -> usize {
        let shelves =
            self.idle.iter().map(|shelf| shelf.lock().unwrap_or_else(PoisonError::into_inner).len());
        shelves.sum::<usize>() + self.multiplexed.iter().map(Multiplexed::idle).sum::<usize>()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what is over out of a shelf: what nobody used for `most` rounds, and what the endpoint has closed.
fn take_over(shelf: &mut VecDeque<Idle>, most: u32) -> Vec<Idle> {
    let mut over = Vec::new();
    for mut idle in std::mem::take(shelf) {
        idle.rounds += 1;
        if idle.rounds >= most || idle.link.is_over() { over.push(idle) } else { shelf.push_back(idle) }
    }
    over
}

impl Candidate for Arc<Endpoint> {
    fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    fn mark(&self) -> u64 {
        self.mark
    }
}

fn speaks(scheme: Scheme, protocol: Protocol) -> Speaks {
    match (protocol, scheme) {
        (Protocol::Http2, _) | (Protocol::Auto, Scheme::H2c) => Speaks::Http2,
        (Protocol::Auto, Scheme::Https) => Speaks::Either,
        (Protocol::Auto, Scheme::Http) | (Protocol::Http1, _) => Speaks::Http1,
    }
}

/// The name that the endpoint's certificate must be for; none where there is no TLS.
fn server_name(address: &Address, upstream: &Upstream) -> Option<ServerName<'static>> {
    if address.scheme != Scheme::Https {
        return None;
    }
    if let Some(name) = &upstream.tls.server_name {
        return ServerName::try_from(name.to_string()).ok();
    }
    match &address.place {
        Place::Name(name, _) => ServerName::try_from(name.to_string()).ok(),
        Place::Socket(socket) => Some(ServerName::from(socket.ip())),
        Place::Unix(_) => None,
    }
}

/// A request in flight to an endpoint; over when dropped.
#[derive(Debug)]
pub(super) struct Ticket(Arc<Endpoint>);

impl Ticket {
    /// One for `endpoint`, if that has room.
    pub fn enter(endpoint: &Arc<Endpoint>) -> Option<Self> {
        let most = endpoint.settings.upstream.connections.get();
        let before = endpoint.in_flight.fetch_add(1, SeqCst);
        let ticket = Self(Arc::clone(endpoint));
        (before < most).then_some(ticket)
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
        self.0.settings.waiting.made_room();
    }
}
