//! auth-agent: everything on one listener, told apart by paths.
//!
//! Its filter is on an interface that nothing is sent over: what XDP costs is another benchmark's subject.

use anyhow::Result;

use crate::agent::Setup;
use crate::bench::gateway::cell::Guard;
use crate::bench::gateway::request::{RSA_ISSUER, path};
use crate::bench::gateway::upstream;
use crate::issuer::{AUDIENCE, ISSUER};
use crate::netns::Namespace;

/// Where it listens.
pub const PORT: u16 = 8_443;
const INTERFACE: &str = "edge0";

/// The interface that it filters.
pub fn wire(namespace: &Namespace) -> Result<()> {
    namespace.ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", "far0"])?;
    namespace.ip(&["link", "set", INTERFACE, "up"])
}

/// All load comes from one source, so nothing may be limited that is counted for sources. It is counted all the same.
pub fn configuration(setup: &Setup) -> String {
    let pins = setup.pins().display();
    let (upstream, connections) = (upstream::ADDRESS, super::CONNECTIONS);
    let (open, closed) = (path(Guard::None), path(Guard::Es256));
    format!(
        r#"[kernel]
interfaces = ["{INTERFACE}"]
mode = "native"
pin_directory = "{pins}"
sources = 65536

[store]
directory = "store"

[control]
socket = "control.sock"

[[listener]]
address = "127.0.0.1:{PORT}"
certificate = "edge.pem"
key = "edge.key"

[[issuer]]
name = "es256"
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["ES256"]
keys = "es256.pem"

[[issuer]]
name = "rs256"
issuer = "{RSA_ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = ["RS256"]
keys = "rs256.pem"

[[upstream]]
name = "app"
endpoints = ["http://{upstream}"]

[[route]]
path = "{}"
upstream = "app"
auth = "none"

[[route]]
path = "{}"
upstream = "app"
auth = "required"

[sizes]
connections = {connections}
connections_per_source = {connections}

[timeouts]
headers = "10m"

[ladder]
on = false

[limits.requests]
rate = "1000000/s"

[limits.auth_failures]
rate = "1000000/s"

[limits.credential_failures]
rate = "1000000/s"
"#,
        open.trim_end_matches('/'),
        closed.trim_end_matches('/'),
    )
}
