//! Where clients connect, and what they are shown there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::https_url::HttpsUrl;

/// `[[listener]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listener {
    /// Names that a certificate is got for from an ACME server, in lower case.
    pub acme: Vec<String>,
    /// Address and port; `[::]:443` takes IPv4 too.
    pub address: SocketAddr,
    /// What it shows from files, the default first; at least one where none is got by ACME.
    pub certificates: Vec<CertificateFiles>,
    /// What clients may show, or have to.
    pub client_certificates: Option<ClientCertificates>,
    /// Whether every connection starts with a header of the PROXY protocol, from a trusted proxy.
    pub proxy_protocol: bool,
    /// The oldest TLS that is spoken.
    pub tls_min: TlsVersion,
    /// What becomes of clients that ask for a name that no certificate is for.
    pub unknown_name: UnknownName,
}

impl Listener {
    /// With one certificate and the defaults.
    pub fn new(address: SocketAddr, certificate: CertificateFiles) -> Self {
        Self {
            acme: Vec::new(),
            address,
            certificates: vec![certificate],
            client_certificates: None,
            proxy_protocol: false,
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

/// `[listener.client_certificates]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificates {
    /// Whether a certificate is the credential of a request that has no other.
    pub authenticates: Option<CertificateIdentity>,
    /// PEM bundle of the authorities that they come from.
    pub ca: PathBuf,
    /// Revocation lists, PEM or DER.
    pub crl: Vec<PathBuf>,
    /// Whether there is no connection without one.
    pub required: bool,
}

/// Whom a client certificate stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateIdentity {
    /// Whether it counts in requests from browsers, which send it unasked.
    pub allow_browsers: bool,
    /// Which of its names is the subject.
    pub name: CertificateName,
    /// What it may do.
    pub scopes: Vec<String>,
}

/// `listener.client_certificates.identity`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateName {
    /// The DNS name among the subjectAltNames.
    SanDns,
    /// The e-mail address among the subjectAltNames.
    SanEmail,
    /// The URI among the subjectAltNames, as SPIFFE has it.
    SanUri,
    /// The common name of the subject.
    Subject,
}

/// `[acme]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acme {
    /// PEM bundle of the authorities that the server's certificate may come from, in place of the host's own.
    pub ca: Option<PathBuf>,
    /// How the authority reaches the operator: `mailto:` addresses.
    pub contact: Vec<String>,
    /// The server's directory (RFC 8555 7.1.1).
    pub directory: HttpsUrl,
    /// How long before its end a certificate is got anew.
    pub renew_before: Duration,
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
