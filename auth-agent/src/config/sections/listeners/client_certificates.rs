//! `[listener.client_certificates]`

use crate::config::document::{Section, wrong};
use crate::config::{CertificateIdentity, CertificateName, ClientCertificates, values};

/// What makes no sense where no certificate is asked for.
const ONLY_IF_ASKED: [&str; 3] = ["ca", "crl", "authenticates"];
/// What makes no sense where a certificate is no credential.
const ONLY_IF_CREDENTIAL: [&str; 3] = ["identity", "scopes", "allow_browsers"];

/// Nothing where the section is absent, or says so.
pub(super) fn client_certificates(mut section: Section<'_>) -> Option<ClientCertificates> {
    let path = values::path(section.folder());
    let mode = section.optional("mode", values::client_mode);
    let wrong_mode = mode.is_none() && section.has("mode");
    let required = mode.flatten();
    let ca = match required {
        Some(_) => section.required("ca", &path, r#"ca = "clients-ca.pem""#),
        None => section.optional("ca", &path),
    };
    let crl = section.list("crl", &path).unwrap_or_default();
    let authenticates = section.or("authenticates", values::boolean, false);
    let identity = CertificateIdentity {
        allow_browsers: section.or("allow_browsers", values::boolean, false),
        name: section.or("identity", values::certificate_name, CertificateName::SanUri),
        scopes: section.list("scopes", values::scope).unwrap_or_default(),
    };
    match (required, authenticates) {
        // What it was meant to say, nobody knows.
        (None, _) if wrong_mode => {}
        (None, _) => {
            let cure = "write mode = \"optional\" or \"required\", or take it out";
            refuse(&mut section, &ONLY_IF_ASKED, "of no use, as no client is asked for a certificate", cure);
            refuse(
                &mut section,
                &ONLY_IF_CREDENTIAL,
                "of no use, as no client is asked for a certificate",
                cure,
            );
        }
        (Some(_), false) => {
            let cure = "write authenticates = true, or take it out";
            refuse(
                &mut section,
                &ONLY_IF_CREDENTIAL,
                "of no use, as a certificate is no credential here",
                cure,
            );
        }
        (Some(_), true) => {}
    }
    section.finish();
    let authenticates = authenticates.then_some(identity);
    Some(ClientCertificates { authenticates, ca: ca?, crl, required: required? })
}

fn refuse(section: &mut Section<'_>, fields: &[&'static str], why: &str, cure: &str) {
    for field in fields {
        if section.has(field) {
            section.check(field, wrong(why, cure));
        }
    }
}
