//! A wire into a host that takes every packet on it for its own, whatever its destination, and a witness in that
//! host's stack. Frames go one by one, so that what is seen is known to come from the one just sent.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use auth_agent::kernel::interfaces;

use crate::frames::{Ip, udp};
use crate::netns::Namespace;
use crate::system;
use crate::witness::{View, Witness};

/// The host's end of the wire.
pub const NEAR: &str = "near0";
const FAR: &str = "far0";

/// How long a packet may take from one end of the wire to the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// The port, and source port, of the packet that marks the end of what was sent. Nothing else may use both.
pub const MARK: u16 = 9;

const FRAGMENT_MEMORY: &str = "268435456";
/// Longer than a test waits between two fragments, unless the machine stalls.
const FRAGMENT_SECONDS: &str = "15";

const MARKED: &str = "10.255.255.254";

/// The wire, its host and the witness.
pub struct Wire {
    /// The host at the near end.
    pub host: Namespace,
    mark: Vec<u8>,
    sender: File,
    witness: Witness,
    _far: Namespace,
}

impl Wire {
    /// Lays one.
    ///
    /// # Errors
    /// Whatever part does not come up.
    pub fn new() -> Result<Self> {
        let (host, far) = (Namespace::new()?, Namespace::new()?);
        join(&host, &far)?;
        host.run(accept_everything)?;
        let sender = far.run(|| {
            let all = interfaces::list()?;
            let far = all.iter().find(|interface| interface.name == FAR).context("no far end")?;
            Ok(system::packet_socket(far.index, 0)?)
        })?;
        let witness = Witness::new(&host)?;
        let mark = Ip::new(MARKED, MARKED, 17, udp(MARK, MARK, b"")).frame();
        Ok(Self { host, mark, sender, witness, _far: far })
    }

    /// The far end, for another thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn sender(&self) -> Result<File> {
        Ok(self.sender.try_clone()?)
    }

    /// Sends frames, and returns what the host's stack looked for a socket for.
    ///
    /// # Errors
    /// If the interface does not take a frame, or the mark behind them does not come through.
    pub fn send(&mut self, frames: &[Vec<u8>]) -> Result<Vec<View>> {
        for frame in frames.iter().chain([&self.mark]) {
            self.sender.write_all(frame).with_context(|| format!("send {frame:02x?}"))?;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.witness.take()? {
                Some(view) if is_mark(&view) => return Ok(seen),
                Some(view) => seen.push(view),
                None if Instant::now() < deadline => std::thread::yield_now(),
                None => bail!("the mark does not come through"),
            }
        }
    }
}

fn is_mark(view: &View) -> bool {
    let end: Option<SocketAddr> = format!("{MARKED}:{MARK}").parse().ok();
    Some(view.source) == end && Some(view.destination) == end
}

/// The near end has the address that frames are built for. Neither end talks by itself, nor knows a way back.
fn join(host: &Namespace, far: &Namespace) -> Result<()> {
    host.ip(&["link", "add", NEAR, "address", "02:00:00:00:00:02", "type", "veth", "peer", "name", FAR])?;
    host.ip(&["link", "set", FAR, "netns", far.name()])?;
    for (namespace, end) in [(host, NEAR), (far, FAR)] {
        namespace.ip(&["link", "set", end, "addrgenmode", "none"])?;
        namespace.ip(&["link", "set", end, "up"])?;
    }
    for family in ["-4", "-6"] {
        // Only what comes in by the wire: answers must not come back as packets of their own.
        host.ip(&[family, "rule", "add", "iif", NEAR, "lookup", "100"])?;
        host.ip(&[family, "route", "add", "local", "default", "dev", "lo", "table", "100"])?;
    }
    Ok(())
}

/// Any source will do. Fragments whose rest never comes are kept for a while, and must not crowd out others.
fn accept_everything() -> Result<()> {
    let near = |setting: &str| format!("ipv4/conf/{NEAR}/{setting}");
    let settings = [
        ("ipv4/conf/all/accept_local", "1"),
        (&near("accept_local"), "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        (&near("rp_filter"), "0"),
        ("ipv4/ipfrag_high_thresh", FRAGMENT_MEMORY),
        ("ipv4/ipfrag_time", FRAGMENT_SECONDS),
        ("ipv6/ip6frag_high_thresh", FRAGMENT_MEMORY),
        ("ipv6/ip6frag_time", FRAGMENT_SECONDS),
    ];
    for (setting, value) in settings {
        let path = format!("/proc/sys/net/{setting}");
        fs::write(&path, value).with_context(|| path.clone())?;
    }
    let ipv6 = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{NEAR}/disable_ipv6"))?;
    ensure!(ipv6.trim() == "0", "IPv6 is off on this host");
    Ok(())
}
