//! Agents that took over from others: they outlive whoever started the first, so they are looked for.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;

use crate::agent::until;
use crate::system;

/// The option that such an agent runs with.
const HANDOVER: &[u8] = b"--handover";

/// The processes that took over, or are about to, and run by this configuration.
///
/// # Errors
/// If processes can't be listed.
pub fn of(config: &Path) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has just ended has no command line any more.
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let ours = words.clone().any(|word| word == config.as_os_str().as_bytes());
        if ours && words.any(|word| word == HANDOVER) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Ends them.
///
/// # Errors
/// If one does not go.
pub fn end(config: &Path) -> Result<()> {
    let found = of(config)?;
    if found.is_empty() {
        return Ok(());
    }
    for process in found {
        match system::kill(process) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error.into()),
            _ => {}
        }
    }
    until("the agents that took over are gone", || Ok(of(config)?.is_empty()))
}

/// Whether a process is gone, waited for or not.
///
/// # Errors
/// What the system says.
pub fn is_gone(process: u32) -> io::Result<bool> {
    match fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => Ok(stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        // It went while it was read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(true),
        Err(error) => Err(error),
    }
}
