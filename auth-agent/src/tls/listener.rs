//! The TLS side of one listener: what is shown and asked for there now, and what it is made of.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use tracing::{info, warn};

use super::TlsError;
use super::acme::{Challenges, Wanted};
use super::client::ClientCertificate;
use super::handshake::{Failure, Places};
use super::pair::Pair;
use super::status::{CertificateStatus, TrustStatus};
use super::table::Table;
use super::trust::{Acceptance, Trust, TrustFiles};
use crate::clock::UnixTime;
use crate::config::{Acme, CertificateFiles, Listener, TlsVersion};
use crate::stamp::Stamps;

/// HTTP/2 first, for clients that leave it to us.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// One listener's certificates, kept as their files are.
#[derive(Debug)]
pub struct TlsListener {
    challenges: Arc<Challenges>,
    config: Listener,
    places: Arc<Places>,
    provider: Arc<CryptoProvider>,
    setup: ArcSwap<Setup>,
    shown: Mutex<Shown>,
    /// Tickets outlive changes of the certificates: they say nothing of ours, and those of clients are looked at again.
    tickets: Arc<dyn ProducesTickets>,
    trust: Option<Arc<TrustFiles>>,
    wanted: Option<Wanted>,
}

/// What listeners share.
#[derive(Debug)]
pub(super) struct Shared {
    pub acme: Option<Acme>,
    pub challenges: Arc<Challenges>,
    pub places: Arc<Places>,
}

/// What clients may be shown.
#[derive(Debug)]
struct Shown {
    files: Vec<PairFiles>,
    /// Got from an ACME server.
    managed: Option<Arc<Pair>>,
}

impl Shown {
    /// Those in files first.
    fn pairs(&self) -> Vec<Arc<Pair>> {
        self.files.iter().map(|files| &files.pair).chain(&self.managed).cloned().collect()
    }
}

/// What handshakes are made with, all of one moment.
#[derive(Debug)]
pub(super) struct Setup {
    pub config: Arc<ServerConfig>,
    pub table: Arc<Table>,
    trust: Option<Arc<Trust>>,
}

/// A pair and its files.
#[derive(Debug)]
struct PairFiles {
    error: Option<String>,
    files: CertificateFiles,
    loaded: UnixTime,
    pair: Arc<Pair>,
    stamps: Stamps,
}

impl TlsListener {
    /// Reads the files of a listener. One that was there before, and asks the same of clients, leaves it its tickets.
    /// Blocks.
    pub(super) fn open(
        config: &Listener,
        earlier: Option<&Self>,
        shared: &Shared,
        now: UnixTime,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let open = |files: &CertificateFiles| PairFiles::open(files, now);
        let files: Vec<_> = config.certificates.iter().map(open).collect::<Result<_, _>>()?;
        let settings = shared.acme.clone().filter(|_| !config.acme.is_empty());
        let wanted = settings.map(|settings| Wanted { names: config.acme.clone(), settings });
        let before = earlier.filter(|earlier| earlier.wanted == wanted);
        let shown = Shown { files, managed: before.and_then(|before| before.shown().managed.clone()) };
        let earlier =
            earlier.filter(|earlier| earlier.config.client_certificates == config.client_certificates);
        let tickets = match earlier {
            Some(earlier) => Arc::clone(&earlier.tickets),
            None => aws_lc_rs::Ticketer::new()?,
        };
        let trust = match (&config.client_certificates, earlier.and_then(|earlier| earlier.trust.clone())) {
            (Some(_), Some(trust)) => Some(trust),
            (Some(wanted), None) => Some(Arc::new(TrustFiles::open(wanted, now)?)),
            (None, _) => None,
        };
        let latest = trust.as_ref().map(|trust| trust.latest().load_full());
        let setup = Setup::new(config, &shown.pairs(), latest, &provider, &tickets)?;
        Ok(Self {
            challenges: Arc::clone(&shared.challenges),
            config: config.clone(),
            places: Arc::clone(&shared.places),
            provider,
            setup: ArcSwap::from_pointee(setup),
            shown: Mutex::new(shown),
            tickets,
            trust,
            wanted,
        })
    }

    /// What the next handshake is made with.
    pub(super) fn setup(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    pub(super) fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// As configured.
    pub fn address(&self) -> SocketAddr {
        self.config.address
    }

    /// Reads what changed of the files, and goes by it from the next handshake on; says whether other client certificates
    /// are accepted now. Blocks.
    pub(super) fn look(&self, now: UnixTime) -> bool {
        let mut shown = self.shown();
        // Each is to be looked at, also behind one that changed.
        let changes: Vec<_> = shown.files.iter_mut().map(|files| files.look(now)).collect();
        let changed = changes.contains(&true);
        let trusts_others = self.trust.as_ref().is_some_and(|trust| trust.look(now));
        if changed || trusts_others {
            self.set_up(&shown);
        }
        trusts_others
    }

    /// Takes the place of a listener: what is believed of clients here counts for its connections, too.
    pub(super) fn succeed(&self, earlier: &Self) {
        if let (Some(trust), Some(earlier)) = (&self.trust, &earlier.trust)
            && !Arc::ptr_eq(trust, earlier)
        {
            trust.lead(earlier.latest());
        }
    }

    /// Shows this certificate from the next handshake on, besides those in files.
    pub(super) fn manage(&self, pair: Option<Arc<Pair>>) {
        let mut shown = self.shown();
        let same = match (&shown.managed, &pair) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        if !same {
            shown.managed = pair;
            self.set_up(&shown);
        }
    }

    fn set_up(&self, shown: &Shown) {
        let trust = self.trust.as_ref().map(|trust| trust.latest().load_full());
        match Setup::new(&self.config, &shown.pairs(), trust, &self.provider, &self.tickets) {
            Ok(setup) => self.setup.store(Arc::new(setup)),
            Err(error) => tracing::error!(%error, "the new certificates are not in use"),
        }
    }

    /// What it wants of an ACME server.
    pub(super) fn wanted(&self) -> Option<&Wanted> {
        self.wanted.as_ref()
    }

    pub(super) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// What the client showed. A resumed session brings what it began with: that is looked at anew.
    pub(super) fn certificate(
        &self,
        session: &ServerConnection,
        setup: &Setup,
    ) -> Result<Option<Arc<ClientCertificate>>, Failure> {
        let (Some(trust), Some(wanted)) = (&self.trust, &self.config.client_certificates) else {
            return Ok(None);
        };
        let Some(chain) = session.peer_certificates() else { return Ok(None) };
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let known = setup.trust.as_deref().filter(|_| !resumed);
        let acceptance = Acceptance::new(known, Arc::clone(trust.latest()));
        let now = UnixTime::now();
        let certificate = ClientCertificate::new(chain, acceptance, wanted.authenticates.as_ref(), now);
        let certificate = certificate.ok_or(Failure::Certificate)?;
        if resumed {
            certificate.check(now).map_err(|_| Failure::Certificate)?;
        }
        Ok(Some(Arc::new(certificate)))
    }

    /// Whether a client certificate may be a credential here.
    pub(super) fn authenticates(&self) -> bool {
        self.config.client_certificates.as_ref().is_some_and(|wanted| wanted.authenticates.is_some())
    }

    /// Whose client certificates are believed.
    pub(super) fn trust_status(&self) -> Option<TrustStatus> {
        self.trust.as_ref().map(|trust| trust.status(self.config.address))
    }

    /// Each certificate as it is now.
    pub(super) fn status(&self) -> Vec<CertificateStatus> {
        let shown = self.shown();
        let files = shown.files.iter().map(|files| files.status(&self.config));
        let managed = shown.managed.iter();
        let managed = managed.map(|pair| CertificateStatus::new(pair, self.config.address, "acme"));
        files.chain(managed).collect()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Setup {
    fn new(
        listener: &Listener,
        pairs: &[Arc<Pair>],
        trust: Option<Arc<Trust>>,
        provider: &Arc<CryptoProvider>,
        tickets: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, TlsError> {
        let table = Arc::new(Table::new(pairs, listener.unknown_name));
        let versions = match listener.tls_min {
            TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(match &trust {
                Some(trust) => Arc::clone(&trust.verifier),
                None => WebPkiClientVerifier::no_client_auth(),
            })
            .with_cert_resolver(Arc::clone(&table) as _);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.max_early_data_size = 0;
        // Sessions resume by ticket alone: no memory per client. The ticketer changes its key by itself, every six
        // hours, and takes tickets of the last one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(tickets);
        // Each costs an encryption and 200 bytes, and a client that opens connections one by one gets one with each.
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), table, trust })
    }
}

impl PairFiles {
    fn open(files: &CertificateFiles, now: UnixTime) -> Result<Self, TlsError> {
        let stamps = stamps(files);
        let pair = Pair::read(files)?;
        warn_of_problem(&files.certificate, &pair, now);
        Ok(Self { error: None, files: files.clone(), loaded: now, pair: Arc::new(pair), stamps })
    }

    /// Reads the files if they changed; says whether there is another certificate now.
    fn look(&mut self, now: UnixTime) -> bool {
        // From before the reading, so that a change in between is seen the next time.
        let stamps = stamps(&self.files);
        if self.error.is_none() && stamps.are_those_of(&self.stamps, now) {
            return false;
        }
        self.stamps = stamps;
        match Pair::read(&self.files) {
            Ok(pair) => self.take(pair, now),
            Err(error) => {
                self.keep(error.to_string());
                false
            }
        }
    }

    fn take(&mut self, pair: Pair, now: UnixTime) -> bool {
        let path = self.files.certificate.display();
        if self.error.take().is_some() {
            info!(%path, "certificate and key can be used again");
        }
        if pair.is(&self.pair) {
            return false;
        }
        info!(%path, not_after = pair.leaf.validity.not_after.0, "the certificate changed");
        warn_of_problem(&self.files.certificate, &pair, now);
        self.pair = Arc::new(pair);
        self.loaded = now;
        true
    }

    /// The last good pair stays in use.
    fn keep(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            warn!(error, "the changed certificate can't be used; the last good one stays");
        }
        self.error = Some(error);
    }

    fn status(&self, listener: &Listener) -> CertificateStatus {
        CertificateStatus::new(&self.pair, listener.address, self.files.certificate.display())
            .read(self.loaded, self.error.clone())
    }
}

fn stamps(files: &CertificateFiles) -> Stamps {
    Stamps::of([files.certificate.as_path(), &files.key])
}

fn warn_of_problem(path: &Path, pair: &Pair, now: UnixTime) {
    if let Some(problem) = pair.problem(now) {
        warn!(path = %path.display(), "{problem}; clients will refuse it until it is replaced");
    }
}
