//! Where clients connect, and what they are shown there.

use std::net::SocketAddr;
use std::path::PathBuf;

/// `[[listener]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Address and port; `[::]:443` takes IPv4 too.
    pub address: SocketAddr,
    /// What it shows, the default first; at least one.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest TLS that is spoken.
    pub tls_min: TlsVersion,
    /// What becomes of clients that ask for a name that no certificate is for.
    pub unknown_name: UnknownName,
}

impl Listener {
    /// With one certificate and the defaults.
    pub fn new(address: SocketAddr, certificate: CertificateFiles) -> Self {
        Self {
            address,
            certificates: vec![certificate],
            tls_min: TlsVersion::default(),
            unknown_name: UnknownName::default(),
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CertificateFiles {
    /// PEM certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// `listener.tls_min`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// `listener.unknown_name`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnknownName {
    /// They are shown the first certificate.
    Default,
    /// They are refused with the alert that says why (RFC 6066 3).
    #[default]
    Refuse,
}
