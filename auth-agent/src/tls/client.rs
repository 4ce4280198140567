//! The certificate that a client showed, and whom it stands for.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::leaf::{self, Validity};
use super::trust::Acceptance;
use crate::clock::UnixTime;
use crate::config::{CertificateIdentity, CertificateName};
use crate::identity::{Facts, Identity, Method};
use crate::refusal::Refusal;
use crate::thumbprint::Thumbprint;
use crate::token::is_identifier;

/// A certificate that was verified in a handshake, with its key. Only a handshake makes one.
#[derive(Debug)]
pub struct ClientCertificate {
    acceptance: Acceptance,
    chain: Vec<CertificateDer<'static>>,
    credential: Option<Credential>,
    thumbprint: Thumbprint,
    validity: Validity,
}

/// The certificate as a credential, where the listener takes it for one.
#[derive(Debug)]
struct Credential {
    allow_browsers: bool,
    /// `None`: it has no name that is one.
    identity: Option<Arc<Identity>>,
}

impl ClientCertificate {
    /// Reads the chain of a handshake; `None`: its leaf can't be read.
    pub(super) fn new(
        chain: &[CertificateDer<'_>],
        acceptance: Acceptance,
        authenticates: Option<&CertificateIdentity>,
        now: UnixTime,
    ) -> Option<Self> {
        let (der, others) = chain.split_first()?;
        let certificate = leaf::parse(der).ok()?;
        let (thumbprint, validity) = (Thumbprint::of(der), leaf::validity(&certificate));
        let ends = leaf::ends_above(&certificate, others, now);
        // It ends with the first of its chain.
        let not_after = ends.iter().copied().fold(validity.not_after, UnixTime::min);
        let credential = authenticates.map(|taken| Credential {
            allow_browsers: taken.allow_browsers,
            identity: identity(&certificate, taken, thumbprint, Validity { not_after, ..validity }),
        });
        let acceptance = acceptance.until(ends, now);
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Self { acceptance, chain, credential, thumbprint, validity })
    }

    /// Its thumbprint.
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// Whether it still holds: it is in time, and the latest authorities and revocation lists accept it.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, now: UnixTime) -> Result<(), Refusal> {
        let holds = self.validity.problem(now).is_none() && self.acceptance.holds(&self.chain, now);
        if holds { Ok(()) } else { Err(Refusal::CertificateInvalid) }
    }

    /// Whom it stands for, in a request without another credential. A browser sends it along with whatever any page
    /// has it ask for, so it counts from one only where that is allowed.
    ///
    /// # Errors
    /// For nobody.
    pub fn identity(&self, from_browser: bool) -> Result<Arc<Identity>, Refusal> {
        let credential = self.credential.as_ref().ok_or(Refusal::CredentialMissing)?;
        if from_browser && !credential.allow_browsers {
            return Err(Refusal::CertificateBrowser);
        }
        credential.identity.clone().ok_or(Refusal::CertificateNameless)
    }
}

fn identity(
    certificate: &X509Certificate<'_>,
    taken: &CertificateIdentity,
    thumbprint: Thumbprint,
    validity: Validity,
) -> Option<Arc<Identity>> {
    let subject = only(names(certificate, taken.name)).filter(|name| is_identifier(name))?;
    Some(Identity::verified(Facts {
        certificate: Some(thumbprint),
        expires: Some(UnixTime(validity.not_after.0.saturating_add(1))),
        issued_at: Some(validity.not_before),
        scopes: taken.scopes.iter().map(|scope| scope.as_str().into()).collect(),
        ..Facts::new(Method::Certificate, subject)
    }))
}

/// All names of that kind.
fn names<'c>(certificate: &'c X509Certificate<'_>, kind: CertificateName) -> Vec<&'c str> {
    let alternative = leaf::alternative_names(certificate).unwrap_or_default().iter();
    match kind {
        CertificateName::SanDns => alternative
            .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
            .collect(),
        CertificateName::SanEmail => alternative
            .filter_map(|name| if let GeneralName::RFC822Name(name) = name { Some(*name) } else { None })
            .collect(),
        CertificateName::SanUri => alternative
            .filter_map(|name| if let GeneralName::URI(name) = name { Some(*name) } else { None })
            .collect(),
        CertificateName::Subject => {
            // One that can't be read is one all the same: there is no silent winner.
            certificate.subject().iter_common_name().map(|name| name.as_str().unwrap_or("")).collect()
        }
    }
}

/// Of several names, none is the one.
fn only(names: Vec<&str>) -> Option<&str> {
    match names[..] {
        [name] => Some(name),
        _ => None,
    }
}
