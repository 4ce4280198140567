//! What the configuration asks for, held against the host.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::ports;
use crate::config::{self, Config};
use crate::doctor::facts::{Agent, Listener, Rights, Seen, Store, Unseen};
use crate::tls::{self, TlsError};

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
        listeners: config.listeners.iter().map(listener).collect(),
        store: Store { directory, state },
    }
}

fn listener(listener: &config::Listener) -> Listener {
    let validity = tls::validity(&listener.certificate).ok().flatten();
    Listener {
        address: listener.address,
        certificate: listener.certificate.clone(),
        port: ports::probe(listener.address),
        usable: usable(listener),
        validity: validity.map(|validity| (validity.not_before, validity.not_after)),
    }
}

fn usable(listener: &config::Listener) -> Seen<()> {
    tls::server_config(listener).map(drop).map_err(|error| Unseen {
        denied: matches!(&error, TlsError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied),
        why: error.to_string(),
    })
}
