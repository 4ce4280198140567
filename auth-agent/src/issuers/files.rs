//! Key files that change while they are in use.
//!
//! They are looked at every second rather than watched (see `stamp`). A file that can't be used changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::keeper::hash;
use super::status::{IssuerStatus, listed};
use crate::clock::UnixTime;
use crate::config::Issuer;
use crate::stamp::Stamp;
use crate::token::{KeyFault, Verifier, read_keys};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// The keys of one issuer that come from a file.
pub(super) struct FileKeys {
    issuer: Issuer,
    path: PathBuf,
    state: Mutex<State>,
    tokens: Arc<Verifier>,
}

struct State {
    error: Option<String>,
    failures: u64,
    fetches: u64,
    loaded: UnixTime,
    /// SHA-256 of what is in use; absent: as it was at the start.
    set: Option<Vec<u8>>,
    stamp: Option<Stamp>,
}

impl FileKeys {
    /// What `tokens` has from there already, and what comes.
    pub fn new(issuer: &Issuer, path: &Path, tokens: Arc<Verifier>, now: UnixTime) -> Self {
        let state = State { error: None, failures: 0, fetches: 1, loaded: now, set: None, stamp: None };
        Self { issuer: issuer.clone(), path: path.to_owned(), state: Mutex::new(state), tokens }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.issuer.name
    }

    /// Whether it holds the keys of exactly this issuer.
    pub fn is_of(&self, issuer: &Issuer) -> bool {
        self.issuer == *issuer
    }

    /// As it is now.
    pub fn status(&self) -> IssuerStatus {
        let (keys, skipped) = listed(self.tokens.known_keys(&self.issuer.name));
        let state = self.state();
        IssuerStatus {
            error: state.error.clone(),
            failures: state.failures,
            fetched: Some(state.loaded),
            fetches: state.fetches,
            issuer: self.issuer.issuer.clone(),
            keys,
            name: self.issuer.name.to_string(),
            next_refresh: None,
            save_error: None,
            skipped,
            source: self.issuer.keys.to_string(),
        }
    }

    /// Reads the file if it changed. Blocks.
    pub fn look(&self, now: UnixTime) {
        let stamp = Stamp::of(&self.path).ok();
        let unchanged = {
            let state = self.state();
            state.error.is_none() && state.stamp == stamp && stamp.is_some_and(|stamp| stamp.is_settled(now))
        };
        if !unchanged {
            // What came of it is in the status.
            let _ = self.read(stamp, now);
        }
    }

    /// Reads the file now. Blocks.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn demand(&self, now: UnixTime) -> Result<(), String> {
        self.read(Stamp::of(&self.path).ok(), now)
    }

    /// `stamp` is from before the reading, so that a change in between is seen the next time.
    fn read(&self, stamp: Option<Stamp>, now: UnixTime) -> Result<(), String> {
        let taken = read_keys(&self.path).and_then(|text| self.take(&text, now));
        let mut state = self.state();
        state.stamp = stamp;
        let error = taken.err().map(|fault| format!("{}: {fault}", self.path.display()));
        match &error {
            Some(error) if state.error.as_ref() != Some(error) => {
                state.failures += 1;
                tracing::warn!(issuer = %self.issuer.name, error, "the key file can't be used; its last good keys stay");
            }
            None if state.error.is_some() => {
                tracing::info!(issuer = %self.issuer.name, "the key file can be used again");
            }
            _ => {}
        }
        state.error.clone_from(&error);
        error.map_or(Ok(()), Err)
    }

    fn take(&self, text: &[u8], now: UnixTime) -> Result<(), KeyFault> {
        let set = hash(text);
        let before = self.state().set.clone();
        if before.as_ref() == Some(&set) {
            return Ok(());
        }
        self.tokens.replace_keys(&self.issuer.name, text)?;
        let mut state = self.state();
        state.set = Some(set);
        if before.is_some() {
            state.loaded = now;
            state.fetches += 1;
            tracing::info!(issuer = %self.issuer.name, path = %self.path.display(), "keys changed");
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at it for as long as the agent runs.
pub(super) async fn watch(file: Arc<FileKeys>) {
    loop {
        let looked = Arc::clone(&file);
        if let Err(error) = spawn_blocking(move || looked.look(UnixTime::now())).await {
            let issuer = file.name();
            tracing::error!(%issuer, %error, "looking at the key file broke off; it is tried again");
        }
        sleep(LOOK).await;
    }
}
