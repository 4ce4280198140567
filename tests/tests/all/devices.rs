//! VLANs and bonds: the filter sees what they carry. The guest runs these tests where this kernel has neither.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::agent::{Agent, Setup};
use tests::netns::Namespace;
use tests::privilege;
use tests::stage::HTTPS;

const EDGE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const TWO_TAGS: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const UNTAGGED: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const PLAINTEXT: u16 = 80;
const UPSTREAM: &str = "http://127.0.0.1:9000";

/// What a connection takes at most that is let through.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is waited for one that is not; that its packet was dropped is counted.
const MOMENT: Duration = Duration::from_millis(200);

/// Two hosts; a server of plaintext HTTP on the one, which also has the agent.
struct Hosts {
    crowd: Namespace,
    edge: Namespace,
    setup: Setup,
    _server: TcpListener,
}

impl Hosts {
    /// Joins them by veth pairs of these names.
    fn new(wires: &[&str]) -> Self {
        let (crowd, edge) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        for name in wires {
            let pair = ["link", "add", name, "type", "veth", "peer", "name", name, "netns", crowd.name()];
            edge.ip(&pair).unwrap();
        }
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PLAINTEXT));
        let server = edge.run(|| Ok(TcpListener::bind(everywhere)?)).unwrap();
        Self { crowd, edge, setup: Setup::new(&["localhost"]).unwrap(), _server: server }
    }

    /// Runs `ip` on both.
    fn ip(&self, arguments: &[&str]) {
        self.edge.ip(arguments).unwrap();
        self.crowd.ip(arguments).unwrap();
    }

    /// Gives an interface its addresses on both, in the edge's network, and sets it up.
    fn join(&self, interface: &str, edge: Ipv4Addr) {
        let [a, b, c, d] = edge.octets();
        let neighbour = Ipv4Addr::new(a, b, c, d + 1);
        for (host, address) in [(&self.edge, edge), (&self.crowd, neighbour)] {
            host.ip(&["address", "add", &format!("{address}/24"), "dev", interface]).unwrap();
            host.ip(&["link", "set", interface, "up"]).unwrap();
        }
    }

    /// Starts the agent, whose filter is then on the interface in this mode.
    fn start(&self, interface: &str, wanted: &str, mode: &str) -> Agent {
        self.setup.configure(interface, wanted, UPSTREAM, "").unwrap();
        let agent = self.setup.start(&self.edge).unwrap();
        let status = self.setup.json(&["status"]).unwrap();
        let attached = &status["filter"]["interfaces"][0];
        assert_eq!((&attached["name"], &attached["mode"]), (&interface.into(), &mode.into()));
        agent
    }

    fn connects(&self, to: Ipv4Addr, port: u16, limit: Duration) -> bool {
        let to = SocketAddr::from((to, port));
        self.crowd.run(|| Ok(TcpStream::connect_timeout(&to, limit).is_ok())).unwrap()
    }

    /// Plaintext HTTP ends at the filter, the agent's port is open.
    fn assert_filtered(&self, edge: Ipv4Addr) {
        let before = self.dropped();
        assert!(!self.connects(edge, PLAINTEXT, MOMENT), "{edge}");
        assert!(self.dropped() > before, "{edge}");
        assert!(self.connects(edge, HTTPS, PATIENCE), "{edge}");
    }

    /// Packets to the plaintext port.
    fn dropped(&self) -> u64 {
        self.setup.counter("plaintext-port").unwrap()
    }
}

const VLAN: [&str; 6] = ["link", "v0", "type", "vlan", "id", "100"];
/// Interface, what it lies on, protocol, number. The second and third are a VLAN within a VLAN (QinQ).
const TAGS: [[&str; 4]; 3] = [
    ["v0.100", "v0", "802.1Q", "100"],
    ["v0.200", "v0", "802.1ad", "200"],
    ["v0.200.100", "v0.200", "802.1Q", "100"],
];

/// One wire, with one tag, with two, and with none.
fn tagged() -> Hosts {
    let hosts = Hosts::new(&["v0"]);
    hosts.join("v0", UNTAGGED);
    for [name, below, protocol, number] in TAGS {
        hosts.ip(&[
            "link", "add", "link", below, "name", name, "type", "vlan", "proto", protocol, "id", number,
        ]);
        hosts.ip(&["link", "set", name, "up"]);
    }
    hosts.join("v0.100", EDGE);
    hosts.join("v0.200.100", TWO_TAGS);
    for address in [EDGE, TWO_TAGS, UNTAGGED] {
        assert!(hosts.connects(address, PLAINTEXT, PATIENCE), "{address}");
    }
    hosts
}

#[test]
fn a_filter_on_an_interface_judges_what_its_vlans_carry() {
    if !privilege::interface_usable("a filter below VLANs", &VLAN) {
        return;
    }
    let hosts = tagged();
    let _agent = hosts.start("v0", "native", "native");
    for address in [EDGE, TWO_TAGS, UNTAGGED] {
        hosts.assert_filtered(address);
    }
}

#[test]
fn a_filter_on_a_vlan_is_generic_and_judges_that_vlan_alone() {
    if !privilege::interface_usable("a filter on a VLAN", &VLAN) {
        return;
    }
    let hosts = tagged();
    let _agent = hosts.start("v0.100", "auto", "generic");
    hosts.assert_filtered(EDGE);
    for beside in [TWO_TAGS, UNTAGGED] {
        assert!(hosts.connects(beside, PLAINTEXT, PATIENCE), "{beside}");
    }
}

fn active_leg(host: &Namespace) -> Value {
    let arguments = ["-n", host.name(), "-json", "-details", "link", "show", "bond0"];
    let output = Command::new("ip").args(arguments).output().unwrap();
    let links: Value = serde_json::from_slice(&output.stdout).unwrap();
    links[0]["linkinfo"]["info_data"]["active_slave"].clone()
}

fn wait_for_active_leg(hosts: &Hosts, leg: &str) {
    let deadline = Instant::now() + PATIENCE;
    while [&hosts.edge, &hosts.crowd].iter().any(|host| active_leg(host) != leg) {
        assert!(Instant::now() < deadline, "{leg} does not become active");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_filter_on_a_bond_is_native_and_outlives_the_loss_of_a_leg_and_of_the_agent() {
    if !privilege::interface_usable("a filter on a bond", &["type", "bond"]) {
        return;
    }
    let hosts = Hosts::new(&["a0", "b0"]);
    hosts.ip(&["link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "20"]);
    for leg in ["a0", "b0"] {
        hosts.ip(&["link", "set", leg, "master", "bond0"]);
    }
    hosts.join("bond0", EDGE);
    wait_for_active_leg(&hosts, "a0");
    assert!(hosts.connects(EDGE, PLAINTEXT, PATIENCE));

    let agent = hosts.start("bond0", "native", "native");
    hosts.assert_filtered(EDGE);
    hosts.crowd.ip(&["link", "set", "a0", "down"]).unwrap();
    wait_for_active_leg(&hosts, "b0");
    hosts.assert_filtered(EDGE);

    let before = hosts.dropped();
    agent.kill().unwrap();
    assert!(!hosts.connects(EDGE, PLAINTEXT, MOMENT));
    let _agent = hosts.start("bond0", "native", "native");
    // The next agent's program counts in the maps of the last one's.
    assert!(hosts.dropped() > before);
    hosts.assert_filtered(EDGE);
}
