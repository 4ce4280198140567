//! Changing the configuration of a running agent: all of it or nothing, and no connection is dropped for it.
//!
//! What can fail is done before anything is changed. Then every part goes over by itself, the filter first: between the
//! first part and the last, a request may be judged by the new limits and the old routes, never by half of one.

mod changes;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tracing::info;

pub use self::changes::Change;
use crate::clock::UnixTime;
use crate::config::{Config, ConfigErrors, KeySource};
use crate::control::Control;
use crate::enumeration::Enumeration;
use crate::fingerprint::fingerprint;
use crate::gateway::{Gateway, GatewayError};
use crate::guesses::Guesses;
use crate::issuers::{self, Issuers, TrustError};
use crate::kernel::{Filter, FilterError};
use crate::ladder::Ladder;
use crate::policy::Policies;
use crate::serve::{ServeError, Serving};
use crate::service_manager;
use crate::store::AuditOutcome;
use crate::token::{KeyError, Verifier};

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It can't be used.
    #[error("the configuration can't be used, nothing has changed:\n{0}")]
    Config(#[from] ConfigErrors),
    /// The kernel refused.
    #[error("the kernel did not take the ports, nothing else has changed: {0}")]
    Filter(#[from] FilterError),
    /// Policies, or what TLS to an upstream needs, can't be used.
    #[error("nothing has changed: {0}")]
    Gateway(#[from] GatewayError),
    /// An issuer's keys can't be read.
    #[error("nothing has changed: {0}")]
    Keys(#[from] KeyError),
    /// Another agent has taken over.
    #[error(
        "nothing has changed: another agent has taken over from this one; it goes by the file as it found it"
    )]
    Replaced,
    /// A listener can't be opened.
    #[error("nothing has changed: {0}")]
    Serve(#[from] ServeError),
    /// Something that is set up once is to be another.
    #[error(
        "nothing has changed: {} can't change while the agent runs; take it back, or start the new configuration with \
         `auth-agent upgrade`, which drops no request",
        .0.join(", ")
    )]
    Start(Vec<String>),
    /// An issuer's authorities can't be used.
    #[error("nothing has changed: issuer `{0}`: ca: {1}")]
    Trust(Arc<str>, TrustError),
    /// It is no TOML, which the parser of configurations did not see.
    #[error("the configuration can't be compared: {0}")]
    Unlike(#[from] toml::de::Error),
}

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its file.
    pub path: PathBuf,
    /// `run --replace`
    pub replace: bool,
}

impl Source {
    /// Reads it, with its text.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<(Config, String), ConfigErrors> {
        let (mut config, text) = Config::load_with_text(&self.path)?;
        config.kernel.replace |= self.replace;
        Ok((config, text))
    }
}

/// What goes by the configuration.
pub struct Parts {
    /// Limits of networks, the allowlist.
    pub control: Arc<Control>,
    /// Limits of who asks for what is not theirs.
    pub enumeration: Arc<Enumeration>,
    /// Ports and limits.
    pub filter: Arc<Filter>,
    /// Routes, upstreams, headers.
    pub gateway: Arc<Gateway>,
    /// Budgets of what can be guessed.
    pub guesses: Arc<Guesses>,
    /// Where the keys of tokens come from.
    pub issuers: Arc<Issuers>,
    /// What offences cost.
    pub ladder: Arc<Ladder>,
    /// Listeners, sizes, deadlines.
    pub serving: Arc<Serving>,
    /// Issuers and what their tokens must say.
    pub tokens: Arc<Verifier>,
}

/// Takes the configuration anew.
pub struct Reloader {
    /// Held while it changes.
    changing: Mutex<Owner>,
    current: Mutex<Current>,
    parts: Parts,
    source: Source,
}

struct Current {
    config: Arc<Config>,
    text: String,
}

/// Whose the configuration is to change.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Owner {
    Other,
    This,
}

/// Keeps the configuration as it is, until it is dropped.
pub struct HeldConfig<'a>(MutexGuard<'a, Owner>);

impl HeldConfig<'_> {
    /// Has it stay as it is for good: another agent has taken over.
    pub fn give_up(mut self) {
        *self.0 = Owner::Other;
    }
}

impl Reloader {
    /// For an agent that runs by `config`, whose text this is.
    pub fn new(source: Source, config: Arc<Config>, text: String, parts: Parts) -> Self {
        let (changing, current) = (Mutex::new(Owner::This), Mutex::new(Current { config, text }));
        Self { changing, current, parts, source }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lock().config)
    }

    /// Waits until nobody changes it, and has nobody do so.
    pub fn hold(&self) -> HeldConfig<'_> {
        HeldConfig(self.changing())
    }

    /// What would change.
    ///
    /// # Errors
    /// The file can't be used as it stands.
    pub fn diff(&self) -> Result<Vec<Change>, ReloadError> {
        let (config, text) = self.source.load()?;
        let policies = Policies::load(&config).map_err(GatewayError::from)?;
        let changes = changes::between(&self.lock().text, &text)?;
        Ok(changes::with_policies(changes, &self.parts.gateway.policy_files(), &policies.files()))
    }

    /// Takes the file as it stands now, and says what changed. Blocks; must be called within a tokio runtime.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn reload(&self) -> Result<Vec<Change>, ReloadError> {
        let owner = self.changing();
        if *owner == Owner::Other {
            return Err(ReloadError::Replaced);
        }
        service_manager::reloading();
        let done = self.reload_locked();
        if let Ok(changes) = &done {
            self.audit(changes);
        }
        service_manager::ready();
        done
    }

    /// Writes down who had the configuration taken, and what it is like now.
    fn audit(&self, changes: &[Change]) {
        let fingerprint = fingerprint(&self.lock().text);
        let fields: Vec<_> = changes.iter().map(|change| change.field.as_str()).collect();
        let files = self.parts.gateway.policy_files();
        let policies: Vec<_> = files.values().flatten().map(changes::shown_file).collect();
        let detail = json!({ "changed": fields, "policies": policies, "sha256": fingerprint });
        self.parts.control.audit("config.reload", &detail, AuditOutcome::Done, UnixTime::now());
    }

    /// The same where it was not taken, and nobody is told so.
    pub fn audit_failure(&self, error: &ReloadError) {
        let detail = json!({ "why": error.to_string() });
        self.parts.control.audit("config.reload", &detail, AuditOutcome::Refused, UnixTime::now());
    }

    fn reload_locked(&self) -> Result<Vec<Change>, ReloadError> {
        let (config, text) = self.source.load()?;
        let changes = changes::between(&self.lock().text, &text)?;
        let fixed = changes.iter().filter(|change| change.needs_start);
        let fixed: Vec<_> = fixed.map(|change| change.field.clone()).collect();
        if !fixed.is_empty() {
            return Err(ReloadError::Start(fixed));
        }
        let (config, policies) = (Arc::new(config), self.parts.gateway.policy_files());
        self.change(&self.config(), &config)?;
        *self.lock() = Current { config, text };
        let changes = changes::with_policies(changes, &policies, &self.parts.gateway.policy_files());
        for Change { field, from, to, .. } in &changes {
            info!(field, from, to, "configuration changed");
        }
        Ok(changes)
    }

    fn change(&self, before: &Config, config: &Arc<Config>) -> Result<(), ReloadError> {
        let Parts { control, enumeration, filter, gateway, guesses, issuers, ladder, serving, tokens } =
            &self.parts;
        let now = UnixTime::now();
        check_authorities(config)?;
        let prepared_tokens = tokens.prepare(&config.issuers, config.sizes.token_bytes.get())?;
        let prepared_gateway = gateway.prepare(Arc::clone(config))?;
        // Before something is served there; what is no longer goes when nothing is.
        let ports: Vec<_> = ports(before).chain(ports(config)).collect();
        filter.set_ports(&config.kernel, &ports)?;
        let prepared = serving.prepare(config).inspect_err(|_| self.put_back_ports(before))?;

        filter.limit_to(&config.limits);
        enumeration.limit_to(config.limits.enumeration);
        ladder.configure(config);
        guesses.limit_to(&config.limits.credential_failures);
        // One after the other, with nothing between that takes time: a request of this moment may meet the one without
        // the other. Routes first, so that no issuer counts before the routes that know of it. Claims that they want to
        // know are looked for from then on: what was verified before is refused for a moment, and nobody charged for it.
        gateway.change(prepared_gateway);
        tokens.change(prepared_tokens);
        if let Err(error) = issuers.change(&config.issuers, now) {
            tracing::error!(%error, "an issuer's authorities can't be used any more; its keys stay as they are");
        }
        if let Err(error) = control.configure(config, now) {
            tracing::error!(%error, "the kernel does not have the new rules yet");
        }
        serving.apply(prepared);
        if changes_client_certificates(before, config) {
            serving.end_certified();
        }
        self.put_back_ports(config);
        Ok(())
    }

    fn put_back_ports(&self, config: &Config) {
        let ports: Vec<_> = ports(config).collect();
        if let Err(error) = self.parts.filter.set_ports(&config.kernel, &ports) {
            tracing::error!(%error, "the filter takes more ports for the agent's than are");
        }
    }

    fn changing(&self) -> MutexGuard<'_, Owner> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ports(config: &Config) -> impl Iterator<Item = u16> {
    config.listeners.iter().map(|listener| listener.address.port())
}

/// Whether a listener asks for client certificates otherwise than it did, or is gone: whom they stand for was decided in
/// the handshake.
fn changes_client_certificates(before: &Config, config: &Config) -> bool {
    before.listeners.iter().filter(|listener| listener.client_certificates.is_some()).any(|listener| {
        let same = config.listeners.iter().find(|new| new.address == listener.address);
        same.is_none_or(|new| new.client_certificates != listener.client_certificates)
    })
}

fn check_authorities(config: &Config) -> Result<(), ReloadError> {
    for issuer in &config.issuers {
        if let KeySource::Remote(remote) = &issuer.keys
            && let Some(ca) = &remote.ca
        {
            issuers::bundle(ca).map_err(|error| ReloadError::Trust(Arc::clone(&issuer.name), error))?;
        }
    }
    Ok(())
}
