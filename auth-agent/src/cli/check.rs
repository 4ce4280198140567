//! `config check`: what `run` would find wrong, all at once.

use std::path::Path;
use std::slice;

use serde::Serialize;

use crate::config::{Config, Listener};
use crate::tls;
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

/// What `run` would say of its certificate and key.
pub(super) fn certificate(listener: &Listener) -> Result<(), String> {
    tls::server_config(listener).map(drop).map_err(|error| error.to_string())
}
