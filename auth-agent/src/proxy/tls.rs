//! TLS 1.2 and 1.3 to the upstreams.
//!
//! Who answers must have a certificate of the upstream's `ca`, or of the host's authorities, for the name that was
//! asked for. Files are looked at every second: one that can't be used changes nothing, but for a line in the log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsConnector;

use super::endpoint::Speaks;
use crate::config::{Protocol, Scheme, Upstream, UpstreamTls};
use crate::issuers::{TrustError, trusted};

/// Why an upstream can't be connected to by TLS.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// The key does not belong to the certificate, or is of a kind that TLS does not take.
    #[error(
        "{certificate} and {key} can't be used together: {source}; name the pair that was issued together"
    )]
    Certificate {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What TLS says.
        source: rustls::Error,
    },
    /// Not PEM, or without what is needed.
    #[error("{path} can't be used: {source}; it must be PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// TLS can't be set up.
    #[error("can't set up TLS: {0}")]
    Provider(#[from] rustls::Error),
    /// No authorities.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The file can't be read.
    #[error("can't read {path}: {source}; check the path, and that the agent's user may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Whether the files that `upstream` names can be used, where it is connected to by TLS. Blocks.
///
/// # Errors
/// What is wrong with them.
pub fn check_files(upstream: &Upstream) -> Result<(), UpstreamTlsError> {
    let needs_tls = upstream.endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https);
    if needs_tls { ClientTls::new(upstream).map(drop) } else { Ok(()) }
}

/// What is offered to the endpoints of one upstream.
#[derive(Debug)]
struct Configs {
    /// HTTP/1.1 alone, for what can only be said in it.
    http1: Arc<ClientConfig>,
    usual: Arc<ClientConfig>,
}

/// The TLS side of one upstream.
#[derive(Debug)]
pub(super) struct ClientTls {
    configs: ArcSwap<Configs>,
    protocol: Protocol,
    settings: UpstreamTls,
    stamp: Mutex<Stamp>,
}

impl ClientTls {
    /// Blocks.
    pub fn new(upstream: &Upstream) -> Result<Self, UpstreamTlsError> {
        let stamp = stamp(&upstream.tls);
        let configs = Configs::new(&upstream.tls, upstream.protocol)?;
        Ok(Self {
            configs: ArcSwap::from_pointee(configs),
            protocol: upstream.protocol,
            settings: upstream.tls.clone(),
            stamp: Mutex::new(stamp),
        })
    }

    /// For one connection.
    pub fn connector(&self, speaks: Speaks) -> TlsConnector {
        let configs = self.configs.load();
        TlsConnector::from(Arc::clone(if speaks == Speaks::Http1 { &configs.http1 } else { &configs.usual }))
    }

    /// Whether anything could change.
    pub fn has_files(&self) -> bool {
        self.settings.ca.is_some() || self.settings.certificate.is_some()
    }

    /// Reads the files again, if they have changed: what is connected stays, what comes is connected by them. Blocks.
    pub fn refresh(&self) -> Result<(), UpstreamTlsError> {
        let now = stamp(&self.settings);
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now {
            return Ok(());
        }
        *known = now;
        drop(known);
        self.configs.store(Arc::new(Configs::new(&self.settings, self.protocol)?));
        Ok(())
    }
}

/// What changes with the files.
type Stamp = Vec<Option<(SystemTime, u64)>>;

fn stamp(settings: &UpstreamTls) -> Stamp {
    let of = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let pair = settings.certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
    settings.ca.iter().chain(pair).map(of).collect()
}

impl Configs {
    fn new(settings: &UpstreamTls, protocol: Protocol) -> Result<Self, UpstreamTlsError> {
        let usual = client_config(settings, protocol)?;
        let mut http1 = usual.clone();
        http1.alpn_protocols = vec![HTTP1.to_vec()];
        Ok(Self { http1: Arc::new(http1), usual: Arc::new(usual) })
    }
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

fn client_config(settings: &UpstreamTls, protocol: Protocol) -> Result<ClientConfig, UpstreamTlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_root_certificates(trusted(settings.ca.as_deref())?);
    let mut config = match &settings.certificate {
        Some((certificate, key)) => {
            let (chain, secret) = (certificates(certificate)?, private_key(key)?);
            builder.with_client_auth_cert(chain, secret).map_err(|source| UpstreamTlsError::Certificate {
                certificate: certificate.clone(),
                key: key.clone(),
                source,
            })?
        }
        None => builder.with_no_client_auth(),
    };
    let offered: &[&[u8]] = match protocol {
        Protocol::Auto => &[HTTP2, HTTP1],
        Protocol::Http1 => &[HTTP1],
        Protocol::Http2 => &[HTTP2],
    };
    config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamTlsError> {
    let pem_error = |source| UpstreamTlsError::Pem { path: path.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<_, _>>().map_err(pem_error)?;
    if chain.is_empty() { Err(pem_error(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, UpstreamTlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|source| UpstreamTlsError::Pem { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, UpstreamTlsError> {
    fs::read(path).map_err(|source| UpstreamTlsError::Unreadable { path: path.to_owned(), source })
}
