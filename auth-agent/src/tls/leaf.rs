//! What a certificate says of itself. Whether that is to be believed, others judge: our own is shown to clients, theirs
//! was verified before it is read here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Error, X509Version};
use x509_parser::time::ASN1Time;

use crate::clock::UnixTime;

/// From when to when a certificate is valid; both ends belong to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// The last second.
    pub not_after: UnixTime,
    /// The first second.
    pub not_before: UnixTime,
}

impl Validity {
    /// What is wrong at this time.
    pub fn problem(&self, now: UnixTime) -> Option<&'static str> {
        if now > self.not_after {
            Some("the certificate has expired")
        } else if now < self.not_before {
            Some("the certificate is not valid yet")
        } else {
            None
        }
    }
}

/// What the first certificate of a chain says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// Addresses that it is for.
    pub addresses: Vec<IpAddr>,
    /// Names that it is for, in lower case; wildcards as they are.
    pub names: Vec<String>,
    /// When it is valid.
    pub validity: Validity,
}

impl Leaf {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// What keeps it from being read.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let certificate = parse(der)?;
        let (mut addresses, mut names) = (Vec::new(), Vec::new());
        for name in alternative_names(&certificate).map_err(|error| error.to_string())? {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
        names.dedup();
        Ok(Self { addresses, names, validity: validity(&certificate) })
    }
}

/// An X.509 v3 certificate, and nothing behind it.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err(format!("{} bytes behind it", rest.len()));
    }
    match certificate.version() {
        X509Version::V3 => Ok(certificate),
        version => Err(format!("it is of version {}", version.0 + 1)),
    }
}

pub(super) fn alternative_names<'c>(
    certificate: &'c X509Certificate<'_>,
) -> Result<&'c [GeneralName<'c>], X509Error> {
    let extension = certificate.subject_alternative_name()?;
    Ok(extension.map_or(&[], |extension| &extension.value.general_names))
}

pub(super) fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let seconds = |time: ASN1Time| UnixTime(u64::try_from(time.timestamp()).unwrap_or(0));
    let validity = certificate.validity();
    Validity { not_after: seconds(validity.not_after), not_before: seconds(validity.not_before) }
}

/// The last seconds of the certificates between a leaf and its authority, by their names: of several with one name, the
/// latest. Those that are over at `now` are not what it was believed for.
pub(super) fn ends_above(
    leaf: &X509Certificate<'_>,
    others: &[CertificateDer<'_>],
    now: UnixTime,
) -> Vec<UnixTime> {
    let others: Vec<_> = others.iter().filter_map(|der| parse(der).ok()).collect();
    let (mut ends, mut issuer) = (Vec::new(), leaf.issuer().as_raw());
    // No way is longer than there are certificates.
    for _ in 0..others.len() {
        let named = others
            .iter()
            .filter(|other| other.subject().as_raw() == issuer && other.issuer().as_raw() != issuer);
        let Some(next) = named.max_by_key(|other| validity(other).not_after) else { break };
        ends.push(validity(next).not_after);
        issuer = next.issuer().as_raw();
    }
    ends.retain(|end| *end >= now);
    ends
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()
}
