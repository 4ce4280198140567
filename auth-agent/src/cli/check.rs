//! `config check`: what `run` would find wrong, all at once.

use std::path::Path;
use std::slice;

use serde::Serialize;

use crate::config::{CertificateFiles, Config, Issuer, KeySource, LogTarget};
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
    problems.extend(access_log(&config.access_log.to));
    problems.extend(Policies::load(config).err().map(|error| error.to_string()));
    problems
}

/// A check makes no file: what it can see is where one would be.
fn access_log(to: &LogTarget) -> Option<String> {
    let LogTarget::File(path) = to else { return None };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = match (folder.is_dir(), path.is_dir()) {
        (false, _) => "its folder is not there: make it, or choose another file",
        (true, true) => "it is a folder: name a file in it",
        (true, false) => return None,
    };
    Some(format!("access_log.to: {}: {problem}", path.display()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_needs_a_folder_and_is_none_itself() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| access_log(&LogTarget::File(directory.path().join(name)));
        assert_eq!(at("access.log"), None);
        assert!(
            at("none/access.log")
                .unwrap()
                .ends_with("its folder is not there: make it, or choose another file")
        );
        assert!(at(".").unwrap().ends_with("it is a folder: name a file in it"));
        assert_eq!(access_log(&LogTarget::Off), None);
    }
}
