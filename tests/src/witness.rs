//! Linux's own view of packets, as the kernel tells it when it looks for their socket: protocol, addresses, ports.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use auth_common::lookup::{AF_INET, Lookup};
use auth_common::packet::{Address, Packet, Transport};
use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::SkLookup;

use crate::netns::Namespace;

const PROGRAM: &str = "auth_witness";
const LOOKUPS: &str = "LOOKUPS";

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Whom a TCP segment or UDP datagram is for, and from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct View {
    /// Address and port that it goes to.
    pub destination: SocketAddr,
    /// TCP's number or UDP's.
    pub protocol: u8,
    /// Address and port that it comes from.
    pub source: SocketAddr,
}

impl View {
    /// The parser's, where it finds ports.
    pub fn of(packet: &Packet) -> Option<Self> {
        let (protocol, source, destination) = match packet.transport {
            Transport::Tcp { source, destination, .. } => (TCP, source, destination),
            Transport::Udp { source, destination } => (UDP, source, destination),
            _ => return None,
        };
        Some(Self {
            destination: SocketAddr::new(ip(packet.destination), destination),
            protocol,
            source: SocketAddr::new(ip(packet.source), source),
        })
    }

    /// The kernel's.
    fn asked(lookup: &Lookup) -> Result<Self> {
        let address = |bytes: [u8; 16], port: u32| {
            let [a, b, c, d, ..] = bytes;
            let ip = if lookup.family == AF_INET { IpAddr::from([a, b, c, d]) } else { IpAddr::from(bytes) };
            Ok::<_, anyhow::Error>(SocketAddr::new(ip, u16::try_from(port)?))
        };
        Ok(Self {
            destination: address(lookup.local, lookup.local_port)?,
            protocol: u8::try_from(lookup.protocol)?,
            source: address(lookup.remote, lookup.remote_port)?,
        })
    }

    /// Whether it is a TCP segment.
    pub fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }
}

fn ip(address: Address) -> IpAddr {
    match address {
        Address::V4(octets) => octets.into(),
        Address::V6(octets) => octets.into(),
    }
}

/// Sees every lookup in a namespace, until it is dropped.
pub struct Witness {
    _ebpf: Ebpf,
    lookups: RingBuf<MapData>,
}

impl Witness {
    /// Puts one into a namespace.
    ///
    /// # Errors
    /// If its object is not built; what the kernel says.
    pub fn new(namespace: &Namespace) -> Result<Self> {
        let mut ebpf = Ebpf::load(&object()?)?;
        let lookups = RingBuf::try_from(ebpf.take_map(LOOKUPS).context("no ring")?)?;
        let program: &mut SkLookup = ebpf.program_mut(PROGRAM).context("no program")?.try_into()?;
        program.load()?;
        program.attach(File::open(namespace.path())?)?;
        Ok(Self { _ebpf: ebpf, lookups })
    }

    /// The oldest lookup that has not been taken.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn take(&mut self) -> Result<Option<View>> {
        let Some(item) = self.lookups.next() else { return Ok(None) };
        View::asked(&Lookup::from_bytes(&item).context("not a lookup")?).map(Some)
    }
}

fn object() -> Result<Vec<u8>> {
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/witness"));
    let path = std::env::var_os("AUTH_WITNESS_OBJECT").map_or(built, PathBuf::from);
    std::fs::read(&path).with_context(|| format!("{}: `cargo xtask test` builds it", path.display()))
}
