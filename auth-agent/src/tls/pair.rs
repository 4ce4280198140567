//! A certificate chain and its key: read from their files, and held against each other.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::leaf::Leaf;
use crate::clock::UnixTime;
use crate::config::CertificateFiles;

/// A pair that can be shown to clients.
#[derive(Clone, Debug)]
pub struct Pair {
    /// As TLS takes it.
    pub certified: Arc<CertifiedKey>,
    /// What it says.
    pub leaf: Leaf,
}

impl Pair {
    /// Reads both files. Blocks.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(files: &CertificateFiles) -> Result<Self, TlsError> {
        let path = &files.certificate;
        let chain = certificates(path)?;
        let invalid = |reason| TlsError::CertificateInvalid { path: path.clone(), reason };
        let leaf = leaf(&chain).map_err(invalid)?;
        let signing = aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(private_key(&files.key)?)
            .map_err(|source| TlsError::KeyInvalid { path: files.key.clone(), source })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                Err(TlsError::KeyMismatch { certificate: path.clone(), key: files.key.clone() })
            }
            _ => Ok(Self { certified: Arc::new(certified), leaf }),
        }
    }

    /// The same of what is in memory: a PEM chain, and a key in PKCS#8.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(chain: &str, key: Vec<u8>) -> Result<Self, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let chain = chain.map_err(|error| error.to_string())?;
        let leaf = leaf(&chain)?;
        let key = PrivateKeyDer::Pkcs8(key.into());
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        Ok(Self { certified: Arc::new(certified.map_err(|error| error.to_string())?), leaf })
    }

    /// What will keep clients from accepting it.
    pub fn problem(&self, now: UnixTime) -> Option<&'static str> {
        let nameless = self.leaf.names.is_empty() && self.leaf.addresses.is_empty();
        self.leaf.validity.problem(now).or(nameless.then_some("the certificate has no subjectAltName"))
    }

    /// The kind of its key.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.certified.key.algorithm()
    }

    /// Whether it is the same certificate.
    pub fn is(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

fn leaf(chain: &[CertificateDer<'_>]) -> Result<Leaf, String> {
    let first = chain.first().ok_or("there is none")?;
    ParsedCertificate::try_from(first).map_err(|error| error.to_string())?;
    Leaf::read(first)
}

/// At least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { path: path.into(), source })
}
