//! Keeps the keys of one issuer fresh that publishes them.
//!
//! - One fetch at a time, by [`Schedule`] alone.
//! - A fetch that fails, or brings nothing that can be used, changes nothing: the last good set stays in use until it is
//!   `keys_max_age` old, across restarts.
//! - A set that was taken replaces the one before as a whole: what it no longer holds is refused at once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::MissingKey;
use super::fetch::{self, FetchError, Fetched};
use super::saved::{self, Saved, SavedError};
use super::schedule::{Asked, Chance, Schedule};
use super::status::{IssuerStatus, listed};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Issuer, RemoteKeys};
use crate::token::{KeyFault, Verifier};

/// How long a request waits for a key that may be on its way. A fetch seldom takes a tenth of it.
pub(super) const KEY_WAIT: Duration = Duration::from_secs(2);
/// Requests that wait for keys of one issuer at a time; others are told to come again.
pub(super) const MAX_WAITERS: usize = 1_000;
/// How long the operator waits: three exchanges of five seconds, and one that was under way.
const DEMAND_WAIT: Duration = Duration::from_secs(20);
/// Between two looks at the wall clock, which may jump.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Keeper {
    directory: PathBuf,
    /// How many fetches ended.
    ended: watch::Sender<u64>,
    issuer: Issuer,
    /// The schedule changed.
    nudge: Notify,
    remote: RemoteKeys,
    state: Mutex<State>,
    tokens: Arc<Verifier>,
    /// Places for requests that wait.
    waiters: Arc<Semaphore>,
}

struct State {
    error: Option<String>,
    failures: u64,
    fetched: Option<UnixTime>,
    fetches: u64,
    save_error: Option<String>,
    schedule: Schedule,
    /// SHA-256 of the set in use: the same set anew is no change.
    set: Option<Vec<u8>>,
}

impl Keeper {
    /// For this issuer, with nothing fetched yet.
    pub fn new(
        issuer: &Issuer,
        remote: &RemoteKeys,
        directory: PathBuf,
        tokens: Arc<Verifier>,
        now: Monotonic,
    ) -> Self {
        let state = State {
            error: None,
            failures: 0,
            fetched: None,
            fetches: 0,
            save_error: None,
            schedule: Schedule::new(remote, now),
            set: None,
        };
        Self {
            directory,
            ended: watch::Sender::new(0),
            issuer: issuer.clone(),
            nudge: Notify::new(),
            remote: remote.clone(),
            state: Mutex::new(state),
            tokens,
            waiters: Arc::new(Semaphore::new(MAX_WAITERS)),
        }
    }

    /// Whether it keeps the keys of exactly this issuer.
    pub fn is_of(&self, issuer: &Issuer) -> bool {
        self.issuer == *issuer
    }

    /// Starts with the last good set, if there is one that may still be used. Blocks.
    pub fn restore(&self, now: UnixTime) {
        let issuer = &self.issuer.name;
        match restore(&self.directory, &self.issuer, &self.remote, &self.tokens, now) {
            Ok(saved) => {
                let age = now.0 - saved.fetched.0;
                tracing::info!(%issuer, age_seconds = age, url = saved.url, "starting with the last good keys");
                let mut state = self.state();
                state.fetched = Some(saved.fetched);
                state.set = Some(hash(saved.text.as_bytes()));
            }
            Err(RestoreError::Saved(SavedError::None { .. })) => {}
            Err(error) => tracing::warn!(%issuer, %error, "starting without keys, until they are fetched"),
        }
    }

    /// For as long as the agent runs.
    pub async fn keep(self: Arc<Self>) {
        loop {
            self.expire(UnixTime::now(), Monotonic::now());
            if self.state().schedule.is_due(Monotonic::now()) {
                self.refresh().await;
                continue;
            }
            let pause = self.pause(Monotonic::now(), UnixTime::now());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.nudge.notified() => {}
            }
        }
    }

    /// A token names a key that is not known.
    pub fn ask(&self, id: &str, now: Monotonic) -> MissingKey {
        let mut ended = self.ended.subscribe();
        let (asked, sooner) = {
            let schedule = &mut self.state().schedule;
            let next = schedule.next();
            (schedule.ask(id, now), schedule.next() < next)
        };
        if sooner {
            self.nudge.notify_one();
        }
        match (asked, Arc::clone(&self.waiters).try_acquire_owned()) {
            (Asked::Absent, _) => MissingKey::Absent,
            (Asked::NotNow, _) | (Asked::Coming, Err(_)) => MissingKey::NotNow,
            (Asked::Coming, Ok(place)) => MissingKey::Coming(Box::pin(async move {
                // Come or not, the token is looked at again.
                let _ = timeout(KEY_WAIT, ended.changed()).await;
                drop(place);
            })),
        }
    }

    /// Fetches now, or waits for the fetch that is under way.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn demand(&self) -> Result<(), String> {
        let mut ended = self.ended.subscribe();
        self.state().schedule.demand(Monotonic::now());
        self.nudge.notify_one();
        match timeout(DEMAND_WAIT, ended.changed()).await {
            Ok(_) => self.state().error.clone().map_or(Ok(()), Err),
            Err(_) => Err(format!("nothing within {} s", DEMAND_WAIT.as_secs())),
        }
    }

    /// As it is now.
    pub fn status(&self, now: Monotonic, today: UnixTime) -> IssuerStatus {
        let (keys, skipped) = listed(self.tokens.known_keys(&self.issuer.name));
        let state = self.state();
        let left = Duration::from_nanos(state.schedule.next().0.saturating_sub(now.0)).as_secs();
        IssuerStatus {
            error: state.error.clone(),
            failures: state.failures,
            fetched: state.fetched,
            fetches: state.fetches,
            issuer: self.issuer.issuer.clone(),
            keys,
            name: self.issuer.name.to_string(),
            next_refresh: Some(UnixTime(today.0.saturating_add(left))),
            save_error: state.save_error.clone(),
            skipped,
            source: self.issuer.keys.to_string(),
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.issuer.name
    }

    async fn refresh(self: &Arc<Self>) {
        let _under_way = UnderWay::new(self);
        let outcome = match fetch::key_set(&self.issuer, &self.remote).await {
            Ok(fetched) => {
                let keeper = Arc::clone(self);
                let taken = spawn_blocking(move || keeper.take(&fetched, UnixTime::now())).await;
                taken.unwrap_or_else(|_| Err("the agent failed at it; look at its log".to_owned()))
            }
            Err(error) => Err(error.to_string()),
        };
        self.settle(outcome, Monotonic::now(), chance());
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// Puts a set into use, and saves it. Returns how long it is fresh.
    fn take(&self, fetched: &Fetched, now: UnixTime) -> Result<Option<Duration>, String> {
        let set = hash(&fetched.text);
        let changed = self.state().set.as_ref() != Some(&set);
        if changed {
            self.tokens.replace_keys(&self.issuer.name, &fetched.text).map_err(|fault| {
                let url = fetched.url.clone();
                FetchError::Keys { fault, url }.to_string()
            })?;
            self.log_keys();
        }
        let saved = Saved {
            fetched: now,
            source: saved::source(&self.issuer, &self.remote),
            text: String::from_utf8_lossy(&fetched.text).into_owned(),
            url: fetched.url.to_string(),
        };
        let save_error =
            saved::write(&self.directory, &self.issuer, &saved).err().map(|error| error.to_string());
        if let Some(error) = &save_error {
            tracing::error!(issuer = %self.issuer.name, error, "a restart during an outage would be without keys");
        }
        let mut state = self.state();
        state.fetched = Some(now);
        state.save_error = save_error;
        state.set = Some(set);
        Ok(fetched.freshness)
    }

    fn settle(&self, outcome: Result<Option<Duration>, String>, now: Monotonic, chance: Chance) {
        let issuer = &self.issuer.name;
        let known = self.tokens.known_keys(issuer).unwrap_or_default();
        let has = |id: &str| known.keys.iter().any(|key| key.id.as_deref() == Some(id));
        let mut state = self.state();
        match outcome {
            Ok(freshness) => {
                state.fetches += 1;
                if state.error.take().is_some() {
                    tracing::info!(%issuer, "keys can be had again");
                }
                state.schedule.succeeded(freshness, has, now, chance);
            }
            Err(error) => {
                state.failures += 1;
                state.schedule.failed(now, chance);
                if state.fetched.is_some() {
                    tracing::warn!(%issuer, error, "keys could not be refreshed; the last good ones stay in use");
                } else {
                    tracing::error!(%issuer, error, "keys could not be had; the issuer's tokens are answered 503");
                }
                state.error = Some(error);
            }
        }
    }

    /// Takes keys out of use that are too old, and has others fetched at once: after a step of the wall clock, or a
    /// long sleep of the host, nothing else is due soon.
    pub fn expire(&self, now: UnixTime, monotonic: Monotonic) {
        let mut state = self.state();
        let too_old = |fetched: UnixTime| now.0.saturating_sub(fetched.0) >= self.remote.max_age.as_secs();
        if state.fetched.is_some_and(too_old) {
            (state.fetched, state.set) = (None, None);
            self.tokens.forget_keys(&self.issuer.name);
            state.schedule.demand(monotonic);
            self.nudge.notify_one();
            tracing::error!(
                issuer = %self.issuer.name,
                "the last good keys are older than keys_max_age; the issuer's tokens are answered 503"
            );
        }
    }

    /// Until there is something to do.
    fn pause(&self, now: Monotonic, today: UnixTime) -> Duration {
        let state = self.state();
        let refresh = Duration::from_nanos(state.schedule.next().0.saturating_sub(now.0));
        let age = |fetched: UnixTime| Duration::from_secs(today.0.saturating_sub(fetched.0));
        let ceiling = state.fetched.map(|fetched| self.remote.max_age.saturating_sub(age(fetched)));
        refresh.min(ceiling.unwrap_or(LONGEST_PAUSE)).min(LONGEST_PAUSE)
    }

    fn log_keys(&self) {
        let (keys, skipped) = listed(self.tokens.known_keys(&self.issuer.name));
        let ids: Vec<_> = keys.iter().map(|key| key.id.as_deref().unwrap_or("-")).collect();
        tracing::info!(issuer = %self.issuer.name, ?ids, "keys changed");
        for reason in skipped {
            tracing::warn!(issuer = %self.issuer.name, reason, "key skipped");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch; over when it is dropped, whether or not it came to its end.
struct UnderWay<'a>(&'a Keeper);

impl<'a> UnderWay<'a> {
    fn new(keeper: &'a Keeper) -> Self {
        keeper.state().schedule.started(Monotonic::now());
        Self(keeper)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state().schedule.ended();
    }
}

/// Why there is no last good set.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The configuration changed, or the program.
    #[error("the saved keys can't be used: {0}")]
    Keys(#[from] KeyFault),
    /// There is none, or none to rely on.
    #[error(transparent)]
    Saved(#[from] SavedError),
}

/// Puts the last good set into use. Blocks.
pub(super) fn restore(
    directory: &std::path::Path,
    issuer: &Issuer,
    remote: &RemoteKeys,
    tokens: &Verifier,
    now: UnixTime,
) -> Result<Saved, RestoreError> {
    let saved = saved::read(directory, issuer, remote, now)?;
    tokens.replace_keys(&issuer.name, saved.text.as_bytes())?;
    Ok(saved)
}

pub(super) fn hash(text: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, text).as_ref().to_vec()
}

/// Without random bytes there is none: everything is as late as it may be.
fn chance() -> Chance {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => Chance(f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)),
        Err(_) => Chance(0.0),
    }
}
