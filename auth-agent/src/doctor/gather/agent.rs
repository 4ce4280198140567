//! What the configuration asks for, held against the host.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::ports;
use crate::config::{self, CertificateFiles, Config};
use crate::doctor::facts::{Agent, Certificate, Listener, Rights, Store, Unseen};
use crate::serve::descriptors_needed;
use crate::tls::{Pair, TlsError};

/// Gathers it.
pub fn agent(config: &Config) -> Agent {
    let directory = config.store.directory.clone();
    let state = match fs::metadata(&directory) {
        Ok(metadata) => Ok(Some(Rights { directory: metadata.is_dir(), mode: metadata.mode() & 0o7777 })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    };
    Agent {
        connections: config.sizes.connections.get(),
        descriptors: descriptors_needed(config),
        listeners: config.listeners.iter().map(listener).collect(),
        store: Store { directory, state },
    }
}

fn listener(listener: &config::Listener) -> Listener {
    Listener {
        address: listener.address,
        certificates: listener.certificates.iter().map(certificate).collect(),
        port: ports::probe(listener.address),
    }
}

fn certificate(files: &CertificateFiles) -> Certificate {
    let pair = Pair::read(files);
    let unseen = |error: TlsError| Unseen { denied: error.is_denied(), why: error.to_string() };
    let validity = pair.map(|pair| pair.leaf.validity).map_err(unseen);
    Certificate { path: files.certificate.clone(), validity }
}
