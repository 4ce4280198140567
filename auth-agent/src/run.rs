//! Starting the agent, and ending it: from a configuration to a guarded host.
//!
//! Everything that can be refused is refused before the kernel is touched; the filter is in place before the
//! first connection is accepted, and stays when the agent ends.

mod debts;
mod inheritance;

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use self::debts::Debts;
use self::inheritance::Inheritance;
use crate::allowlist::Allowlist;
use crate::api_key::{KeyRing, Pepper};
use crate::authenticate::Verify;
use crate::authorization_server::{AuthorizationServer, Sealer, SigningKeys, TokenIssuer};
use crate::ban_list::BanList;
use crate::classes::Classes;
use crate::clock::{Now, Steadiness, UnixTime};
use crate::config::Config;
use crate::control::{self, Control, ControlSocket, Extras, Followed};
use crate::counters::Counters;
use crate::credentials::Credentials;
use crate::enumeration::Enumeration;
use crate::forward_auth::{self, ForwardAuth};
use crate::gateway::Gateway;
use crate::guesses::Guesses;
use crate::handover::{self, Channel, Heir, Message, Program, Succession, Upgrader};
use crate::issuers::Issuers;
use crate::kernel::Filter;
use crate::kernel::watch::Watch;
use crate::ladder::{self, Ladder};
use crate::limits::{self, Limiter};
use crate::reload::{self, Reloader, Source};
use crate::revocation::Revocations;
use crate::service_manager;
use crate::store::Store;
use crate::tls::{Acme, Vault};
use crate::token::Verifier;

/// Between two rounds of upkeep, unless a change is due to be undone before: an expired ban is listed no longer than this, and a rule that the kernel
/// refused is tried again as often.
const UPKEEP: Duration = Duration::from_secs(5);

/// After the old agent has ended: several looks at the store.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Environment variable that sets what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
const LOG_VARIABLE: &str = "AUTH_AGENT_LOG";

/// Runs the agent until SIGTERM or SIGINT, or until another has taken over from it. With `handover`, it takes over from the
/// one that started it.
///
/// # Errors
/// Whatever keeps it from starting; nothing is half started then.
pub fn run(source: Source, handover: bool) -> Result<()> {
    let program = Program::current().context("which file is this program in?")?;
    let heir = if handover { Some(Heir::receive()?) } else { None };
    let channel = heir.as_ref().map(Heir::channel);
    let done = start(source, program, heir);
    if let (Err(error), Some(channel)) = (&done, channel) {
        // Where nobody hears it, it is in the log all the same.
        let _ = channel.send(&Message::failed(&format!("{error:#}")));
    }
    done
}

fn start(source: Source, program: Program, heir: Option<Heir>) -> Result<()> {
    let (config, text) = source.load()?;
    // Dropped, it writes what is left.
    let _log = log()?;
    let inheritance = Inheritance::new(heir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let start = Start { config: Arc::new(config), inheritance, program, source, text };
    let done = runtime.block_on(serve(start));
    // What is left are tasks of clients that have been told to go.
    runtime.shutdown_background();
    done
}

/// Whatever is asked for: below `info`, h2 logs what it can't parse, queries and all, and secrets may be in them.
const QUIET: &str = "h2=info";

/// No thread that serves waits for whoever reads the log: what there is no room for is dropped.
fn log() -> Result<WorkerGuard> {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let filter = filter(&wanted)
        .with_context(|| format!("{LOG_VARIABLE}: write it like `info` or `auth_agent=debug`"))?;
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(writer)
        .init();
    Ok(guard)
}

fn filter(wanted: &str) -> Result<EnvFilter> {
    let builder = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into());
    Ok(builder.parse(wanted)?.add_directive(QUIET.parse()?))
}

/// What an agent starts from.
struct Start {
    config: Arc<Config>,
    inheritance: Inheritance,
    program: Program,
    source: Source,
    text: String,
}

async fn serve(start: Start) -> Result<()> {
    let Start { config, mut inheritance, program, source, text } = start;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let started = UnixTime::now();
    let Opened { followed, keys, limit_secret, sealer, store, vault } =
        open_store(&config, inheritance.store.take(), started)?;
    let revocations = Arc::<Revocations>::default();
    store.load_revocations(&revocations)?;
    let tokens = Arc::new(Verifier::load(&config.issuers, config.sizes.token_bytes.get())?);
    let internal_keys = internal_keys(&config, sealer.clone(), &store, started)?;
    let issuer = token_issuer(&config, sealer, &store, &tokens, started)?;
    let issuers = Issuers::open(&config.issuers, &config.store.directory, Arc::clone(&tokens), started)?;
    let issuers = Arc::new(issuers);
    let server = inheritance.open_listeners(&config)?;
    let handed = inheritance.forward_auth.take();
    let asked = forward_auth::Listener::bind_or_take(&config, handed).await?;
    let (path, uids) = (&config.control.socket, &config.control.allow_uids);
    let mut socket = ControlSocket::succeed(path, uids, inheritance.control).await?;

    let ports: Vec<_> = server.addresses()?.iter().map(|address| address.port()).collect();
    let (filter, unattached) =
        Filter::open_with(&config.kernel, &config.limits, &ports, inheritance.pins.take())?;
    let filter = Arc::new(filter);
    let allowlist = Arc::new(Allowlist::new(config.kernel.allow.clone()));
    let limiter = Arc::new(Limiter::new(&config, Arc::clone(&allowlist), limit_secret));
    limiter.load(&store, Now::read())?;
    let counters = Arc::new(Counters::default());
    let acme = Arc::new(Acme::new(server.tls().challenges(), vault));
    let bans = Arc::<BanList>::default();
    let enumeration = Arc::new(Enumeration::new(config.limits.enumeration));
    let (ladder, steps) = Ladder::new(&config);
    let ladder = Arc::new(ladder);
    let parts = control::Parts {
        acme: Some(Arc::clone(&acme)),
        allowlist: Arc::clone(&allowlist),
        bans: Arc::clone(&bans),
        audit: config.audit,
        classes: Classes::new(&config),
        connections: server.connections(),
        counters: Arc::clone(&counters),
        edge: Arc::clone(&filter) as _,
        enumeration: Arc::clone(&enumeration),
        internal_keys: internal_keys.clone(),
        issuer: issuer.clone(),
        issuers: Arc::clone(&issuers),
        keys: Arc::clone(&keys),
        limiter: Arc::clone(&limiter),
        ladder: Arc::clone(&ladder),
        revocations: Arc::clone(&revocations),
        store: Arc::clone(&store),
        tls: server.tls(),
        tokens: Arc::clone(&tokens),
    };
    let control = Arc::new(Control::new(parts, started));
    control.apply_rules(started)?;
    let watch = tokio::spawn(watch(unattached.attach()?));

    let samples = tokio::spawn(publish_samples(Arc::clone(&filter)));
    let heartbeat = Arc::clone(&filter);
    let heartbeat = tokio::spawn(async move { heartbeat.beat().await });
    issuers.keep();
    let fresh_certificates = tokio::spawn(server.tls().watch(server.connections()));
    let token_counters = Arc::clone(&counters.tokens);
    let credentials = Credentials::new(Arc::clone(&issuers), keys, revocations, Arc::clone(&tokens))
        .remembering(&config.tokens, token_counters);
    let verify: Arc<dyn Verify> = Arc::new(credentials);
    let guesses = Arc::new(Guesses::new(&config.limits.credential_failures));
    let debts = Arc::new(Debts {
        allowlist: Arc::clone(&allowlist),
        bans,
        enumeration: Arc::clone(&enumeration),
        filter: Arc::clone(&filter),
        guesses: Arc::clone(&guesses),
        ladder: Arc::clone(&ladder),
    });
    let mut gateway = Gateway::new(Arc::clone(&config), Arc::clone(&verify), debts, counters)?;
    if let Some(issuer) = issuer {
        let revoke = Arc::clone(&control) as _;
        gateway =
            gateway.with_authorization_server(AuthorizationServer::new(&config, issuer, verify, revoke));
    }
    if let Some(keys) = internal_keys.clone() {
        gateway = gateway.with_internal_tokens(keys);
    }
    let gateway = Arc::new(gateway.with_limits(Arc::clone(&limiter)));
    let heirloom = asked.as_ref().map(forward_auth::Listener::heirloom).transpose()?;
    let addresses = server.addresses()?;

    if let Some(channel) = &inheritance.channel {
        tokio::select! {
            go = handover::wait_for_go(Arc::clone(channel)) => go?,
            _ = terminate.recv() => bail!("stopped before it took over"),
            _ = interrupt.recv() => bail!("stopped before it took over"),
        }
    }
    socket.take_place()?;
    asked.iter().for_each(forward_auth::Listener::take_place);
    let tls = server.tls();
    let serving = Arc::new(server.start(&config, Arc::clone(&gateway), allowlist));
    let upkeep = tokio::spawn(upkeep(Arc::clone(&control)));
    let counting = tokio::spawn(write_counts(Arc::clone(&control)));
    let climbing = tokio::spawn(ladder::climb(Arc::clone(&control), Arc::clone(&ladder), steps));
    // Challenges come to the listeners.
    let got_certificates = tokio::spawn(acme.keep(tls));
    let parts = reload::Parts {
        control: Arc::clone(&control),
        enumeration,
        filter: Arc::clone(&filter),
        gateway: Arc::clone(&gateway),
        guesses,
        issuers: Arc::clone(&issuers),
        ladder,
        serving: Arc::clone(&serving),
        tokens,
    };
    let reloader = Arc::new(Reloader::new(source, config, text, parts));
    let (stop_asking, asking_stopped) = oneshot::channel::<()>();
    let asking = asked.map(|listener| {
        let forward_auth = Arc::new(ForwardAuth::new(Arc::clone(&gateway), internal_keys));
        let reloader = Arc::clone(&reloader);
        // Either way, it is time.
        let stop = async { drop(asking_stopped.await) };
        tokio::spawn(listener.run(forward_auth, move || reloader.config().sizes, stop))
    });
    let parts = handover::Parts {
        control: Arc::clone(&control),
        filter: Arc::clone(&filter),
        forward_auth: heirloom,
        reloader: Arc::clone(&reloader),
        serving: Arc::clone(&serving),
        store: Arc::clone(&store),
    };
    let upgrader = Arc::new(Upgrader::new(program, parts));
    let extras = Extras {
        gateway: Arc::clone(&gateway),
        reloader: Arc::clone(&reloader),
        upgrader: Arc::clone(&upgrader),
    };
    let (stop_control, control_stopped) = oneshot::channel::<()>();
    let control_server = tokio::spawn(control::serve(socket, Arc::clone(&control), Some(extras), async {
        // Either way, it is time.
        let _ = control_stopped.await;
    }));
    tracing::info!(listeners = ?addresses, "serving");
    if let Err(error) = store.note_holder() {
        tracing::warn!(%error, "who has the store's lock is not written down");
    }
    match inheritance.channel {
        Some(channel) => drop(tokio::spawn(outlive(channel, Arc::clone(&control), followed))),
        None => service_manager::ready(),
    }
    let mut succession = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hangup.recv() => {
                gateway.journal().reopen();
                drop(tokio::spawn(hang_up(Arc::clone(&reloader))));
            }
            succession = upgrader.done() => break Some(succession),
        }
    };
    got_certificates.abort();
    if succession.is_none() {
        control.stop();
        succession = upgrader.stop().await;
    }
    // Where another agent takes over, its control socket is the one; else there is something to see until the end.
    let stops = (stop_control, stop_asking);
    let (now, at_the_end) = if succession.is_some() { (Some(stops), None) } else { (None, Some(stops)) };
    drop(now);
    let following = succession.map(|Succession { channel, followed }| {
        filter.end_samples();
        // The new agent shows the sign of life, does the upkeep, and bans.
        heartbeat.abort();
        upkeep.abort();
        climbing.abort();
        let control = Arc::clone(&control);
        let obeying = Arc::clone(&control);
        drop(spawn_blocking(move || handover::obey(&channel, &obeying)));
        tokio::spawn(control::follow(control, followed))
    });
    if following.is_none() {
        tracing::info!("stopping: the filter stays until `auth-agent detach`");
        service_manager::stopping();
    }
    serving.drain(reloader.config().timeouts.drain).await;
    drop(at_the_end);
    if let Some(asking) = asking {
        asking.await?;
    }
    filter.end_samples();
    issuers.end();
    let tasks = [watch, heartbeat, samples, fresh_certificates, upkeep, climbing, counting];
    tasks.into_iter().chain(following).for_each(|task| task.abort());
    finish(control, control_server).await?;
    spawn_blocking(move || gateway.journal().settle()).await?;
    Ok(())
}

/// Follows the agent before this one until it has ended.
async fn outlive(channel: Arc<Channel>, control: Arc<Control>, followed: Followed) {
    control.set_predecessor(Some(Arc::clone(&channel)));
    let following = tokio::spawn(control::follow(Arc::clone(&control), followed));
    handover::outlive(channel).await;
    control.set_predecessor(None);
    // What it wrote last is seen, too: it wrote it before it ended.
    tokio::time::sleep(LAST_LOOK).await;
    following.abort();
    let loaded = spawn_blocking(move || control.load_debts(Now::read())).await;
    if let Err(error) = loaded.map_err(anyhow::Error::from).and_then(|loaded| Ok(loaded?)) {
        tracing::error!(%error, "what was owed at the old agent is not known here until the next start");
    }
    tracing::info!("the old agent has ended");
}

struct Opened {
    /// From before anything was read.
    followed: Followed,
    keys: Arc<KeyRing>,
    /// What whose limits and quotas are is hashed with.
    limit_secret: limits::Secret,
    sealer: Sealer,
    store: Arc<Store>,
    vault: Vault,
}

/// The store, the ring of the keys in it, what seals signing keys, and where those of certificates are.
fn open_store(config: &Config, lock: Option<File>, now: UnixTime) -> Result<Opened> {
    let store = Store::open_with(&config.store.directory, lock, now)?;
    let followed = Followed::to_now(&store)?;
    let pepper = Pepper::open(&config.store.directory, store.needs_secret()?)?;
    let sealer = Sealer::new(&pepper).context("the crypto library failed")?;
    let vault = Sealer::for_acme(&pepper).context("the crypto library failed")?;
    let vault = Vault::new(&config.store.directory, vault);
    let limit_secret = limits::Secret::new(&pepper);
    let ring = KeyRing::new(pepper, []);
    store.each_key(|key| ring.insert(key))?;
    Ok(Opened { followed, keys: Arc::new(ring), limit_secret, sealer, store: Arc::new(store), vault })
}

/// What internal tokens are signed with, where upstreams get some.
fn internal_keys(
    config: &Config,
    sealer: Sealer,
    store: &Arc<Store>,
    now: UnixTime,
) -> Result<Option<Arc<SigningKeys>>> {
    let Some(token) = &config.internal_token else { return Ok(None) };
    Ok(Some(Arc::new(SigningKeys::open_internal(token, Arc::clone(store), sealer, now)?)))
}

/// The built-in issuer, where one is configured.
fn token_issuer(
    config: &Config,
    sealer: Sealer,
    store: &Arc<Store>,
    tokens: &Arc<Verifier>,
    now: UnixTime,
) -> Result<Option<Arc<TokenIssuer>>> {
    let Some(server) = &config.authorization_server else { return Ok(None) };
    let keys = SigningKeys::open(server, Arc::clone(store), sealer, Arc::clone(tokens), now)?;
    Ok(Some(Arc::new(TokenIssuer::new(server.clone(), keys))))
}

/// For SIGHUP, which is told of the outcome in the log alone.
async fn hang_up(reloader: Arc<Reloader>) {
    let reload = move || reloader.reload().inspect_err(|error| reloader.audit_failure(error));
    match spawn_blocking(reload).await {
        Ok(Ok(changes)) => tracing::info!(changes = changes.len(), "configuration reloaded"),
        Ok(Err(error)) => tracing::error!(%error, "configuration not reloaded"),
        Err(error) => tracing::error!(%error, "reloading the configuration broke off"),
    }
}

async fn upkeep(control: Arc<Control>) {
    let mut steadiness = Steadiness::new(Now::read());
    loop {
        let control = Arc::clone(&control);
        let steady = steadiness.lasted(Now::read());
        let round = move || {
            let tidied = control.tidy_revocations(steady, UnixTime::now());
            let tidied = tidied.and(control.tidy_bans(steady, UnixTime::now()));
            let tidied = tidied.and(control.tidy_counts(steady, UnixTime::now()));
            let next = control.upkeep(UnixTime::now())?;
            tidied.map(|()| next)
        };
        let next = match spawn_blocking(round).await {
            Ok(Ok(next)) => next,
            Ok(Err(error)) => {
                tracing::error!(%error, "upkeep; it is tried again");
                None
            }
            Err(error) => {
                tracing::error!(%error, "upkeep broke off; it is tried again");
                None
            }
        };
        tokio::time::sleep(next.map_or(UPKEEP, |next| next.min(UPKEEP))).await;
    }
}

/// What quotas count and what is owed beyond a burst, for as long as this agent serves anyone: what another agent counts meanwhile is added.
async fn write_counts(control: Arc<Control>) {
    let mut rounds = tokio::time::interval(limits::FLUSH);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let control = Arc::clone(&control);
        match spawn_blocking(move || control.store_counts(Now::read())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what quotas counted is not stored; it is tried again"),
            Err(error) => tracing::error!(%error, "storing what quotas counted broke off"),
        }
    }
}

async fn watch(watch: Watch) {
    if let Err(error) = watch.run().await {
        tracing::error!(%error, "interfaces that appear are not filtered until the next start");
    }
}

async fn publish_samples(filter: Arc<Filter>) {
    if let Err(error) = filter.publish_samples().await {
        tracing::error!(%error, "`auth-agent events` shows nothing until the next start");
    }
}

async fn finish(control: Arc<Control>, control_server: JoinHandle<std::io::Result<()>>) -> Result<()> {
    if tokio::time::timeout(UPKEEP, control_server).await.is_err() {
        tracing::warn!("a client of the control socket was cut off");
    }
    spawn_blocking(move || {
        control.store_counts(Now::read()).context("store what quotas counted")?;
        control.store_uses().context("store when keys were last used")
    })
    .await?
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, subscriber};

    use super::*;

    #[test]
    fn no_level_lets_the_http2_library_log_requests() {
        for wanted in ["debug", "trace", "h2=trace", "info,h2=debug"] {
            let log = tracing_subscriber::fmt().with_env_filter(filter(wanted).unwrap()).finish();
            subscriber::with_default(log, || {
                assert!(!enabled!(target: "h2::server", Level::DEBUG), "{wanted}");
                assert!(enabled!(target: "h2::server", Level::WARN), "{wanted}");
            });
        }
    }

    #[test]
    fn the_agent_logs_at_info_unless_told_otherwise() {
        for (wanted, debug) in [("", false), ("info", false), ("auth_agent=debug", true), ("debug", true)] {
            let log = tracing_subscriber::fmt().with_env_filter(filter(wanted).unwrap()).finish();
            subscriber::with_default(log, || {
                assert!(enabled!(target: "auth_agent::serve", Level::INFO), "{wanted:?}");
                assert_eq!(enabled!(target: "auth_agent::serve", Level::DEBUG), debug, "{wanted:?}");
            });
        }
        assert!(filter("auth_agent=loud").is_err());
    }
}
