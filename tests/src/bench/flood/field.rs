//! Where it happens: a client and an attacker, each on a wire of its own to the edge.
//!
//! The receive path of both wires runs in kernel threads (threaded NAPI) that are kept on the CPU of the agent and of
//! the client, and run before them, as the interrupts of a network card would. So a flood costs them what receiving
//! and dropping it costs, and those threads' CPU time says how much that is.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::attack::{HTTPS, Variant};
use super::ruleset;
use crate::agent::{Agent, Setup};
use crate::bench::system;
use crate::client::Client;
use crate::issuer::{AUDIENCE, ISSUER};
use crate::netns::Namespace;
use crate::upstream::Upstream;

/// The edge's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const UPSTREAM: &str = "127.0.0.1:9000";

/// Sources that have room.
pub const SOURCES: u32 = 65_536;
/// Packets per second and source, twice as many at once. More than a client of this benchmark sends.
pub const PACKETS: u32 = 100_000;
/// New connections per second and source, and at once: as by default.
pub const CONNECTIONS: (u32, u32) = (50, 200);
/// New connections per second of all strangers, as by default, and at once: soon used up.
pub const BREAKER: (u32, u32) = (5_000, 1_000);

/// The attacker's end of its wire, and the MAC addresses of both ends: a frame of [`crate::frames`] has them.
const EXIT: &str = "attacker0";
const EDGE_MAC: &str = "02:00:00:00:00:02";
const ATTACKER_MAC: &str = "02:00:00:00:00:01";

/// The field.
pub struct Field {
    agent: Option<Agent>,
    ruleset: bool,
    /// Where floods come from.
    pub attacker: Namespace,
    /// Where requests come from.
    pub client: Namespace,
    edge: Namespace,
    setup: Setup,
    /// The edge's ends of the wires: the client's, the attacker's.
    wires: [String; 2],
    cpu: usize,
    _upstream: Upstream,
}

impl Field {
    /// Builds it without an agent. This thread and what it starts stays on `cpu`.
    pub fn new(cpu: usize) -> Result<Self> {
        system::keep_on(0, cpu)?;
        let [attacker, client, edge] = [Namespace::new()?, Namespace::new()?, Namespace::new()?];
        // Threads are found by these names, whatever else the machine runs.
        let wires = ["c", "a"].map(|wire| format!("{wire}{}", std::process::id()));
        wire(&edge, &wires[0], "10.77.0.1/24", &client, "client0", "10.77.0.2/24")?;
        wire(&edge, &wires[1], "10.78.0.1/24", &attacker, EXIT, "10.78.0.2/24")?;
        // What the edge answers goes back to the attacker, who ignores it.
        let neighbour = ["neighbour", "add", "10.78.0.2", "lladdr", ATTACKER_MAC, "nud", "permanent", "dev"];
        edge.ip(&[neighbour.as_slice(), &[&wires[1]]].concat())?;
        edge.ip(&["route", "add", "default", "via", "10.78.0.2"])?;
        let upstream = Upstream::start(Some(&edge), UPSTREAM.parse()?)?;
        let setup = Setup::new(&["localhost"])?;
        setup.write("config.toml", &configuration(&setup, &wires))?;
        let field = Self {
            agent: None,
            ruleset: false,
            attacker,
            client,
            edge,
            setup,
            wires,
            cpu,
            _upstream: upstream,
        };
        for wire in &field.wires {
            field.thread_receive(wire)?;
        }
        Ok(field)
    }

    /// The client at [`CLIENT`], and a token for it.
    pub fn asker(&self) -> Result<(Client, String)> {
        let edge = SocketAddr::new(ADDRESS.into(), HTTPS);
        let client = Client::new(CLIENT.into(), edge, self.setup.authority.pem())?;
        Ok((client, self.setup.issuer.token("client", "", 3_000)?))
    }

    /// Starts the agent anew, with `variant` in front of it.
    pub fn guard(&mut self, variant: Variant) -> Result<()> {
        if std::mem::take(&mut self.ruleset) {
            ruleset::remove(&self.edge)?;
        }
        self.agent = None;
        self.agent = Some(self.setup.start(&self.edge)?);
        match variant {
            Variant::Xdp => {
                let status = self.setup.json(&["status"])?;
                let interfaces = status["filter"]["interfaces"].as_array().context("no interfaces")?;
                let native = interfaces.iter().all(|interface| interface["mode"] == "native");
                ensure!(native, "not native: {interfaces:?}");
            }
            Variant::Nftables | Variant::Unfiltered => {
                self.setup.json(&["detach"])?;
            }
        }
        if variant == Variant::Nftables {
            ruleset::load(&self.edge, &self.wires)?;
            self.ruleset = true;
        }
        // A change of programs may have made new threads.
        for thread in self.receivers(&self.wires[0])?.into_iter().chain(self.receivers(&self.wires[1])?) {
            system::keep_on(thread, self.cpu)?;
            system::run_first(thread)?;
        }
        Ok(())
    }

    /// Index of the interface by which floods leave.
    pub fn exit(&self) -> Result<u32> {
        let interfaces = self.attacker.run(|| Ok(auth_agent::kernel::interfaces::list()?))?;
        let exit = interfaces.iter().find(|interface| interface.name == EXIT);
        Ok(exit.context("the attacker's wire is gone")?.index)
    }

    /// CPU time of the agent.
    pub fn agent_time(&self) -> Result<Duration> {
        Ok(system::cpu_time(self.agent.as_ref().context("no agent")?.id())?)
    }

    /// CPU time spent on receiving from the attacker.
    pub fn receive_time(&self) -> Result<Duration> {
        let threads = self.receivers(&self.wires[1])?.into_iter();
        threads.map(|thread| Ok(system::cpu_time(thread)?)).sum()
    }

    /// Packets that came in from the attacker, and those of them that were dropped on purpose.
    pub fn received(&self) -> Result<(u64, u64)> {
        let output = Command::new("ip")
            .args(["-n", self.edge.name(), "-json", "-statistics", "link", "show", "dev", &self.wires[1]])
            .output()?;
        let links: Value = serde_json::from_slice(&output.stdout).context("ip -statistics link")?;
        let received = links[0]["stats64"]["rx"]["packets"].as_u64().context("no statistics")?;
        let dropped = if self.ruleset { ruleset::dropped(&self.edge)? } else { self.filtered()? };
        Ok((received, dropped))
    }

    fn filtered(&self) -> Result<u64> {
        let status = self.setup.json(&["status"])?;
        let counters = status["filter"]["counters"].as_array().context("status without counters")?;
        let drops = counters.iter().filter(|counter| counter["verdict"] == "drop");
        Ok(drops.filter_map(|counter| counter["packets"].as_u64()).sum())
    }

    /// Has the receive path of a wire run in threads. Generic receive offload, as network cards have it on, makes veth
    /// receive as they do with and without a program.
    fn thread_receive(&self, wire: &str) -> Result<()> {
        self.edge.run(|| system::offload_receive(wire).context("ETHTOOL_SGRO"))?;
        let switch = format!("echo 1 > /sys/class/net/{wire}/threaded");
        // This mounts the namespace's own sysfs.
        let output =
            Command::new("ip").args(["netns", "exec", self.edge.name(), "sh", "-c", &switch]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "threaded NAPI: {}", said.trim());
        Ok(())
    }

    /// The threads that receive from a wire.
    fn receivers(&self, wire: &str) -> Result<Vec<u32>> {
        let name = format!("napi/{wire}-");
        let processes =
            fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_receiver = |process: &u32| {
            fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.starts_with(&name))
        };
        let threads: Vec<_> = processes.filter(is_receiver).collect();
        ensure!(
            !threads.is_empty(),
            "no thread receives from {wire}: threaded NAPI needs Linux 5.12 or later"
        );
        Ok(threads)
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        // Before its namespace.
        self.agent = None;
    }
}

fn wire(edge: &Namespace, name: &str, address: &str, other: &Namespace, peer: &str, its: &str) -> Result<()> {
    let link = ["link", "add", name, "address", EDGE_MAC, "type", "veth", "peer", "name", peer];
    edge.ip(&[link.as_slice(), &["address", ATTACKER_MAC, "netns", other.name()]].concat())?;
    edge.ip(&["address", "add", address, "dev", name])?;
    other.ip(&["address", "add", its, "dev", peer])?;
    other.ip(&["link", "set", peer, "up"])?;
    edge.ip(&["link", "set", name, "up"])
}

/// The client must not be limited by its own budget; what floods are limited by is the same in all variants.
fn configuration(setup: &Setup, wires: &[String; 2]) -> String {
    let [client, attacker] = wires;
    let pins = setup.pins().display();
    let burst = 2 * PACKETS;
    let (per_second, at_once) = CONNECTIONS;
    let (all_per_second, all_at_once) = BREAKER;
    format!(
        r#"[kernel]
interfaces = ["{client}", "{attacker}"]
mode = "native"
pin_directory = "{pins}"
sources = {SOURCES}

[store]
directory = "store"

[control]
socket = "control.sock"

[[listener]]
address = "[::]:{HTTPS}"
certificate = "edge.pem"
key = "edge.key"

[[issuer]]
name = "test"
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["ES256"]
keys = "issuer.pem"

[[upstream]]
name = "echo"
endpoints = ["http://{UPSTREAM}"]

[[route]]
path = "/"
upstream = "echo"
auth = "required"

[limits.requests]
rate = "1000000/s"

[limits.packets]
rate = "{PACKETS}/s"
burst = {burst}

[limits.connections]
rate = "{per_second}/s"
burst = {at_once}

[limits.breaker]
rate = "{all_per_second}/s"
burst = {all_at_once}
"#
    )
}
