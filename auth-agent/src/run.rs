//! Starting the agent, and ending it: from a configuration to a guarded host.
//!
//! Everything that can be refused is refused before the kernel is touched; the filter is in place before the
//! first connection is accepted, and stays when the agent ends.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use auth_common::gcra;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing_subscriber::EnvFilter;

use crate::api_key::{KeyRing, Pepper};
use crate::authenticate::Verify;
use crate::clock::{Monotonic, UnixTime};
use crate::config::Config;
use crate::control::{self, Control, ControlSocket};
use crate::counters::Counters;
use crate::gateway::Gateway;
use crate::identity::{Identity, Method};
use crate::kernel::Filter;
use crate::limits::{Charge, SourceDebts};
use crate::refusal::Refusal;
use crate::serve::Server;
use crate::store::Store;
use crate::token::Verifier;

/// How long a source counts as known after it authenticated (promise P16): long enough for a client that
/// polls every few minutes, short enough that an address that changes hands is a stranger again.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// Between two rounds of upkeep: an expired ban is listed no longer than this, and a rule that the kernel
/// refused is tried again as often.
const UPKEEP: Duration = Duration::from_secs(5);

/// Environment variable that sets what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
const LOG_VARIABLE: &str = "AUTH_AGENT_LOG";

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting; nothing is half started then.
pub fn run(config: Config) -> Result<()> {
    log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(serve(Arc::new(config)));
    // What is left are tasks of clients that have been told to go.
    runtime.shutdown_background();
    done
}

fn log() -> Result<()> {
    let filter = EnvFilter::builder()
        .with_env_var(LOG_VARIABLE)
        .with_default_directive(tracing::Level::INFO.into())
        .from_env()
        .with_context(|| format!("{LOG_VARIABLE}: write it like `info` or `auth_agent=debug`"))?;
    tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

async fn serve(config: Arc<Config>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let started = UnixTime::now();
    let (store, keys) = open_store(&config, started)?;
    let tokens = Verifier::load(&config.issuers, config.sizes.token_bytes.get())?;
    let server = Server::bind(&config)?;
    let socket = ControlSocket::bind(&config.control.socket, &config.control.allow_uids).await?;

    let ports: Vec<_> = server.addresses()?.iter().map(|address| address.port()).collect();
    let (filter, unattached) = Filter::open(&config.kernel, &config.limits, &ports)?;
    let filter = Arc::new(filter);
    let counters = Arc::new(Counters::default());
    let control = Arc::new(Control::new(
        store,
        Arc::clone(&keys),
        Arc::clone(&filter) as _,
        Arc::clone(&counters),
        config.kernel.allow.clone(),
        started,
    ));
    control.apply_rules(started)?;
    unattached.attach()?;

    let samples = tokio::spawn(publish_samples(Arc::clone(&filter)));
    let verify = Arc::new(Credentials { keys, tokens });
    let gateway = Arc::new(Gateway::new(Arc::clone(&config), verify, Arc::clone(&filter) as _, counters));
    let upkeep = tokio::spawn(upkeep(Arc::clone(&control)));
    let (stop_control, control_stopped) = oneshot::channel::<()>();
    let control_server = tokio::spawn(control::serve(socket, Arc::clone(&control), async {
        // Either way, it is time.
        let _ = control_stopped.await;
    }));
    tracing::info!(listeners = ?server.addresses()?, "serving");

    server
        .run(&config, gateway, async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping: the filter stays until `auth-agent detach`");
        })
        .await;
    drop(stop_control);
    samples.abort();
    filter.end_samples();
    finish(control, upkeep, control_server).await
}

/// The store, and the ring of the keys in it.
fn open_store(config: &Config, now: UnixTime) -> Result<(Arc<Store>, Arc<KeyRing>)> {
    let store = Store::open(&config.store.directory, now)?;
    let keys = store.keys()?;
    let pepper = Pepper::open(&config.store.directory, !keys.is_empty())?;
    let ring = KeyRing::new(pepper, &keys);
    Ok((Arc::new(store), Arc::new(ring)))
}

async fn upkeep(control: Arc<Control>) {
    let mut round = tokio::time::interval(UPKEEP);
    loop {
        round.tick().await;
        let control = Arc::clone(&control);
        match spawn_blocking(move || control.upkeep(UnixTime::now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "upkeep; it is tried again"),
            Err(error) => tracing::error!(%error, "upkeep broke off; it is tried again"),
        }
    }
}

async fn publish_samples(filter: Arc<Filter>) {
    if let Err(error) = filter.publish_samples().await {
        tracing::error!(%error, "`auth-agent events` shows nothing until the next start");
    }
}

async fn finish(
    control: Arc<Control>,
    upkeep: JoinHandle<()>,
    control_server: JoinHandle<std::io::Result<()>>,
) -> Result<()> {
    upkeep.abort();
    if tokio::time::timeout(UPKEEP, control_server).await.is_err() {
        tracing::warn!("a client of the control socket was cut off");
    }
    spawn_blocking(move || control.store_uses()).await?.context("store when keys were last used")
}

/// What credentials are verified against.
struct Credentials {
    keys: Arc<KeyRing>,
    tokens: Verifier,
}

impl Verify for Credentials {
    fn api_key(&self, key: &str, source: IpAddr, now: UnixTime) -> Result<Identity, Refusal> {
        let record = self.keys.verify(key, source, now)?;
        Ok(Identity::verified(Method::ApiKey, Arc::clone(record.name()), record.scopes().to_vec()))
    }

    fn token(&self, token: &str, now: UnixTime) -> Result<Identity, Refusal> {
        let claims = self.tokens.verify(token, now).map_err(Refusal::Token)?;
        Ok(Identity::verified(Method::Jwt, Arc::clone(claims.subject()), claims.scopes().to_vec()))
    }
}

impl SourceDebts for Filter {
    fn auth_failure_debt(&self, source: IpAddr, now: Monotonic) -> Charge {
        let (limit, _) = self.budgets().auth_failures;
        charge(self.sources().peek(source, |line, _| gcra::peek(&line.auth_failures, now.0, limit)))
    }

    fn authenticated(&self, source: IpAddr, now: Monotonic) {
        let until = now.0.saturating_add(KNOWN_FOR.as_nanos() as u64);
        self.sources().mark_known(source, Monotonic(until));
    }

    fn charge_auth_failure(&self, source: IpAddr, now: Monotonic) -> Charge {
        let (limit, escalation) = self.budgets().auth_failures;
        charge(self.sources().charge(source, now, |line| {
            gcra::charge_escalating(&line.auth_failures, now.0, limit, escalation)
        }))
    }

    fn charge_request(&self, source: IpAddr, now: Monotonic) -> Charge {
        let (limit, escalation) = self.budgets().requests;
        charge(
            self.sources().charge(source, now, |line| {
                gcra::charge_escalating(&line.requests, now.0, limit, escalation)
            }),
        )
    }
}

fn charge(charge: gcra::Charge) -> Charge {
    match charge {
        gcra::Charge::Over { retry_after } => Charge::Over { retry_after: Duration::from_nanos(retry_after) },
        gcra::Charge::Within => Charge::Within,
    }
}
