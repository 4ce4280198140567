//! Whose client certificates are believed: a bundle of authorities, and what they have revoked since.
//!
//! With `crl`, every certificate of a chain needs a list of its issuer that is not overdue: what can't be known to be
//! unrevoked is not accepted. Both are kept as their files are; what can't be used changes nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime as TlsTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tracing::{info, warn};
use x509_parser::parse_x509_crl;

use super::TlsError;
use super::pair::read;
use super::status::{ListStatus, TrustStatus};
use crate::clock::UnixTime;
use crate::config::ClientCertificates;
use crate::issuers;
use crate::stamp::Stamps;

/// Authorities and lists as they were at one time.
#[derive(Debug)]
pub(super) struct Trust {
    authorities: usize,
    /// No two are the same.
    generation: u64,
    lists: Vec<ListStatus>,
    pub verifier: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    fn read(config: &ClientCertificates) -> Result<Self, TlsError> {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let roots = issuers::bundle(&config.ca)?;
        let authorities = roots.len();
        let (mut lists, mut ders) = (Vec::new(), Vec::new());
        for path in &config.crl {
            for der in revocation_lists(path)? {
                lists.push(ListStatus {
                    next_update: next_update(path, &der)?,
                    source: path.display().to_string(),
                });
                ders.push(der);
            }
        }
        let provider = Arc::new(provider::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(ders)
            .enforce_revocation_expiration();
        if !config.required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder
            .build()
            .map_err(|error| TlsError::Trust { path: config.ca.clone(), reason: error.to_string() })?;
        Ok(Self { authorities, generation: GENERATIONS.fetch_add(1, Relaxed), lists, verifier })
    }

    /// Whether one of its lists should have been replaced by now.
    fn is_overdue(&self, now: UnixTime) -> bool {
        self.lists.iter().any(|list| list.next_update.is_some_and(|next| next <= now))
    }

    fn accepts(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let now = TlsTime::since_unix_epoch(Duration::from_secs(now.0));
        chain
            .split_first()
            .is_some_and(|(leaf, others)| self.verifier.verify_client_cert(leaf, others, now).is_ok())
    }
}

/// At least one, in PEM or, as authorities publish them, in DER.
fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let pem = || bytes.windows(PEM.len()).any(|window| window == PEM);
    if !bytes.is_empty() && bytes[0] == DER_SEQUENCE && !pem() {
        return Ok(vec![bytes.into()]);
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let lists = lists.map_err(|source| TlsError::Pem { path: path.into(), source })?;
    if lists.is_empty() { Err(TlsError::ListMissing { path: path.into() }) } else { Ok(lists) }
}

const DER_SEQUENCE: u8 = 0x30;
const PEM: &[u8] = b"-----BEGIN";

fn next_update(path: &Path, der: &[u8]) -> Result<Option<UnixTime>, TlsError> {
    let (_, list) = parse_x509_crl(der)
        .map_err(|error| TlsError::ListInvalid { path: path.into(), reason: error.to_string() })?;
    Ok(list.next_update().map(|time| UnixTime(u64::try_from(time.timestamp()).unwrap_or(0))))
}

/// Whether a chain was accepted by the latest authorities and lists.
#[derive(Debug)]
pub(super) struct Acceptance {
    /// The last seconds of the certificates that the way from the leaf to an authority goes by.
    ends: Vec<UnixTime>,
    /// When it was last found good.
    good_at: AtomicU64,
    /// The generation that it was last found good in.
    good_in: AtomicU64,
    trust: Arc<ArcSwap<Trust>>,
}

impl Acceptance {
    /// Good in `trust`, as far as that is known.
    pub fn new(known: Option<&Trust>, latest: Arc<ArcSwap<Trust>>) -> Self {
        let good_in = AtomicU64::new(known.map_or(0, |trust| trust.generation));
        Self { ends: Vec::new(), good_at: AtomicU64::new(0), good_in, trust: latest }
    }

    /// Looked at again when one of `ends` is over, which none is at `now`.
    pub fn until(self, ends: Vec<UnixTime>, now: UnixTime) -> Self {
        Self { ends, good_at: AtomicU64::new(now.0), ..self }
    }

    /// Whether the chain is accepted now. It is looked at once for each change, and once after each end.
    pub fn holds(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let trust = self.trust.load();
        let is_new = self.good_in.load(Relaxed) != trust.generation;
        if !is_new && !trust.is_overdue(now) && !self.has_ended(now) {
            return true;
        }
        let good = trust.accepts(chain, now);
        if good {
            self.good_at.store(now.0, Relaxed);
            self.good_in.store(trust.generation, Relaxed);
        }
        good
    }

    /// Whether a certificate is over that was not when the chain was last found good.
    fn has_ended(&self, now: UnixTime) -> bool {
        let good_at = UnixTime(self.good_at.load(Relaxed));
        self.ends.iter().any(|end| good_at <= *end && *end < now)
    }
}

/// The files of one listener, and what is in force of them.
#[derive(Debug)]
pub(super) struct TrustFiles {
    config: ClientCertificates,
    /// Places of listeners that this one succeeded, while connections look there.
    followers: Mutex<Vec<Weak<ArcSwap<Trust>>>>,
    latest: Arc<ArcSwap<Trust>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// SHA-256 of what is in force.
    contents: Digest,
    error: Option<String>,
    loaded: UnixTime,
    stamps: Stamps,
}

impl TrustFiles {
    /// Reads them. Blocks.
    pub fn open(config: &ClientCertificates, now: UnixTime) -> Result<Self, TlsError> {
        let (stamps, contents) = (stamps(config), contents(config)?);
        let latest = Arc::new(ArcSwap::from_pointee(Trust::read(config)?));
        let state = Mutex::new(State { contents, error: None, loaded: now, stamps });
        Ok(Self { config: config.clone(), followers: Mutex::default(), latest, state })
    }

    /// Has another place, where connections of before look, say the same from now on.
    pub fn lead(&self, follower: &Arc<ArcSwap<Trust>>) {
        follower.store(self.latest.load_full());
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(follower));
    }

    fn store(&self, trust: Trust) {
        let trust = Arc::new(trust);
        self.latest.store(Arc::clone(&trust));
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.retain(|follower| match follower.upgrade() {
            Some(follower) => {
                follower.store(Arc::clone(&trust));
                true
            }
            None => false,
        });
    }

    /// What is in force.
    pub fn latest(&self) -> &Arc<ArcSwap<Trust>> {
        &self.latest
    }

    /// Reads them if they changed; says whether something else is in force now. Blocks.
    pub fn look(&self, now: UnixTime) -> bool {
        let mut state = self.state();
        // From before the reading, so that a change in between is seen the next time.
        let stamps = stamps(&self.config);
        if state.error.is_none() && stamps.are_those_of(&state.stamps, now) {
            return false;
        }
        state.stamps = stamps;
        let read = contents(&self.config).and_then(|contents| {
            let same = state.contents == contents;
            let trust = if same { None } else { Some(Trust::read(&self.config)?) };
            state.contents = contents;
            Ok(trust)
        });
        match read {
            Ok(trust) => {
                if state.error.take().is_some() || trust.is_some() {
                    info!(ca = %self.config.ca.display(), "authorities and lists for client certificates were read");
                }
                let Some(trust) = trust else { return false };
                state.loaded = now;
                self.store(trust);
                true
            }
            Err(error) => {
                let error = error.to_string();
                if state.error.as_ref() != Some(&error) {
                    warn!(
                        error,
                        "authorities and lists for client certificates can't be used; the last good ones stay"
                    );
                }
                state.error = Some(error);
                false
            }
        }
    }

    pub fn status(&self, listener: SocketAddr) -> TrustStatus {
        let (state, trust) = (self.state(), self.latest.load());
        TrustStatus {
            authorities: trust.authorities,
            error: state.error.clone(),
            listener,
            lists: trust.lists.clone(),
            loaded: state.loaded,
            source: self.config.ca.display().to_string(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn files(config: &ClientCertificates) -> impl Iterator<Item = &Path> {
    std::iter::once(&config.ca).chain(&config.crl).map(PathBuf::as_path)
}

type Digest = [u8; 32];

fn contents(config: &ClientCertificates) -> Result<Digest, TlsError> {
    let mut context = digest::Context::new(&digest::SHA256);
    for path in files(config) {
        // Of each by itself, so that no two sets of files make one text.
        context.update(digest::digest(&digest::SHA256, &read(path)?).as_ref());
    }
    let mut contents = Digest::default();
    contents.copy_from_slice(context.finish().as_ref());
    Ok(contents)
}

fn stamps(config: &ClientCertificates) -> Stamps {
    Stamps::of(files(config))
}
