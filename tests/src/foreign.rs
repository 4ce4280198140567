//! XDP programs of somebody else's.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::netns::{Namespace, unique};
use crate::system;

/// A program that passes every packet, pinned so that `ip` finds it.
pub struct Foreign {
    pin: PathBuf,
    program: OwnedFd,
}

impl Foreign {
    /// Loads one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn load(name: &str) -> Result<Self> {
        let pin = PathBuf::from("/sys/fs/bpf").join(unique("auth-agent-foreign"));
        let program = system::load_xdp(name).context("load")?;
        system::pin(&program, &pin).with_context(|| pin.display().to_string())?;
        Ok(Self { pin, program })
    }

    /// Attaches it over netlink, as `ip link set dev INTERFACE MODE pinned ...` does; modes are `xdpdrv` and
    /// `xdpgeneric`.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn attach(&self, namespace: &Namespace, interface: &str, mode: &str) -> Result<()> {
        // Not with `ip -n`, which mounts a sysfs of its own, without bpffs.
        let mut ip = namespace.command("ip");
        let output = ip.args(["link", "set", "dev", interface, mode, "pinned"]).arg(&self.pin).output()?;
        ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Attaches it by a link, natively, until that is dropped.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn link(&self, namespace: &Namespace, interface: &str) -> Result<OwnedFd> {
        namespace.run(|| {
            let interface = auth_agent::kernel::interfaces::named(interface)?.context("no such interface")?;
            Ok(system::link_xdp(&self.program, interface.index)?)
        })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.pin) {
            eprintln!("left behind: {}: {error}", self.pin.display());
        }
    }
}
