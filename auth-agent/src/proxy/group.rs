//! The endpoints of one upstream, and the tasks that look after them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use super::balance::{self, Candidate};
use super::connect::Target;
use super::ejection::Failure;
use super::endpoint::{Endpoint, Settings, Ticket};
use super::queue::{self, Waiting};
use super::report::{EndpointStatus, Totals};
use super::resolve::{self, Resolve};
use super::retry::Budget;
use super::tls::{ClientTls, UpstreamTlsError};
use super::{check, report};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Address, Balance, Place, Scheme, Upstream};
use crate::refusal::Refusal;

/// Between two rounds of upkeep.
const ROUND: Duration = Duration::from_millis(500);
/// Rounds between two looks at files.
const ROUNDS_PER_LOOK: u32 = 2;
/// A client is never told to come back sooner.
const LEAST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// One upstream.
#[derive(Debug)]
pub(super) struct Group {
    /// What happened at endpoints that are members no more, by their name in the configuration.
    former: Mutex<BTreeMap<String, Totals>>,
    members: ArcSwap<Vec<Arc<Endpoint>>>,
    pub report: report::Counts,
    pub retries: Budget,
    pub settings: Arc<Settings>,
    /// Whether names have been looked up at least once.
    settled: watch::Sender<bool>,
    turn: AtomicUsize,
    /// Why names can't be looked up.
    unresolved: Mutex<Option<String>>,
}

/// What there is for a request.
#[derive(Debug)]
pub(super) enum Pick {
    /// No endpoint; until it is worth another look.
    Down(Duration),
    /// None that has room.
    Full,
    Picked(Ticket),
}

impl Group {
    fn new(upstream: &Upstream, connect: Duration) -> Result<Self, UpstreamTlsError> {
        let needs_tls = upstream.endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https);
        let tls = if needs_tls { Some(ClientTls::new(upstream)?) } else { None };
        let waiting = Waiting::default();
        let settings = Arc::new(Settings { connect, tls, upstream: upstream.clone(), waiting });
        let group = Self {
            former: Mutex::default(),
            members: ArcSwap::default(),
            report: report::Counts::default(),
            retries: Budget::default(),
            settings,
            settled: watch::Sender::new(names(upstream).next().is_none()),
            turn: AtomicUsize::new(0),
            unresolved: Mutex::default(),
        };
        group.renew(&[]);
        Ok(group)
    }

    /// The endpoints there are now.
    pub fn members(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.members.load_full()
    }

    /// An endpoint that was not `tried`, and has room.
    pub async fn admit(&self, tried: &[u64], key: u64) -> Result<Ticket, Refusal> {
        if !self.settings.waiting.is_taken(tried) {
            match self.pick(tried, key) {
                Pick::Picked(ticket) => return Ok(ticket),
                Pick::Down(retry_after) if *self.settled.borrow() => {
                    return Err(Refusal::UpstreamDown { retry_after });
                }
                Pick::Down(_) => Box::pin(self.settle()).await,
                Pick::Full => {}
            }
        }
        // What a request seldom needs is not to make room for in each.
        Box::pin(queue::wait(self, tried, key)).await
    }

    /// Waits for names to be looked up for the first time, as long as for a connection.
    async fn settle(&self) {
        let mut settled = self.settled.subscribe();
        let _ = timeout(self.settings.connect, settled.wait_for(|settled| *settled)).await;
    }

    /// The same, if there is one at once.
    pub fn pick(&self, tried: &[u64], key: u64) -> Pick {
        let members = self.members.load();
        let balance = self.settings.upstream.balance;
        let turn = if balance == Balance::PrincipalHash { 0 } else { self.turn.fetch_add(1, Relaxed) };
        let is_open = |endpoint: &Arc<Endpoint>| !tried.contains(&endpoint.mark()) && endpoint.is_in();
        // Others may take the room that was seen.
        for _ in 0..=members.len() {
            let chosen = balance::choose(balance, &members, turn, key, |endpoint| {
                endpoint.has_room() && is_open(endpoint)
            });
            let Some(chosen) = chosen else { break };
            if let Some(ticket) = Ticket::enter(&members[chosen]) {
                return Pick::Picked(ticket);
            }
        }
        if members.iter().any(is_open) { Pick::Full } else { Pick::Down(self.down_for(&members)) }
    }

    /// Until one of them may be back.
    fn down_for(&self, members: &[Arc<Endpoint>]) -> Duration {
        let upstream = &self.settings.upstream;
        let ejected = members
            .iter()
            .filter(|endpoint| endpoint.is_healthy())
            .filter_map(|endpoint| endpoint.ejection());
        let checked = upstream.health_check.as_ref().map(|check| check.interval);
        let resolved = members.is_empty().then_some(upstream.resolve_every);
        ejected.chain(checked).chain(resolved).min().unwrap_or_default().max(LEAST_RETRY_AFTER)
    }

    /// Requests in flight to all endpoints.
    pub fn in_flight(&self) -> usize {
        self.members.load().iter().map(Candidate::in_flight).sum()
    }

    /// Notes that a request failed at `endpoint`.
    pub fn failed(&self, endpoint: &Arc<Endpoint>, failure: Failure, why: String) {
        let members = self.members.load();
        let last = !members.iter().any(|other| !Arc::ptr_eq(other, endpoint) && other.is_in());
        let upstream = &self.settings.upstream.name;
        if endpoint.failed(failure, why, last, Monotonic::now()) {
            let period = endpoint.ejection().unwrap_or_default();
            warn!(%upstream, endpoint = %endpoint.label, ?period, "endpoint ejected");
        }
    }

    /// Puts the endpoints together: of names, those of `addresses`, which are in the order of the names. Whoever stays
    /// keeps its connections and what is known of it.
    fn renew(&self, addresses: &[Vec<SocketAddr>]) {
        let (old, mut addresses) = (self.members.load(), addresses.iter());
        let of = |address: &Address, target: Target| {
            let known = old.iter().find(|endpoint| endpoint.is_at(&target, address));
            known.map_or_else(|| Arc::new(Endpoint::new(address, target, &self.settings)), Arc::clone)
        };
        let mut members = Vec::new();
        for address in &self.settings.upstream.endpoints {
            match &address.place {
                Place::Name(..) => {
                    let found = addresses.next().into_iter().flatten();
                    members.extend(found.map(|socket| of(address, Target::Socket(*socket))));
                }
                Place::Socket(socket) => members.push(of(address, Target::Socket(*socket))),
                Place::Unix(path) => members.push(of(address, Target::Unix(path.clone()))),
            }
        }
        let is_member = |endpoint: &Arc<Endpoint>| members.iter().any(|member| Arc::ptr_eq(member, endpoint));
        for left in old.iter().filter(|endpoint| !is_member(endpoint)) {
            let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
            former.entry(left.name.clone()).or_default().add(Totals::of(&EndpointStatus::of(left)));
        }
        self.members.store(Arc::new(members));
        self.settings.waiting.changed();
    }

    /// What happened at endpoints that are members no more, by their name in the configuration.
    pub fn former(&self) -> BTreeMap<String, Totals> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why names can't be looked up.
    pub fn unresolved(&self) -> Option<String> {
        self.unresolved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn names(upstream: &Upstream) -> impl Iterator<Item = (&str, u16)> {
    upstream.endpoints.iter().filter_map(|address| match &address.place {
        Place::Name(name, port) => Some((&**name, *port)),
        Place::Socket(_) | Place::Unix(_) => None,
    })
}

/// A group with the tasks that look after it; they end with it.
#[derive(Debug)]
pub(super) struct Kept {
    pub group: Arc<Group>,
    tasks: Vec<AbortHandle>,
}

impl Kept {
    /// Must be called within a tokio runtime.
    pub fn new(
        upstream: &Upstream,
        connect: Duration,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, UpstreamTlsError> {
        let group = Arc::new(Group::new(upstream, connect)?);
        let mut tasks = vec![tokio::spawn(tidy(Arc::clone(&group))).abort_handle()];
        if names(upstream).next().is_some() {
            tasks.push(tokio::spawn(look_up(Arc::clone(&group), resolver)).abort_handle());
        }
        if upstream.health_check.is_some() {
            tasks.push(tokio::spawn(watch_health(Arc::clone(&group))).abort_handle());
        }
        Ok(Self { group, tasks })
    }

    /// Whether it is what these would make.
    pub fn is_as(&self, upstream: &Upstream, connect: Duration) -> bool {
        self.group.settings.upstream == *upstream && self.group.settings.connect == connect
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Closes connections that have been idle for long enough, tells of ejections that have ended, and reads files again that
/// have changed.
async fn tidy(group: Arc<Group>) {
    let most = group.settings.upstream.idle_timeout.as_millis().div_ceil(ROUND.as_millis());
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_u32.. {
        rounds.tick().await;
        for endpoint in group.members().iter() {
            endpoint.tidy(most);
            if endpoint.end_ejection() {
                group.settings.waiting.made_room();
            }
        }
        if round % ROUNDS_PER_LOOK == 0 {
            refresh(&group).await;
        }
    }
}

async fn refresh(group: &Arc<Group>) {
    if group.settings.tls.as_ref().is_none_or(|tls| !tls.has_files()) {
        return;
    }
    let settings = Arc::clone(&group.settings);
    let refresh = move || settings.tls.as_ref().and_then(|tls| tls.refresh(UnixTime::now()));
    if let Ok(Some(error)) = spawn_blocking(refresh).await {
        warn!(upstream = %group.settings.upstream.name, %error, "the files as they were stay in use");
    }
}

/// Looks names up again and again.
async fn look_up(group: Arc<Group>, resolver: Arc<dyn Resolve>) {
    /// Sooner, while there is nothing to go by.
    const AGAIN: Duration = Duration::from_secs(1);
    let upstream = &group.settings.upstream;
    let mut known: Vec<Vec<SocketAddr>> = vec![Vec::new(); names(upstream).count()];
    loop {
        let mut problem = None;
        let before = known.clone();
        for ((name, port), known) in names(upstream).zip(&mut known) {
            match resolve::addresses(&resolver, name, port).await {
                Ok(addresses) => *known = addresses,
                Err(why) => problem = Some(why),
            }
        }
        if known != before {
            info!(upstream = %upstream.name, addresses = ?known, "endpoints of names");
            group.renew(&known);
        }
        let news = problem.clone();
        let old =
            std::mem::replace(&mut *group.unresolved.lock().unwrap_or_else(PoisonError::into_inner), problem);
        if let Some(why) = news.filter(|news| old.as_ref() != Some(news)) {
            warn!(upstream = %upstream.name, "{why}; the addresses as they were stay in use");
        }
        group.settled.send_replace(true);
        let lacking = known.iter().any(Vec::is_empty);
        sleep(if lacking { AGAIN.min(upstream.resolve_every) } else { upstream.resolve_every }).await;
    }
}

/// Asks each endpoint for its health, one interval after the other.
async fn watch_health(group: Arc<Group>) {
    let Some(health) = group.settings.upstream.health_check.clone() else { return };
    loop {
        let began = Instant::now();
        let members = group.members();
        let checks = members.iter().map(|endpoint| {
            let (endpoint, health) = (Arc::clone(endpoint), health.clone());
            tokio::spawn(async move {
                let outcome = check::check(&endpoint, &health).await;
                let why = outcome.as_ref().err().cloned();
                (endpoint.checked(outcome), endpoint, why)
            })
        });
        // They run side by side; none takes longer than its own timeout.
        for check in checks.collect::<Vec<_>>() {
            if let Ok((true, endpoint, why)) = check.await {
                group.settings.waiting.changed();
                let upstream = &group.settings.upstream.name;
                match why {
                    None => info!(%upstream, endpoint = %endpoint.label, "endpoint is healthy again"),
                    Some(why) => warn!(%upstream, endpoint = %endpoint.label, why, "endpoint is unhealthy"),
                }
            }
        }
        tokio::time::sleep_until(began + health.interval).await;
    }
}
