//! TLS 1.2 and 1.3 for the public listeners, and nothing older (promise P2).
//!
//! The provider is passed explicitly everywhere: a process-wide default could be set by a dependency.
//! Early data stays off, since it can be replayed.

mod validity;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ServerConfig};
use tracing::warn;

pub use validity::{Validity, validity};

use crate::config::Listener;

/// Why a listener's certificate or key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate can't be used.
    #[error(
        "the certificate in {path} can't be used: {source}; it must be an X.509 v3 certificate, leaf first"
    )]
    CertificateInvalid {
        /// The certificate file.
        path: PathBuf,
        /// What TLS says.
        source: rustls::Error,
    },
    /// No certificate in the file.
    #[error("{path} holds no certificate; it must be PEM, the leaf first and then its intermediates")]
    CertificateMissing {
        /// The certificate file.
        path: PathBuf,
    },
    /// The private key needs a passphrase.
    #[error("the private key in {path} is encrypted; decrypt it with `openssl pkey -in {path} -out KEY.pem`")]
    KeyEncrypted {
        /// The key file.
        path: PathBuf,
    },
    /// The private key is of a kind or size that TLS does not take.
    #[error(
        "the private key in {path} can't be used: {source}; use an ECDSA P-256, Ed25519 or RSA-2048 key or larger"
    )]
    KeyInvalid {
        /// The key file.
        path: PathBuf,
        /// What TLS says.
        source: rustls::Error,
    },
    /// The key is not that of the certificate.
    #[error(
        "the private key in {key} does not belong to the certificate in {certificate}; name the pair that was issued together"
    )]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// No private key in the file.
    #[error("{path} holds no private key; it must be PEM (PKCS#8, PKCS#1 or SEC1)")]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// The file is not PEM.
    #[error("{path} is not valid PEM: {source}; write the file again")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// The provider does not work.
    #[error("can't set up TLS: {0}")]
    Provider(#[from] rustls::Error),
    /// The file can't be read.
    #[error("can't read {path}: {source}; check the path, and that the agent's user may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The TLS side of `listener`.
pub fn server_config(listener: &Listener) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certified = certified_key(listener, &provider)?;
    let problems = [validity_problem(&certified, &provider, UnixTime::now()), name_problem(&certified)];
    for problem in problems.into_iter().flatten() {
        warn!(path = %listener.certificate.display(), "{problem}; clients will refuse it until it is replaced");
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OneCertificate(Arc::new(certified))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    // Sessions resume by ticket alone: no memory per client. The ticketer changes its key by itself.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn certified_key(listener: &Listener, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let path = &listener.certificate;
    let chain = certificates(path)?;
    ParsedCertificate::try_from(&chain[0])
        .map_err(|source| TlsError::CertificateInvalid { path: path.clone(), source })?;
    let key = private_key(&listener.key)?;
    let signing = provider
        .key_provider
        .load_private_key(key)
        .map_err(|source| TlsError::KeyInvalid { path: listener.key.clone(), source })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::KeyMismatch { certificate: path.clone(), key: listener.key.clone() })
        }
        _ => Ok(certified),
    }
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let chain = chain.map_err(|source| TlsError::Pem { path: path.into(), source })?;
    if chain.is_empty() { Err(TlsError::CertificateMissing { path: path.into() }) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(path)?;
    // PKCS#8 says it in its label, the older forms in a header.
    let encrypted = [&b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..], b"Proc-Type: 4,ENCRYPTED"];
    if encrypted.iter().any(|mark| pem.windows(mark.len()).any(|window| window == *mark)) {
        return Err(TlsError::KeyEncrypted { path: path.into() });
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::KeyMissing { path: path.into() },
        source => TlsError::Pem { path: path.into(), source },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { path: path.into(), source })
}

/// Whether the leaf is outside its validity period.
fn validity_problem(
    certified: &CertifiedKey,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Option<&'static str> {
    match validity::complaint(certified.cert.first()?, provider, now)? {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Some("the certificate has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("the certificate is not valid yet")
        }
        _ => None,
    }
}

/// Whether the leaf is for no name or address at all: then [`OneCertificate`] has no client to offer it to
/// that names its server.
fn name_problem(certified: &CertifiedKey) -> Option<&'static str> {
    let leaf = ParsedCertificate::try_from(certified.cert.first()?).ok()?;
    match verify_server_name(&leaf, &ServerName::try_from("localhost").ok()?) {
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) if presented.is_empty() => Some("the certificate has no subjectAltName"),
        _ => None,
    }
}

/// Offers its certificate to clients that name no server, or one that the certificate is for.
#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            let name = ServerName::try_from(name).ok()?;
            let leaf = ParsedCertificate::try_from(self.0.cert.first()?).ok()?;
            verify_server_name(&leaf, &name).ok()?;
        }
        Some(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests;
