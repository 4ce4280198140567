//! What the doctor saw, as plain values: every finding can be tested without the machine that has it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::clock::UnixTime;
use crate::config::XdpMode;
pub use crate::kernel::Pinned;
pub use crate::kernel::foreign::{Holder, Program};
pub use crate::kernel::place::Master;
use crate::tls::Validity;

/// A fact, or why it could not be seen.
pub type Seen<T> = Result<T, Unseen>;

/// Why something could not be seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unseen {
    /// Whether root would see it.
    pub denied: bool,
    /// What the system said.
    pub why: String,
}

impl Unseen {
    /// For another reason than missing rights.
    pub fn because(why: impl Into<String>) -> Self {
        Self { denied: false, why: why.into() }
    }
}

impl From<io::Error> for Unseen {
    fn from(error: io::Error) -> Self {
        Self { denied: error.kind() == io::ErrorKind::PermissionDenied, why: error.to_string() }
    }
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the configuration asks for; nothing where there is none that can be used.
    pub agent: Option<Agent>,
    /// The configuration file.
    pub config: Configuration,
    /// What all interfaces share.
    pub host: Host,
    /// The interfaces that were asked for.
    pub interfaces: Vec<Interface>,
    /// How the filter is to be attached.
    pub mode: XdpMode,
    /// Names of all other interfaces that are up, loopback apart.
    pub others: Vec<String>,
    /// Where the filter lives on.
    pub pins: Pins,
    /// `kernel.replace`
    pub replace: bool,
}

/// The configuration file.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it can be used.
    pub state: ConfigState,
}

/// Whether the configuration can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigState {
    /// Not there, and nobody said that it should be.
    Absent,
    /// So many problems in it, the first of them this.
    Broken(usize, String),
    /// Read and good.
    Good,
    /// Can't be read.
    Unseen(Unseen),
}

/// What all interfaces share.
#[derive(Clone, Debug)]
pub struct Host {
    /// The processor's architecture, as Rust calls it.
    pub architecture: &'static str,
    /// How the `bpf` system call answers.
    pub bpf: BpfCall,
    /// Whether the kernel tells its types (BTF).
    pub btf: bool,
    /// This process's effective capabilities.
    pub capabilities: Seen<Capabilities>,
    /// Online processors.
    pub cpus: usize,
    /// `net.core.bpf_jit_enable`.
    pub jit: Seen<u32>,
    /// The kernel's release, such as `6.1.0-18-amd64`.
    pub kernel: Seen<String>,
    /// This process's limits on locked memory (bytes) and open files.
    pub limits: Seen<Limits>,
    /// The wall clock.
    pub now: UnixTime,
    /// Bytes of a memory page.
    pub page: usize,
    /// Whether this process runs as root.
    pub root: bool,
    /// Whether the wall clock is kept in step by somebody.
    pub synchronised: Seen<bool>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf: Seen<u32>,
}

/// A kernel version, major and minor.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// Reads a release such as `6.1.0-18-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut parts = release.split(|c: char| !c.is_ascii_digit());
        Some(Self(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// How the `bpf` system call answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BpfCall {
    /// It does.
    Available,
    /// It refuses this process.
    Denied,
    /// The kernel has none.
    Missing,
}

/// A set of capabilities, as in `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capabilities(pub u64);

/// Limits of a process; `u64::MAX`: none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes that may be locked.
    pub locked_memory: u64,
    /// Open files: the hard limit, to which the agent raises the soft one.
    pub open_files: u64,
}

/// Where the filter lives on.
#[derive(Clone, Debug)]
pub struct Pins {
    /// `kernel.pin_directory`.
    pub directory: PathBuf,
    /// Whether it lies on a bpf file system.
    pub on_bpffs: bool,
    /// Which filters are pinned there.
    pub pinned: Seen<Pinned>,
}

/// What the configuration asks for.
#[derive(Clone, Debug)]
pub struct Agent {
    /// `sizes.connections`.
    pub connections: usize,
    /// The open file limit that those and the upstreams' need.
    pub descriptors: u64,
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The store's directory.
    pub store: Store,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// What it shows.
    pub certificates: Vec<Certificate>,
    /// Whether it could be bound.
    pub port: Seen<Port>,
}

/// A certificate of a listener.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate file.
    pub path: PathBuf,
    /// When it is valid, if TLS can use it and its key.
    pub validity: Seen<Validity>,
}

/// Whether an address could be bound.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Port {
    /// It could.
    Free,
    /// No interface has the address.
    NotHere,
    /// Needs a capability that this process lacks.
    Privileged,
    /// Another process listens, as far as can be seen this one.
    Taken(Option<Process>),
}

/// A process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// Its name, cut at 15 characters.
    pub name: String,
}

/// The store's directory.
#[derive(Clone, Debug)]
pub struct Store {
    /// Where it is.
    pub directory: PathBuf,
    /// What is there; nothing where there is none yet.
    pub state: Seen<Option<Rights>>,
}

/// Kind, owner and rights of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rights {
    /// Whether it is a directory.
    pub directory: bool,
    /// Permission bits.
    pub mode: u32,
}

/// An interface that was asked for.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Whether it may be missing: it is in `kernel.hotplug`.
    pub late: bool,
    /// What is there under that name; nothing where there is no such interface.
    pub link: Option<Link>,
    /// Its name.
    pub name: String,
}

/// An interface that is there.
#[derive(Clone, Debug)]
pub struct Link {
    /// Receive channels, where the driver tells.
    pub channels: Option<Channels>,
    /// The driver, as ethtool names it.
    pub driver: Option<String>,
    /// Whether its frames have an Ethernet header.
    pub ethernet: bool,
    /// Offloads, where the driver tells.
    pub features: Option<Features>,
    /// Its index.
    pub index: u32,
    /// Where the interrupts of its receive queues go; nothing where it can't be seen.
    pub interrupts: Option<Interrupts>,
    /// The kind of a virtual interface: `veth`, `vlan`, `bond`.
    pub kind: Option<String>,
    /// The interface that this one lies on, such as a VLAN's.
    pub lower: Option<String>,
    /// The bond or bridge that this one is a part of.
    pub master: Option<Master>,
    /// Bytes.
    pub mtu: u32,
    /// Whether the driver runs XDP programs.
    pub native: Native,
    /// Name and MTU of a veth's other end, where it is in this network namespace.
    pub peer: Option<(String, u32)>,
    /// The XDP program on it.
    pub program: Option<Program>,
    /// Interfaces on top of it that have an XDP program.
    pub programs_above: Vec<String>,
    /// Receive queues that hand packets to other processors (RPS), of how many; nothing where it can't be seen.
    pub rps: Option<(usize, usize)>,
    /// Queues that the indirection table (RSS) spreads over.
    pub rss: Option<usize>,
    /// Whether it is up.
    pub up: bool,
    /// VLANs that lie on it.
    pub vlans: Vec<String>,
}

/// Whether a driver runs XDP programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Native {
    /// Who says so.
    pub source: NativeSource,
    /// Nothing where nobody knows.
    pub supported: Option<bool>,
}

/// Who says whether a driver runs XDP programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NativeSource {
    /// The kernel, over netlink (6.3 and later).
    Kernel,
    /// Our own table of drivers.
    Table,
}

/// Channels in use and at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Channels {
    /// Receive queues.
    pub in_use: u32,
    /// As many as there can be.
    pub most: u32,
    /// Whether receive and transmit queues are made in pairs: what `ethtool -L` calls them.
    pub combined: bool,
}

/// Interrupts of an interface's queues.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interrupts {
    /// Processors that they go to.
    pub cpus: Vec<usize>,
    /// Their numbers.
    pub numbers: Vec<u32>,
}

/// Offloads that matter to XDP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features {
    /// `rx-gro-hw`
    pub gro_hw: Feature,
    /// `rx-lro`
    pub lro: Feature,
    /// `rx-vlan-hw-parse`
    pub vlan_strip: Feature,
}

/// One offload.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Feature {
    /// Whether `ethtool -K` can't change it.
    pub fixed: bool,
    /// Whether it is on.
    pub on: bool,
}
