//! Debian's xdp-filter, set up by its own tool in a network and a mount namespace of its own.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;

use crate::kernel;
use crate::netns::Namespace;

/// A bpffs of its own keeps the tool's pins apart from the host's; without libxdp's dispatcher, the program is
/// measured alone. `set -e` makes the last line say what failed.
const SET_UP: &str = "set -e
mount -t bpf bpf /sys/fs/bpf
export LIBXDP_SKIP_DISPATCHER=1
xdp-filter load lo --mode skb
xdp-filter port 80 --proto tcp --mode dst
xdp-filter ip \"$1\" --mode src";

/// xdp-filter with one port rule and one address rule.
pub struct XdpFilter {
    program: Xdp,
    _namespace: Namespace,
}

impl XdpFilter {
    /// Loads it; TCP to port 80 and packets from `banned` are dropped.
    ///
    /// # Errors
    /// If it is not installed, or whatever it says.
    pub fn load(banned: Ipv4Addr) -> Result<Self> {
        let installed = Command::new("xdp-filter").arg("--version").output();
        installed.context("xdp-filter is not installed: `apt-get install xdp-tools`")?;
        let namespace = Namespace::new()?;
        let output = namespace
            .command("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", SET_UP, "sh", &banned.to_string()])
            .output()?;
        ensure!(
            output.status.success(),
            "xdp-filter: {}",
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it said nothing")
        );
        Ok(Self { program: kernel::attached(&namespace)?, _namespace: namespace })
    }

    /// The program.
    pub fn program(&self) -> &Xdp {
        &self.program
    }
}
