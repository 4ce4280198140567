//! From when to when a certificate is valid.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{WebPkiServerVerifier, danger::ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as TlsTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::{TlsError, certificates};
use crate::clock::UnixTime;

/// The validity period of a certificate; both ends belong to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// The last second.
    pub not_after: UnixTime,
    /// The first second.
    pub not_before: UnixTime,
}

/// The validity of the leaf in `certificate`; nothing where it holds no X.509 v3 certificate.
///
/// # Errors
/// If the file can't be read, or holds no certificate.
pub fn validity(certificate: &Path) -> Result<Option<Validity>, TlsError> {
    let chain = certificates(certificate)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let at =
        |seconds| complaint(&chain[0], &provider, TlsTime::since_unix_epoch(Duration::from_secs(seconds)));
    // The verifier tells each end to whoever comes too late, or too early. No certificate expires after 9999.
    let not_after = match at(u64::MAX) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => not_after,
        _ => return Ok(None),
    };
    let not_before = match at(0) {
        Some(CertificateError::NotValidYetContext { not_before, .. }) => not_before.as_secs(),
        _ => 0,
    };
    Ok(Some(Validity { not_after: UnixTime(not_after.as_secs()), not_before: UnixTime(not_before) }))
}

/// What the verifier says of the leaf. It looks at the validity before it looks for an issuer, so as far as
/// that goes the answer needs no roots that make sense.
pub(super) fn complaint(
    leaf: &CertificateDer<'_>,
    provider: &Arc<CryptoProvider>,
    now: TlsTime,
) -> Option<CertificateError> {
    let mut roots = RootCertStore::empty();
    roots.add(leaf.clone().into_owned()).ok()?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.verify_server_cert(leaf, &[], &name, &[], now) {
        Err(Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}
