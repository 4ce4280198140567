//! Which authorities the server that publishes keys may have its certificate from.
//!
//! The host's own trust store, read by `rustls-native-certs`: the operator keeps it up to date with the host, and knows
//! where to add or distrust an authority. Roots compiled in would age with the binary. An issuer's `ca` takes the place
//! of the host's store: who has an authority of his own trusts no other for these keys.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

/// No bundle is larger.
const MAX_BYTES: u64 = 4 << 20;

/// Why there is no trust to build on.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A certificate that can't be an authority's.
    #[error("{} holds a certificate that can't be used as an authority's: {source}", path.display())]
    Authority {
        /// The bundle.
        path: PathBuf,
        /// What TLS says.
        source: rustls::Error,
    },
    /// The host has no trust store.
    #[error(
        "this host has no trusted certificate authorities; install `ca-certificates`, or set the issuer's `ca`"
    )]
    HostEmpty,
    /// No certificate in the bundle.
    #[error("{} holds no certificate; it must be PEM", path.display())]
    Missing {
        /// The bundle.
        path: PathBuf,
    },
    /// Not PEM.
    #[error("{} is not valid PEM: {source}; write the file again", path.display())]
    Pem {
        /// The bundle.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// TLS can't be set up.
    #[error("can't set up TLS: {0}")]
    Provider(#[from] rustls::Error),
    /// The bundle can't be read.
    #[error("can't read {}: {source}; check the path, and that the agent's user may read it", path.display())]
    Unreadable {
        /// The bundle.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The TLS side of a fetch. Read anew for each, so that a changed store or bundle counts without a restart. Blocks.
pub(super) fn client_config(ca: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let roots = trusted(ca)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities of `ca`, or the host's own. Blocks.
///
/// # Errors
/// There are none, or they can't be read.
pub fn trusted(ca: Option<&Path>) -> Result<RootCertStore, TrustError> {
    ca.map_or_else(host, bundle)
}

/// The authorities of a PEM bundle: at least one, and all of them usable.
///
/// # Errors
/// What is wrong with the file.
pub fn bundle(path: &Path) -> Result<RootCertStore, TrustError> {
    let path = || path.to_owned();
    let pem = read(&path()).map_err(|source| TrustError::Unreadable { path: path(), source })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|source| TrustError::Pem { path: path(), source })?;
        roots.add(certificate).map_err(|source| TrustError::Authority { path: path(), source })?;
    }
    if roots.is_empty() { Err(TrustError::Missing { path: path() }) } else { Ok(roots) }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn host() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // Some stores hold old certificates that nothing can use; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TrustError::HostEmpty) } else { Ok(roots) }
}
