//! The control API: JSON over HTTP on a Unix socket, for the CLI and for `curl --unix-socket`.
//!
//! A change is durable in the store first, then in memory, then in the kernel; then it is acknowledged.
//! Changes run one at a time, each to its end even if its client goes away.

mod allows;
mod audit;
mod bans;
mod body;
mod confirm;
mod connections;
mod events;
mod filter;
mod follow;
mod issuer;
mod issuers;
mod keys;
mod ladder;
mod limits;
pub mod messages;
mod metrics;
mod problem;
mod reload;
mod request_limits;
mod requests;
mod revocations;
mod socket;
mod succession;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upgrade;
mod upstreams;

use std::io;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post};
use ipnet::IpNet;

pub use self::follow::{Followed, follow};
pub use self::problem::Problem;
pub use self::socket::{ControlSocket, SocketError};
pub use self::succession::Held;
use self::succession::Standing;
pub use crate::actor::Peer;
use crate::actor::{PerMinuteEach, carried};
use crate::allowlist::Allowlist;
use crate::api_key::KeyRing;
use crate::authorization_server::{SigningKeys, TokenIssuer};
use crate::ban_list::BanList;
use crate::classes::{self, Classes};
use crate::clock::{Now, UnixTime};
use crate::config::{Audit, Config};
use crate::connections::Connections;
use crate::counters::Counters;
use crate::edge::{Action, Edge, EdgeError, Rule};
use crate::enumeration::Enumeration;
use crate::gateway::Gateway;
use crate::handover::{Channel, Upgrader};
use crate::issuers::Issuers;
use crate::ladder::Ladder;
use crate::limits::Limiter;
use crate::reload::Reloader;
use crate::revocation::Revocations;
use crate::store::{Limit, Store, StoreError};
use crate::tls::{Acme, TlsListeners};
use crate::token::Verifier;

/// Ten years: who means longer means for ever.
const LONGEST_SECONDS: u64 = 3650 * 24 * 60 * 60;
const REMARK_CHARACTERS: usize = 256;
/// Refused users that are written down one by one.
const STRANGERS_PER_MINUTE: u32 = 10;

/// What the control API is put together from.
pub struct Parts {
    /// What gets certificates.
    pub acme: Option<Arc<Acme>>,
    /// Who passes every limit and ban.
    pub allowlist: Arc<Allowlist>,
    /// Who is banned, for the request path.
    pub bans: Arc<BanList>,
    /// What is kept of who did what.
    pub audit: Audit,
    /// The limits that the configuration states.
    pub classes: Classes,
    /// The public connections.
    pub connections: Arc<Connections>,
    /// What the request path counts.
    pub counters: Arc<Counters>,
    /// The kernel half.
    pub edge: Arc<dyn Edge>,
    /// Who asks for what is not theirs.
    pub enumeration: Arc<Enumeration>,
    /// What internal tokens are signed with, where there are any.
    pub internal_keys: Option<Arc<SigningKeys>>,
    /// The built-in issuer, where there is one.
    pub issuer: Option<Arc<TokenIssuer>>,
    /// Where the keys of tokens come from.
    pub issuers: Arc<Issuers>,
    /// API keys, for the request path.
    pub keys: Arc<KeyRing>,
    /// Who goes on whatever they are told.
    pub ladder: Arc<Ladder>,
    /// Limits and quotas of requests.
    pub limiter: Arc<Limiter>,
    /// What is revoked, for the request path.
    pub revocations: Arc<Revocations>,
    /// What survives.
    pub store: Arc<Store>,
    /// The listeners' certificates.
    pub tls: Arc<TlsListeners>,
    /// Issuers and their keys.
    pub tokens: Arc<Verifier>,
}

/// What the control API works on.
pub struct Control {
    acme: Option<Arc<Acme>>,
    allowlist: Arc<Allowlist>,
    bans: Arc<BanList>,
    audit_bounds: ArcSwap<Audit>,
    changing: Mutex<()>,
    classes: ArcSwap<Classes>,
    connections: Arc<Connections>,
    counters: Arc<Counters>,
    edge: Arc<dyn Edge>,
    enumeration: Arc<Enumeration>,
    internal_keys: Option<Arc<SigningKeys>>,
    issuer: Option<Arc<TokenIssuer>>,
    issuers: Arc<Issuers>,
    keys: Arc<KeyRing>,
    ladder: Arc<Ladder>,
    limiter: Arc<Limiter>,
    /// While it still has connections.
    predecessor: ArcSwapOption<Channel>,
    revocations: Arc<Revocations>,
    /// Why the kernel's rules are not those of the store.
    rules_error: Mutex<Option<EdgeError>>,
    standing: AtomicU8,
    started: UnixTime,
    store: Arc<Store>,
    /// Users who may not use the control socket.
    strangers: Mutex<PerMinuteEach>,
    /// Held for a round of upkeep.
    tending: Mutex<()>,
    tls: Arc<TlsListeners>,
    tokens: Arc<Verifier>,
}

impl Control {
    /// A control API over these parts; the kernel gets its rules with [`Control::apply_rules`].
    pub fn new(parts: Parts, started: UnixTime) -> Self {
        let Parts {
            acme,
            allowlist,
            bans,
            audit,
            classes,
            connections,
            counters,
            edge,
            enumeration,
            internal_keys,
            issuer,
            issuers,
            keys,
            ladder,
            limiter,
            revocations,
            store,
            tls,
            tokens,
        } = parts;
        let (changing, predecessor, rules_error, tending) = Default::default();
        Self {
            acme,
            allowlist,
            bans,
            audit_bounds: ArcSwap::from_pointee(audit),
            changing,
            classes: ArcSwap::from_pointee(classes),
            connections,
            counters,
            edge,
            enumeration,
            internal_keys,
            issuer,
            issuers,
            keys,
            ladder,
            limiter,
            predecessor,
            revocations,
            rules_error,
            standing: AtomicU8::new(Standing::Acting as u8),
            started,
            store,
            strangers: Mutex::new(PerMinuteEach::new(STRANGERS_PER_MINUTE)),
            tending,
            tls,
            tokens,
        }
    }

    /// Brings the kernel's rules in line with the store and the configuration; first what nobody confirmed in time
    /// is undone. Blocks.
    pub fn apply_rules(&self, now: UnixTime) -> Result<(), Problem> {
        let _changing = self.changing();
        self.undo_locked(now)?;
        self.apply_rules_locked(now)
    }

    /// Goes by the limits and the allowlist of another configuration, and applies the rules that come of them. Blocks.
    ///
    /// # Errors
    /// As [`Self::apply_rules`]; the change counts all the same, and is tried again.
    pub fn configure(&self, config: &Config, now: UnixTime) -> Result<(), Problem> {
        let _changing = self.changing();
        self.audit_bounds.store(Arc::new(config.audit));
        self.classes.store(Arc::new(Classes::new(config)));
        self.allowlist.configure(config.kernel.allow.clone());
        self.apply_rules_locked(now)
    }

    /// To be called every few seconds: undoes what nobody confirmed, lifts bans that are over, stores when keys were last
    /// used, and retries rules that the kernel did not take. Returns how long until the next change is due to be
    /// undone. Blocks.
    ///
    /// # Errors
    /// The first thing that failed; the others were done, or are in the log.
    pub fn upkeep(&self, now: UnixTime) -> Result<Option<Duration>, Problem> {
        let _tending = self.tending();
        if !self.keeps_up() {
            return Ok(None);
        }
        let uses = || self.store_some_uses().map(drop).map_err(Problem::from);
        let signing = |issuer: &Arc<TokenIssuer>| issuer.keys.upkeep(now).map_err(Problem::from);
        let internal = |keys: &Arc<SigningKeys>| keys.upkeep(now).map_err(Problem::from);
        // What is enforced comes first, and nothing else is done while it is changed.
        let chores = [
            ("rules", self.undo_and_lift(now)),
            ("flows", self.edge.forget_flows().map_err(Problem::Edge)),
            ("audit log", self.purge_audit(now)),
            ("uses of keys", uses()),
            ("signing keys", self.issuer.as_ref().map_or(Ok(()), signing)),
            ("keys of internal tokens", self.internal_keys.as_ref().map_or(Ok(()), internal)),
        ];
        let failed = |(chore, done): (_, Result<(), Problem>)| {
            done.inspect_err(|error| tracing::error!(chore, %error, "upkeep")).err()
        };
        // All of them are logged before the first is returned.
        let failures: Vec<_> = chores.into_iter().filter_map(failed).collect();
        failures.into_iter().next().map_or(Ok(()), Err)?;
        let next = self.store.pending()?.into_iter().map(|pending| pending.deadline).min();
        Ok(next.map(|deadline| Duration::from_secs(deadline.0.saturating_sub(now.0))))
    }

    /// Undoes what nobody confirmed, in the store, and goes by that and without the bans that are over.
    fn undo_and_lift(&self, now: UnixTime) -> Result<(), Problem> {
        let _changing = self.changing();
        let undone = self.undo_locked(now);
        // Where it failed, nobody knows how far it came.
        let unchanged =
            matches!(undone, Ok(false)) && !self.bans.has_ended(now) && self.rules_error().is_none();
        let applied = if unchanged { Ok(()) } else { self.apply_rules_locked(now) };
        undone.and(applied)
    }

    /// Stores when keys were last used, for the last moment before the agent ends. Blocks.
    pub fn store_uses(&self) -> Result<(), StoreError> {
        while self.store_some_uses()? {}
        Ok(())
    }

    /// Stores what quotas have counted, and debts of more than a burst. Blocks.
    pub fn store_counts(&self, now: Now) -> Result<(), StoreError> {
        self.limiter.flush(&self.store, now)
    }

    /// Takes over debts that another agent has stored. Blocks.
    pub fn load_debts(&self, now: Now) -> Result<(), StoreError> {
        self.limiter.load_debts(&self.store, now)
    }

    /// Forgets some of what quotas counted in periods that are over, where the wall clock has been steady for so long.
    /// Blocks.
    pub fn tidy_counts(&self, steady: Duration, now: UnixTime) -> Result<(), Problem> {
        if !self.keeps_up() {
            return Ok(());
        }
        Ok(self.limiter.purge(&self.store, steady, now)?)
    }

    /// Stores when some of the keys were last used; says whether there were any.
    fn store_some_uses(&self) -> Result<bool, StoreError> {
        let uses = self.keys.take_uses();
        if uses.is_empty() {
            return Ok(false);
        }
        match self.store.touch_keys(uses.iter()) {
            Ok(()) => self.keys.stored(uses),
            Err(error) => {
                self.keys.not_stored(uses);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Whatever fails here, the change behind it is stored: it is told so, and [`Control::upkeep`] retries.
    fn apply_rules_locked(&self, now: UnixTime) -> Result<(), Problem> {
        let rules = self.rules(now).map_err(EdgeError::new);
        let applied = rules.and_then(|rules| self.edge.apply_rules(&rules));
        *self.rules_error.lock().unwrap_or_else(PoisonError::into_inner) = applied.clone().err();
        applied.map_err(Problem::RulesPending)
    }

    fn rules(&self, now: UnixTime) -> Result<Vec<Rule>, StoreError> {
        let allowed = self.allowed()?;
        self.allowlist.set_added(allowed.iter().copied());
        let allow = allowed.into_iter().map(|network| Rule { action: Action::Allow, network });
        let bans = self.store.bans(now)?;
        self.bans.set(&bans);
        let bans =
            bans.iter().map(|ban| Rule { action: Action::Ban { until: ban.until }, network: ban.network });
        let limits = self.limits(self.store.limits()?);
        for classes::Entry { network, obstacle, .. } in limits.iter().filter(|entry| !entry.is_replaced()) {
            if let Some(obstacle) = obstacle {
                tracing::warn!(%network, obstacle, "limits that are not in force");
            }
        }
        Ok(allow.chain(bans).chain(classes::rules(&limits)).collect())
    }

    /// Every network on the allowlist.
    fn allowed(&self) -> Result<Vec<IpNet>, StoreError> {
        let added = self.store.allows()?;
        let configured = self.allowlist.configured();
        Ok(configured.iter().copied().chain(added.into_iter().map(|allow| allow.network)).collect())
    }

    /// Every class by network, with `set` as what was set while running.
    fn limits(&self, set: Vec<Limit>) -> Vec<classes::Entry> {
        self.classes.load().entries(&set, self.edge.ipv6_prefix())
    }

    /// Held from before the store is changed until memory and kernel follow: otherwise the older of two
    /// changes could reach them last.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules_error(&self) -> Option<String> {
        let error = self.rules_error.lock().unwrap_or_else(PoisonError::into_inner);
        error.as_ref().map(EdgeError::to_string)
    }
}

/// What the control API offers where an agent runs by a configuration file.
pub struct Extras {
    /// What became of requests.
    pub gateway: Arc<Gateway>,
    /// Takes the configuration anew.
    pub reloader: Arc<Reloader>,
    /// Has another agent take over.
    pub upgrader: Arc<Upgrader>,
}

/// Serves the control API, with what there is beside it, until `shutdown` comes, and then the requests that are under way.
pub async fn serve(
    socket: ControlSocket,
    control: Arc<Control>,
    extras: Option<Extras>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let socket = socket.reporting(&control);
    let service = router(control, extras).into_make_service_with_connect_info::<Peer>();
    axum::serve(socket, service).with_graceful_shutdown(shutdown).await
}

fn router(control: Arc<Control>, extras: Option<Extras>) -> Router {
    let extras = extras.map_or_else(Router::new, |Extras { gateway, reloader, upgrader }| {
        let requests = Router::new()
            .route("/v1/requests/{id}", get(requests::show))
            .with_state((Arc::clone(&control), gateway));
        let configuration = Router::new()
            .route("/v1/config/diff", get(reload::diff))
            .route("/v1/config/reload", post(reload::reload))
            .with_state(reloader);
        let upgrade = Router::new().route("/v1/upgrade", post(upgrade::upgrade)).with_state(upgrader);
        configuration.merge(upgrade).merge(requests)
    });
    let noted = Arc::clone(&control);
    parts(Arc::clone(&control))
        .merge(extras)
        .layer(DefaultBodyLimit::max(body::BODY_BYTES))
        .layer(middleware::from_fn_with_state(control, succession::refuse_changes))
        .layer(middleware::from_fn_with_state(noted, audit::note))
}

fn parts(control: Arc<Control>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::metrics))
        .route("/v1/allows", get(allows::list).post(allows::add))
        .route("/v1/allows/{network}", delete(allows::remove))
        .route("/v1/audit", get(audit::list))
        .route("/v1/bans", get(bans::list).post(bans::add))
        .route("/v1/bans/import", post(bans::import).layer(DefaultBodyLimit::max(body::IMPORT_BYTES)))
        .route("/v1/bans/{network}", delete(bans::remove))
        .route("/v1/connections", get(connections::list))
        .route("/v1/connections/end", post(connections::end))
        .route("/v1/debts", get(request_limits::debts))
        .route("/v1/detach", post(filter::detach))
        .route("/v1/events", get(events::stream))
        .route("/v1/issuers", get(issuers::list))
        .route("/v1/issuers/{name}/refresh", post(issuers::refresh))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/import", post(keys::import).layer(DefaultBodyLimit::max(body::KEYS_BYTES)))
        .route("/v1/keys/{id}", get(keys::show))
        .route("/v1/keys/{id}/revoke", post(keys::revoke))
        .route("/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/v1/limits", get(limits::list).post(limits::set))
        .route("/v1/limits/{network}", get(limits::of).delete(limits::remove))
        .route("/v1/offenders", get(ladder::list))
        .route("/v1/pending", get(confirm::list))
        .route("/v1/pending/{id}/confirm", post(confirm::confirm))
        .route("/v1/request-limits", get(request_limits::list))
        .route("/v1/request-limits/{name}", post(request_limits::set).delete(request_limits::remove))
        .route("/v1/request-limits/{name}/reset", post(request_limits::reset))
        .route(
            "/v1/revocations",
            get(revocations::list).post(revocations::revoke).layer(DefaultBodyLimit::max(body::IMPORT_BYTES)),
        )
        .route("/v1/revocations/{id}", delete(revocations::remove))
        .route("/v1/signing-keys", get(issuer::list))
        .route("/v1/signing-keys/rotate", post(issuer::rotate))
        .route("/v1/sources/{address}", get(filter::source))
        .route("/v1/status", get(filter::status))
        .route("/v1/tokens", post(issuer::issue))
        .route("/v1/upstreams", get(upstreams::list))
        .fallback(|| async { Problem::Path })
        .method_not_allowed_fallback(|| async { Problem::Method })
        .with_state(control)
}

/// Runs blocking work to its end, whether or not the client waits for it.
async fn blocking<T: Send + 'static>(
    control: Arc<Control>,
    work: impl FnOnce(&Control) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(carried(move || work(&control))).await.unwrap_or(Err(Problem::Internal))
}

fn deadline(field: &'static str, seconds: Option<u64>, now: UnixTime) -> Result<Option<UnixTime>, Problem> {
    match seconds {
        None => Ok(None),
        Some(seconds @ 1..=LONGEST_SECONDS) => Ok(Some(UnixTime(now.0.saturating_add(seconds)))),
        Some(_) => {
            let cure = "write between a second and ten years (3650d), or leave it out for no end";
            Err(Problem::field(field, cure))
        }
    }
}

/// A line of text that is safe to show in a terminal.
fn remark(field: &'static str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.chars().count() > REMARK_CHARACTERS || text.chars().any(is_unprintable) => {
            let cure = format!(
                "write at most {REMARK_CHARACTERS} characters on one line, without control characters"
            );
            Err(Problem::field(field, cure))
        }
        text => Ok(text),
    }
}

/// Control characters, and those that reorder or hide what stands around them.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
