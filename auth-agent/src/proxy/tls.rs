//! TLS 1.2 and 1.3 to the upstreams.
//!
//! Who answers must have a certificate of the upstream's `ca`, or of the host's authorities, for the name that was
//! asked for. Files are looked at every second: one that can't be used changes nothing, but for a line in the log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsConnector;

use super::endpoint::Speaks;
use crate::clock::UnixTime;
use crate::config::{Protocol, Scheme, Upstream, UpstreamTls};
use crate::issuers::{TrustError, trusted};
use crate::stamp::Stamps;

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
    state: Mutex<State>,
}

/// The files, as they were last looked at.
#[derive(Debug, Default)]
struct State {
    /// What is wrong with them.
    error: Option<String>,
    /// Of those in use.
    stamps: Stamps,
}

impl ClientTls {
    /// Blocks.
    pub fn new(upstream: &Upstream) -> Result<Self, UpstreamTlsError> {
        // From before the reading, so that a change in between is seen the next time.
        let stamps = stamps(&upstream.tls);
        let configs = Configs::new(&upstream.tls, upstream.protocol)?;
        Ok(Self {
            configs: ArcSwap::from_pointee(configs),
            protocol: upstream.protocol,
            settings: upstream.tls.clone(),
            state: Mutex::new(State { error: None, stamps }),
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

    /// Reads the files again, if they may have changed: what is connected stays, what comes is connected by them. What
    /// is wrong with them, where that is news. Blocks.
    pub fn refresh(&self, now: UnixTime) -> Option<String> {
        let stamps = stamps(&self.settings);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps.are_those_of(&state.stamps, now) {
            return None;
        }
        match Configs::new(&self.settings, self.protocol) {
            Ok(configs) => {
                self.configs.store(Arc::new(configs));
                *state = State { error: None, stamps };
                None
            }
            Err(error) => {
                let error = Some(error.to_string());
                let is_news = state.error != error;
                state.error.clone_from(&error);
                error.filter(|_| is_news)
            }
        }
    }
}

fn stamps(settings: &UpstreamTls) -> Stamps {
    let pair = settings.certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
    Stamps::of(settings.ca.iter().chain(pair).map(PathBuf::as_path))
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::super::tests::config;
    use super::*;

    fn authority() -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn files_that_cannot_be_used_change_nothing_and_are_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority()).unwrap();
        let config = config(&["https://127.0.0.1:1"], &format!("ca = {:?}", ca.to_str().unwrap()));
        let tls = ClientTls::new(&config.upstreams[0]).unwrap();
        // By when every change has settled.
        let later = UnixTime(UnixTime::now().0 + 60);
        let mut before = tls.configs.load_full();
        for (name, contents, is_told, changes) in [
            ("nothing new", None, false, false),
            ("not PEM", Some("oops".to_owned()), true, false),
            ("still not PEM", None, false, false),
            ("another authority", Some(authority()), false, true),
            ("nothing new again", None, false, false),
            ("not PEM again", Some("oops".to_owned()), true, false),
        ] {
            if let Some(contents) = contents {
                // In its place, as it is to be done: no two have the same inode and time.
                let new = folder.path().join("new.pem");
                fs::write(&new, contents).unwrap();
                fs::rename(&new, &ca).unwrap();
            }
            assert_eq!(tls.refresh(later).is_some(), is_told, "{name}");
            let now = tls.configs.load_full();
            assert_eq!(!Arc::ptr_eq(&before, &now), changes, "{name}");
            before = now;
        }
    }
}
