//! Where issuers' keys come from, and what keeps them fresh.
//!
//! A file is looked at every second ([`files`]); what an issuer publishes is fetched, at the pace that it asks for within
//! bounds, and at once when a token names a key that is not known ([`keeper`], [`schedule`]). Invariants:
//!
//! - No failure takes keys out of use, but for age: `keys_max_age` after the last good fetch they are gone.
//! - Tokens of unknown keys cost an issuer at most one fetch per `refetch_interval`.
//! - What is published counts only over verified TLS, and only public keys of it.

mod cache_control;
mod discovery;
mod fetch;
mod files;
mod keeper;
mod saved;
mod schedule;
mod status;
#[cfg(test)]
mod tests;
mod trust;
mod unknown;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::task::{JoinHandle, spawn_blocking};

pub(crate) use self::fetch::{FetchError, connect_tls as connect};
use self::files::FileKeys;
use self::keeper::Keeper;
pub use self::keeper::RestoreError;
pub use self::saved::SavedError;
use self::status::listed;
pub use self::status::{IssuerKey, IssuerStatus};
pub use self::trust::{TrustError, bundle, trusted};
use crate::clock::{Monotonic, UnixTime};
use crate::config::{Issuer, KeySource};
use crate::token::{UnknownKey, Verifier};

/// Ends when keys have come that may make a refused token good, or after two seconds.
pub type KeysToCome = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What there is to hope for where a token names a key that is not known.
pub enum MissingKey {
    /// Its issuer did not have it a short while ago, or publishes none.
    Absent,
    /// It may be on its way.
    Coming(KeysToCome),
    /// It may be there, and can't be looked for yet.
    NotNow,
}

/// The sources of all issuers' keys.
pub struct Issuers {
    directory: PathBuf,
    sources: ArcSwap<Vec<Arc<Source>>>,
    /// What keeps them fresh, once that has begun.
    tasks: Mutex<Vec<Task>>,
    tokens: Arc<Verifier>,
}

enum Source {
    File(Arc<FileKeys>),
    Own(Box<Issuer>),
    Remote(Arc<Keeper>),
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Self::File(file) => file.name(),
            Self::Own(issuer) => &issuer.name,
            Self::Remote(keeper) => keeper.name(),
        }
    }

    /// Whether it is that of exactly this issuer.
    fn is_of(&self, issuer: &Issuer) -> bool {
        match self {
            Self::File(file) => file.is_of(issuer),
            Self::Own(own) => **own == *issuer,
            Self::Remote(keeper) => keeper.is_of(issuer),
        }
    }
}

/// Keeps one source fresh until it is dropped.
struct Task {
    handle: JoinHandle<()>,
    source: Arc<Source>,
}

impl Task {
    /// Nothing where there is nothing to do.
    fn of(source: &Arc<Source>) -> Option<Self> {
        let handle = match &**source {
            Source::File(file) => tokio::spawn(files::watch(Arc::clone(file))),
            Source::Own(_) => return None,
            Source::Remote(keeper) => tokio::spawn(Arc::clone(keeper).keep()),
        };
        Some(Self { handle, source: Arc::clone(source) })
    }

    /// One that broke off keeps nothing.
    fn keeps(&self, source: &Arc<Source>) -> bool {
        Arc::ptr_eq(&self.source, source) && !self.handle.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Why keys were not refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// It was tried.
    #[error("the keys of issuer `{name}` could not be refreshed; those in use stay: {error}")]
    Failed {
        /// What went wrong.
        error: String,
        /// The issuer's name.
        name: String,
    },
    /// There is no such issuer.
    #[error("there is no issuer `{0}`: `auth-agent issuer list` shows them")]
    Missing(String),
    /// There is nothing to refresh.
    #[error("the keys of issuer `{0}` are this agent's own: there is nothing to fetch")]
    Own(String),
}

impl Issuers {
    /// The sources of `issuers`, whose keys `tokens` verifies with. Where keys are fetched, those that were saved in
    /// `directory` are used until then. Needs no network. Blocks.
    ///
    /// # Errors
    /// The first `ca` bundle that can't be used.
    pub fn open(
        issuers: &[Issuer],
        directory: &Path,
        tokens: Arc<Verifier>,
        now: UnixTime,
    ) -> Result<Self, TrustError> {
        let source = |issuer| source(issuer, directory, &tokens, now).map(Arc::new);
        let sources: Vec<_> = issuers.iter().map(source).collect::<Result<_, _>>()?;
        let (directory, sources) = (directory.to_owned(), ArcSwap::from_pointee(sources));
        Ok(Self { directory, sources, tasks: Mutex::default(), tokens })
    }

    /// Keeps the keys fresh until [`Self::end`]. What goes on already is not disturbed.
    pub fn keep(&self) {
        let sources = self.sources.load();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| sources.iter().any(|source| task.keeps(source)));
        for source in sources.iter() {
            if !tasks.iter().any(|task| task.keeps(source)) {
                tasks.extend(Task::of(source));
            }
        }
    }

    /// Ends what [`Self::keep`] began.
    pub fn end(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The sources of another configuration, once [`Verifier::change`] knows its issuers; those of issuers that stay as
    /// they are stay. Blocks.
    ///
    /// # Errors
    /// As [`Self::open`]; nothing has changed then.
    pub fn change(&self, issuers: &[Issuer], now: UnixTime) -> Result<(), TrustError> {
        let before = self.sources.load();
        let sources: Vec<_> = issuers
            .iter()
            .map(|issuer| match before.iter().find(|source| source.is_of(issuer)) {
                Some(source) => Ok(Arc::clone(source)),
                None => source(issuer, &self.directory, &self.tokens, now).map(Arc::new),
            })
            .collect::<Result<_, _>>()?;
        self.sources.store(Arc::new(sources));
        self.keep();
        Ok(())
    }

    /// All issuers, in the order of the configuration.
    pub fn list(&self, now: Monotonic, today: UnixTime) -> Vec<IssuerStatus> {
        let status = |source: &Arc<Source>| match &**source {
            Source::File(file) => file.status(),
            Source::Own(issuer) => self.own(issuer),
            Source::Remote(keeper) => keeper.status(now, today),
        };
        self.sources.load().iter().map(status).collect()
    }

    /// Reads or fetches the keys of the issuer of that name now.
    ///
    /// # Errors
    /// What went wrong; keys that are in use stay.
    pub async fn refresh(&self, name: &str) -> Result<(), RefreshError> {
        let source = self.sources.load().iter().find(|source| source.name() == name).cloned();
        let done = match &*source.ok_or_else(|| RefreshError::Missing(name.to_owned()))? {
            Source::File(file) => {
                let file = Arc::clone(file);
                let read = spawn_blocking(move || file.demand(UnixTime::now())).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
            }
            Source::Own(_) => return Err(RefreshError::Own(name.to_owned())),
            Source::Remote(keeper) => keeper.demand().await,
        };
        done.map_err(|error| RefreshError::Failed { error, name: name.to_owned() })
    }

    /// For a token that was refused because its issuer has no such key: whether one may come, to be waited for before
    /// the token is judged again.
    pub fn missing_key(&self, token: &str, now: Monotonic) -> MissingKey {
        let Some(UnknownKey { id, issuer }) = self.tokens.unknown_key(token) else {
            return MissingKey::Absent;
        };
        let sources = self.sources.load();
        let keeper = sources.iter().find_map(|source| match &**source {
            Source::Remote(keeper) if keeper.name() == &*issuer => Some(keeper),
            _ => None,
        });
        keeper.map_or(MissingKey::Absent, |keeper| keeper.ask(&id, now))
    }

    fn own(&self, issuer: &Issuer) -> IssuerStatus {
        let (keys, skipped) = listed(self.tokens.known_keys(&issuer.name));
        IssuerStatus {
            error: None,
            failures: 0,
            fetched: None,
            fetches: 0,
            issuer: issuer.issuer.clone(),
            keys,
            name: issuer.name.to_string(),
            next_refresh: None,
            save_error: None,
            skipped,
            source: issuer.keys.to_string(),
        }
    }
}

fn source(
    issuer: &Issuer,
    directory: &Path,
    tokens: &Arc<Verifier>,
    now: UnixTime,
) -> Result<Source, TrustError> {
    Ok(match &issuer.keys {
        KeySource::File(path) => {
            for reason in listed(tokens.known_keys(&issuer.name)).1 {
                tracing::warn!(issuer = %issuer.name, keys = %issuer.keys, reason, "key skipped");
            }
            Source::File(Arc::new(FileKeys::new(issuer, path, Arc::clone(tokens), now)))
        }
        KeySource::Own => Source::Own(Box::new(issuer.clone())),
        KeySource::Remote(remote) => {
            if let Some(ca) = &remote.ca {
                bundle(ca)?;
            }
            let (directory, tokens) = (directory.to_owned(), Arc::clone(tokens));
            let keeper = Keeper::new(issuer, remote, directory, tokens, Monotonic::now());
            keeper.restore(now);
            Source::Remote(Arc::new(keeper))
        }
    })
}

/// The saved keys of issuers that publish theirs, for looking at tokens without a running agent; one sentence for each
/// such issuer, by name. Blocks.
pub fn offline(
    issuers: &[Issuer],
    directory: &Path,
    tokens: &Verifier,
    now: UnixTime,
) -> Vec<(Arc<str>, String)> {
    let restored = |issuer: &Issuer| {
        let KeySource::Remote(remote) = &issuer.keys else { return None };
        let name = &issuer.name;
        let sentence = match keeper::restore(directory, issuer, remote, tokens, now) {
            Ok(saved) => {
                let age = crate::duration::text(now.0 - saved.fetched.0);
                format!("the keys of issuer `{name}` are those fetched {age} ago from {}", saved.url)
            }
            Err(error) => {
                format!("issuer `{name}` has no keys here, only a running agent fetches them: {error}")
            }
        };
        Some((Arc::clone(name), sentence))
    };
    issuers.iter().filter_map(restored).collect()
}
