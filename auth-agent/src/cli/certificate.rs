//! The certificates, for people.

use std::fmt::Write;

use crate::clock::UnixTime;
use crate::duration::{relative, relative_or};
use crate::tls::{AcmeStatus, CertificateStatus, TrustStatus};

/// Names that are shown of one certificate.
const SHOWN: usize = 4;

/// A line for each, and one for what should be done about it.
pub(super) fn lines(certificates: &[CertificateStatus], now: UnixTime) -> String {
    let mut out = String::new();
    for certificate in certificates {
        let CertificateStatus { algorithm, listener, not_after, source, .. } = certificate;
        let ends = relative(*not_after, now);
        // Writing to a String can't fail.
        let _ = writeln!(
            out,
            "shown      {} at {listener}, {algorithm}, ends {ends} ({source})",
            names(certificate)
        );
        if let Some(warning) = certificate.warning(now) {
            let _ = writeln!(out, "warning    {warning}");
        }
    }
    out
}

fn names(certificate: &CertificateStatus) -> String {
    match &certificate.names[..] {
        [] => "no name".to_owned(),
        names @ [..] if names.len() > SHOWN => {
            format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN)
        }
        names => names.join(", "),
    }
}

/// A line for each bundle, and those for what should be done about it.
pub(super) fn trust(trust: &[TrustStatus], now: UnixTime) -> String {
    let mut out = String::new();
    for trust in trust {
        let TrustStatus { authorities, listener, lists, source, .. } = trust;
        // Writing to a String can't fail.
        let _ = writeln!(
            out,
            "clients    {authorities} authorities and {} revocation lists at {listener} ({source})",
            lists.len()
        );
        out.extend(trust.warnings(now).into_iter().map(|warning| format!("warning    {warning}\n")));
    }
    out
}

/// A line for each certificate that is got, and one where that fails.
pub(super) fn acme(acme: &[AcmeStatus], now: UnixTime) -> String {
    let mut out = String::new();
    for AcmeStatus { directory, error, failures, names, next, not_after, .. } in acme {
        let names = names.join(", ");
        let next = relative_or("soon", *next, now);
        // Writing to a String can't fail.
        let _ = match not_after {
            Some(_) => writeln!(out, "acme       {names} from {directory}, next time {next}"),
            None => writeln!(
                out,
                "warning    {names}: no certificate yet from {directory}, tried again {next}: clients are refused"
            ),
        };
        if let Some(error) = error {
            let _ = writeln!(out, "warning    {names}: {failures} attempts brought no certificate: {error}");
        }
    }
    out
}
