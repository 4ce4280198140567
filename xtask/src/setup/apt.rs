//! Debian and Ubuntu packages.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// A slow mirror is waited for, a hanging one is not.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Installs the packages if this is Debian or Ubuntu and we are root; otherwise says what to install.
pub fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    ensure!(
        process::on_path("apt-get").is_some(),
        "install what Debian calls {names} with this system's package manager"
    );
    ensure!(
        is_root(),
        "run this, then try again: sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends {names}'"
    );
    eprintln!("installing: {names}");
    update()?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// Reads the package sources anew; needs root.
pub fn update() -> Result<()> {
    apt_get(&["update"])
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let log = process::cache()?.join("apt-get.log");
    let mut command = Command::new("apt-get");
    // Another apt-get, such as an unattended upgrade, is waited for.
    command
        .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        // What is installed for tests is not to serve on this host, if systemd can be told.
        .env("SYSTEMD_OFFLINE", "1")
        .env("DEBIAN_FRONTEND", "noninteractive");
    process::run_logged(&mut command, &log, LIMIT).context("check the network and the package sources")
}

/// Whether this program runs as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
