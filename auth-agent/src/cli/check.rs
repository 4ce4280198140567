//! `config check`: what `run` would find wrong, all at once.

use std::path::Path;
use std::slice;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::Serialize;

use crate::config::{Config, Listener};
use crate::token::Verifier;

/// The verdict on a configuration.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    pub(super) ok: bool,
    pub(super) problems: Vec<String>,
}

/// Checks a configuration and the files it names.
pub(super) fn check(path: &Path) -> Checked {
    let problems = match Config::load(path) {
        Ok(config) => file_problems(&config),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    };
    Checked { ok: problems.is_empty(), problems }
}

fn file_problems(config: &Config) -> Vec<String> {
    let mut problems: Vec<_> =
        config.listeners.iter().filter_map(|listener| certificate(listener).err()).collect();
    // Several listeners may share a certificate.
    problems.dedup();
    let issuers = config.issuers.iter().filter_map(|issuer| {
        Verifier::load(slice::from_ref(issuer), config.sizes.token_bytes.get())
            .err()
            .map(|error| error.to_string())
    });
    problems.extend(issuers);
    problems
}

/// A readable chain with the key that belongs to it.
pub(super) fn certificate(listener: &Listener) -> Result<(), String> {
    let Listener { certificate, key, .. } = listener;
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(certificate, "certificate chain", &error))?;
    if chain.is_empty() {
        return Err(unreadable(certificate, "certificate chain", &pem::Error::NoItemsFound));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "private key", &error))?;
    let matched = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider());
    matched.map(drop).map_err(|error| {
        format!("{} and {} can't be used together: {error}", certificate.display(), key.display())
    })
}

fn unreadable(path: &Path, what: &str, error: &pem::Error) -> String {
    let cause = match error {
        pem::Error::NoItemsFound => format!("no {what} in it: it must be PEM"),
        error => error.to_string(),
    };
    format!("{}: can't read the {what}: {cause}", path.display())
}
