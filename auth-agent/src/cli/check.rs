//! `config check`: what `run` would find wrong, all at once.

use std::path::Path;
use std::slice;

use serde::Serialize;

use crate::config::{CertificateFiles, Config, Issuer, KeySource};
use crate::issuers;
use crate::policy::Policies;
use crate::proxy::check_files;
use crate::tls::Pair;
use crate::token::Verifier;

/// The verdict on a configuration.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    /// What was not checked.
    pub(super) notes: Vec<String>,
    pub(super) ok: bool,
    pub(super) problems: Vec<String>,
}

/// Checks a configuration and the files it names.
pub(super) fn check(path: &Path) -> Checked {
    let (notes, problems) = match Config::load(path) {
        Ok(config) => (notes(&config), file_problems(&config)),
        Err(errors) => (Vec::new(), errors.to_string().lines().map(str::to_owned).collect()),
    };
    Checked { notes, ok: problems.is_empty(), problems }
}

/// A check needs no network.
fn notes(config: &Config) -> Vec<String> {
    let remote = config.issuers.iter().filter(|issuer| matches!(issuer.keys, KeySource::Remote(_)));
    remote
        .map(|issuer| {
            format!("issuer `{}`: its keys ({}) were not fetched; `run` does", issuer.name, issuer.keys)
        })
        .collect()
}

fn file_problems(config: &Config) -> Vec<String> {
    let shown = config.listeners.iter().flat_map(|listener| &listener.certificates);
    let mut problems: Vec<_> = shown.filter_map(|files| certificate(files).err()).collect();
    // Several listeners may share a certificate.
    problems.dedup();
    let issuers = config.issuers.iter().filter_map(|issuer| {
        Verifier::load(slice::from_ref(issuer), config.sizes.token_bytes.get())
            .err()
            .map(|error| error.to_string())
    });
    problems.extend(issuers);
    problems.extend(config.issuers.iter().filter_map(authorities));
    let upstreams = config.upstreams.iter().filter_map(|upstream| {
        let error = check_files(upstream).err()?;
        Some(format!("upstream `{}`: {error}", upstream.name))
    });
    problems.extend(upstreams);
    problems.extend(Policies::load(config).err().map(|error| error.to_string()));
    problems
}

fn authorities(issuer: &Issuer) -> Option<String> {
    let KeySource::Remote(remote) = &issuer.keys else { return None };
    let error = issuers::bundle(remote.ca.as_ref()?).err()?;
    Some(format!("issuer `{}`: ca: {error}", issuer.name))
}

/// What `run` would say of a certificate and its key.
pub(super) fn certificate(files: &CertificateFiles) -> Result<(), String> {
    Pair::read(files).map(drop).map_err(|error| error.to_string())
}
