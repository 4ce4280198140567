//! The stage of the demo and of the end-to-end tests: an edge host and a crowd of clients on one wire, a real
//! agent with native XDP on the edge, and an upstream behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

use crate::agent::{Agent, Setup};
use crate::client::Client;
use crate::netns::Namespace;
use crate::upstream::Upstream;

/// The edge's addresses.
pub const EDGE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The edge's IPv6 address.
pub const EDGE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The agent's port.
pub const HTTPS: u16 = 8_443;
const UPSTREAM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_000);
/// The edge's interface.
pub const INTERFACE: &str = "edge0";

/// Everything that plays.
pub struct Stage {
    /// The agent; `None` while it is dead.
    pub agent: Option<Agent>,
    /// The clients' host; it has 10.77.0.2 to .20, and the same numbers in fd77::/64 and fd77:0:0:1::/64.
    pub crowd: Namespace,
    /// The guarded host.
    pub edge: Namespace,
    /// The agent's files.
    pub setup: Setup,
    /// What the agent guards.
    pub upstream: Upstream,
}

/// Clients on the wire.
const CLIENTS: std::ops::RangeInclusive<u16> = 2..=20;

impl Stage {
    /// Builds the stage and starts the agent; `more` is added to its configuration.
    ///
    /// # Errors
    /// Whatever part does not come up.
    pub fn new(more: &str) -> Result<Self> {
        let stage = Self::without_agent(more)?;
        let agent = stage.setup.start(&stage.edge)?;
        Ok(Self { agent: Some(agent), ..stage })
    }

    /// Builds the stage, and leaves the agent to the caller.
    ///
    /// # Errors
    /// Whatever part does not come up.
    pub fn without_agent(more: &str) -> Result<Self> {
        let (edge, crowd) = (Namespace::new()?, Namespace::new()?);
        wire(&edge, &crowd)?;
        let upstream = Upstream::start(Some(&edge), UPSTREAM)?;
        let setup = Setup::new(&["localhost"])?;
        setup.configure(INTERFACE, "native", &format!("http://{UPSTREAM}"), more)?;
        Ok(Self { agent: None, crowd, edge, setup, upstream })
    }

    /// The client at 10.77.0.`number`.
    ///
    /// # Errors
    /// If its TLS can't be set up.
    pub fn client(&self, number: u8) -> Result<Client> {
        let source = Ipv4Addr::new(10, 77, 0, number).into();
        Client::new(source, SocketAddr::new(EDGE.into(), HTTPS), self.setup.authority.pem())
    }

    /// The client at fd77:0:0:`network`::`number`.
    ///
    /// # Errors
    /// If its TLS can't be set up.
    pub fn client6(&self, network: u16, number: u16) -> Result<Client> {
        let source = Ipv6Addr::new(0xfd77, 0, 0, network, 0, 0, 0, number).into();
        Client::new(source, SocketAddr::new(EDGE6.into(), HTTPS), self.setup.authority.pem())
    }

    /// Starts the agent anew.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.agent = None;
        self.agent = Some(self.setup.start(&self.edge)?);
        Ok(())
    }

    /// kill -9.
    ///
    /// # Errors
    /// If there is no agent.
    pub fn kill(&mut self) -> Result<()> {
        self.agent.take().context("no agent to kill")?.kill()
    }
}

/// Joins the two hosts by a veth pair and gives everyone an address.
fn wire(edge: &Namespace, crowd: &Namespace) -> Result<()> {
    let peer = "crowd0";
    edge.ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", peer, "netns", crowd.name()])?;
    edge.ip(&["address", "add", &format!("{EDGE}/24"), "dev", INTERFACE])?;
    edge.ip(&["address", "add", &format!("{EDGE6}/48"), "dev", INTERFACE, "nodad"])?;
    edge.ip(&["link", "set", INTERFACE, "up"])?;
    for number in CLIENTS {
        crowd.ip(&["address", "add", &format!("10.77.0.{number}/24"), "dev", peer])?;
        for network in 0..2 {
            let address = format!("fd77:0:0:{network}::{number:x}/48");
            crowd.ip(&["address", "add", &address, "dev", peer, "nodad"])?;
        }
    }
    crowd.ip(&["link", "set", peer, "up"])
}
