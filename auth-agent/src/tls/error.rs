//! What can be wrong with the files that TLS needs.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;

use crate::issuers::TrustError;

/// Why a listener's certificate or key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The bundle of authorities can't be used.
    #[error(transparent)]
    Authorities(#[from] TrustError),
    /// The certificate can't be used.
    #[error(
        "the certificate in {path} can't be used: {reason}; it must be an X.509 v3 certificate, leaf first"
    )]
    CertificateInvalid {
        /// The certificate file.
        path: PathBuf,
        /// What TLS says, or the parser.
        reason: String,
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
    /// A revocation list can't be used.
    #[error("the revocation list in {path} can't be used: {reason}; it must be an X.509 CRL in PEM or DER")]
    ListInvalid {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// No revocation list in the file.
    #[error("{path} holds no revocation list; it must be an X.509 CRL in PEM or DER")]
    ListMissing {
        /// The file.
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
    /// Authorities and revocation lists don't make a verifier.
    #[error(
        "client certificates can't be verified with {path}: {reason}; check the bundle and the revocation lists"
    )]
    Trust {
        /// The bundle.
        path: PathBuf,
        /// What TLS says.
        reason: String,
    },
    /// The file can't be read.
    #[error("can't read {path}: {source}; check the path, and that the agent's user may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl TlsError {
    /// Whether this process may not read the file.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}
