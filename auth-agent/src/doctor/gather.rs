//! Looking: every fact that a finding may rest on. Nothing here changes anything, and nothing fails: what can't
//! be seen is a fact too.

mod agent;
mod host;
mod interrupts;
mod links;
mod ports;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;

use super::Request;
use super::facts::{ConfigState, Configuration, Facts, Pins, Unseen};
use crate::clock::UnixTime;
use crate::config::{Config, XdpMode};
use crate::kernel::{self, FilterError, Pinned};

/// What holds where no configuration says otherwise.
const DEFAULT_PINS: &str = "/sys/fs/bpf/auth-agent";

/// Gathers everything.
pub fn facts(request: &Request) -> Facts {
    let (state, config) = configuration(request);
    let kernel = config.as_ref().map(|config| &config.kernel);
    let wanted = match (&request.interfaces[..], kernel) {
        ([], Some(kernel)) => [&kernel.interfaces[..], &kernel.hotplug].concat(),
        (named, _) => named.to_vec(),
    };
    let host = host::host(UnixTime::now());
    let (mut interfaces, others) = links::interfaces(wanted, host.version());
    for interface in &mut interfaces {
        interface.late = kernel.is_some_and(|kernel| kernel.hotplug.contains(&interface.name));
    }
    let directory = kernel.map_or(DEFAULT_PINS.into(), |kernel| kernel.pin_directory.clone());
    Facts {
        agent: config.as_ref().map(agent::agent),
        config: Configuration { path: request.config.clone(), state },
        host,
        interfaces,
        mode: kernel.map_or(XdpMode::Auto, |kernel| kernel.mode),
        others,
        pins: pins(directory),
        replace: kernel.is_some_and(|kernel| kernel.replace),
    }
}

fn configuration(request: &Request) -> (ConfigState, Option<Config>) {
    match File::open(&request.config) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !request.config_named => {
            return (ConfigState::Absent, None);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return (ConfigState::Unseen(error.into()), None);
        }
        // Whatever else is wrong, reading it says so.
        _ => {}
    }
    match Config::load(&request.config) {
        Ok(config) => (ConfigState::Good, Some(config)),
        Err(errors) => {
            let first = errors.iter().next().map(ToString::to_string).unwrap_or_default();
            (ConfigState::Broken(errors.iter().count(), first), None)
        }
    }
}

fn pins(directory: std::path::PathBuf) -> Pins {
    let pinned = match fs::metadata(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Pinned::default()),
        Err(error) => Err(error.into()),
        Ok(_) => kernel::pinned(&directory).map_err(|error| match error {
            FilterError::Directory { source, .. } => source.into(),
            error => Unseen::because(error.to_string()),
        }),
    };
    Pins { pinned, on_bpffs: kernel::on_bpffs(&directory), directory }
}
