//! Certificates that are got from an ACME server (RFC 8555), and got anew before they end.
//!
//! What is wanted is what the listeners say now, whatever configuration they are from; what is had is kept sealed on
//! disk. A failure changes nothing: the certificate that is there stays in use, and it is tried again, less and less
//! often. Orders go one by one.

mod challenge;
mod http;
mod order;
mod schedule;
#[cfg(test)]
mod tests;
mod vault;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

pub use self::challenge::Challenges;
use self::order::{AcmeError, Issued};
use self::schedule::{Spread, pause, renewal};
pub use self::vault::Vault;
use super::listener::TlsListener;
use super::pair::Pair;
use super::status::AcmeStatus;
use crate::clock::UnixTime;
use crate::config;

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);

/// What a listener wants of an ACME server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    pub names: Vec<String>,
    pub settings: config::Acme,
}

impl Wanted {
    /// Under which it is kept.
    fn file(&self) -> String {
        let directory = self.settings.directory.uri().to_string();
        let about: Vec<_> = std::iter::once(&directory).chain(&self.names).map(String::as_str).collect();
        Vault::name("certificate", &about)
    }
}

/// All certificates that are got so.
pub struct Acme {
    challenges: Arc<Challenges>,
    states: Mutex<HashMap<String, State>>,
    vault: Vault,
}

/// How it goes with one certificate.
#[derive(Clone)]
struct State {
    /// When it is to be got, again.
    due: UnixTime,
    error: Option<String>,
    /// In a row.
    failures: u32,
    pair: Option<Arc<Pair>>,
}

impl Acme {
    /// Keeps things in `vault`, and has listeners answer challenges.
    pub fn new(challenges: Arc<Challenges>, vault: Vault) -> Self {
        Self { challenges, states: Mutex::default(), vault }
    }

    /// Gets what listeners want for as long as the agent runs.
    pub async fn keep(self: Arc<Self>, listeners: Arc<super::TlsListeners>) {
        loop {
            for listener in listeners.all().iter() {
                if let Some(wanted) = listener.wanted() {
                    self.attend(listener, wanted).await;
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Each certificate as it is now.
    pub fn status(&self, listeners: &super::TlsListeners) -> Vec<AcmeStatus> {
        let all = listeners.all();
        let wanted = all.iter().filter_map(|listener| Some((listener, listener.wanted()?)));
        wanted
            .map(|(listener, wanted)| {
                let state = self.states().get(&wanted.file()).cloned();
                AcmeStatus {
                    directory: wanted.settings.directory.to_string(),
                    error: state.as_ref().and_then(|state| state.error.clone()),
                    failures: state.as_ref().map_or(0, |state| state.failures),
                    listener: listener.address(),
                    names: wanted.names.clone(),
                    next: state.as_ref().map(|state| state.due),
                    not_after: state.and_then(|state| Some(state.pair?.leaf.validity.not_after)),
                }
            })
            .collect()
    }

    async fn attend(&self, listener: &TlsListener, wanted: &Wanted) {
        let file = wanted.file();
        let known = self.states().get(&file).cloned();
        let state = match known {
            Some(state) => state,
            None => {
                let state = self.restored(&file, wanted);
                self.states().insert(file.clone(), state.clone());
                state
            }
        };
        listener.manage(state.pair.clone());
        if UnixTime::now() < state.due {
            return;
        }
        let got = self.get(&file, wanted).await;
        let state = after(state, got, wanted, UnixTime::now());
        listener.manage(state.pair.clone());
        self.states().insert(file, state);
    }

    /// What is on disk, from an earlier run.
    fn restored(&self, file: &str, wanted: &Wanted) -> State {
        let issued = self.vault.read::<Issued>(file).map_err(AcmeError::from);
        let pair = issued.and_then(|issued| issued.map(|issued| issued.pair()).transpose());
        let names = wanted.names.join(", ");
        let (pair, error) = match pair {
            Ok(pair) => (pair, None),
            Err(error) => {
                warn!(names, %error, "the kept certificate is of no use; another one is got");
                (None, Some(error.to_string()))
            }
        };
        let due = match &pair {
            Some(pair) => renewal(pair.leaf.validity, wanted.settings.renew_before, spread()),
            None => {
                warn!(
                    names,
                    "no certificate yet: clients that ask for these names are refused until there is one"
                );
                UnixTime(0)
            }
        };
        State { due, error, failures: 0, pair: pair.map(Arc::new) }
    }

    async fn get(&self, file: &str, wanted: &Wanted) -> Result<Pair, AcmeError> {
        let issued = order::order(&wanted.settings, &wanted.names, &self.vault, &self.challenges).await?;
        let pair = issued.pair()?;
        self.vault.write(file, &issued)?;
        Ok(pair)
    }

    fn states(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an attempt.
fn after(state: State, got: Result<Pair, AcmeError>, wanted: &Wanted, now: UnixTime) -> State {
    let names = wanted.names.join(", ");
    match got {
        Ok(pair) => {
            info!(names, not_after = pair.leaf.validity.not_after.0, "got a certificate");
            let due = renewal(pair.leaf.validity, wanted.settings.renew_before, spread());
            State { due, error: None, failures: 0, pair: Some(Arc::new(pair)) }
        }
        Err(error) => {
            let failures = state.failures.saturating_add(1);
            let pause = pause(failures, spread());
            warn!(names, %error, failures, again_in = pause.as_secs(), "no certificate was got; what is there stays in use");
            let due = UnixTime(now.0.saturating_add(pause.as_secs()));
            State { due, error: Some(error.to_string()), failures, ..state }
        }
    }
}

fn spread() -> Spread {
    let mut byte = [0];
    // Without chance, all are as early as can be.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    Spread(byte[0])
}
