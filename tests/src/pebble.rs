//! Pebble, an ACME server for tests, with the DNS server that it asks.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::agent::until;
use crate::netns::Namespace;
use crate::pki::Authority;

/// Where its directory is.
pub const DIRECTORY: &str = "https://127.0.0.1:14000/dir";
const API: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 14_000);
const MANAGEMENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 15_000);
const DNS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8_053);
const DNS_MANAGEMENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8_055);

/// Both processes; killed with their guard.
pub struct Pebble {
    children: Vec<Child>,
    folder: PathBuf,
}

impl Pebble {
    /// Whether it is installed.
    pub fn is_here() -> bool {
        let runs = |program| Command::new(program).arg("-h").output().is_ok();
        runs("pebble") && runs("pebble-challtestsrv")
    }

    /// Starts it inside `namespace`, where every name leads to the loopback, with a certificate of `authority` and its
    /// files in `folder`. It validates by connecting to `port`.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(namespace: &Namespace, authority: &Authority, folder: &Path, port: u16) -> Result<Self> {
        let identity = authority.issue(&["127.0.0.1"])?;
        fs::write(folder.join("pebble.pem"), identity.certificate)?;
        fs::write(folder.join("pebble.key"), identity.key)?;
        let config = serde_json::json!({ "pebble": {
            "listenAddress": API.to_string(),
            "managementListenAddress": MANAGEMENT.to_string(),
            "certificate": folder.join("pebble.pem"),
            "privateKey": folder.join("pebble.key"),
            "httpPort": 80,
            "tlsPort": port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(folder.join("pebble.json"), config.to_string())?;
        let mut pebble = Self { children: Vec::new(), folder: folder.to_owned() };

        let mut dns = namespace.command("pebble-challtestsrv");
        dns.args(["-dns01", &DNS.to_string(), "-management", &DNS_MANAGEMENT.to_string()]);
        dns.args(["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        pebble.spawn(dns, "dns.log")?;
        let mut server = namespace.command("pebble");
        server.arg("-config").arg(folder.join("pebble.json")).args([
            "-dnsserver",
            &DNS.to_string(),
            "-strict",
        ]);
        // It would take its time between validations, and refuse good nonces, to see what clients make of it.
        server.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        pebble.spawn(server, "pebble.log")?;

        for address in [DNS_MANAGEMENT, API, MANAGEMENT] {
            until(&format!("pebble on {address}"), || {
                namespace.run(|| Ok(TcpStream::connect(address).is_ok()))
            })
            .with_context(|| pebble.log())?;
        }
        Ok(pebble)
    }

    fn spawn(&mut self, mut command: Command, log: &str) -> Result<()> {
        let file = fs::File::create(self.folder.join(log))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        self.children.push(command.spawn().context("start pebble")?);
        Ok(())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("pebble.log")).unwrap_or_default()
    }

    /// The authority that its certificates come from, PEM.
    ///
    /// # Errors
    /// If it does not tell.
    pub fn root(&self, namespace: &Namespace) -> Result<String> {
        let url = format!("https://{MANAGEMENT}/roots/0");
        let output = namespace.command("curl").args(["--silent", "--fail", "--insecure", &url]).output()?;
        ensure!(output.status.success(), "curl {url}: {}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("left behind: {error}");
            }
        }
    }
}
