//! What an operator without the filter would write: the same decisions in the same order, at the earliest hook that
//! nftables has, without connection tracking, and with room for as many sources.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::attack::HTTP;
use super::field::{BREAKER, CONNECTIONS, PACKETS, SOURCES};
use crate::netns::Namespace;

const TABLE: [&str; 2] = ["netdev", "flood"];

/// Why there is no such variant, if it can't be had.
pub fn missing() -> Option<String> {
    let found = Command::new("nft").arg("--version").output();
    found.err().map(|error| format!("nftables: nft does not run ({error}): `apt-get install nftables`"))
}

/// Loads it.
pub fn load(edge: &Namespace, interfaces: &[String]) -> Result<()> {
    let mut child =
        edge.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(text(interfaces).as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Takes it off.
pub fn remove(edge: &Namespace) -> Result<()> {
    let status = edge.command("nft").args(["delete", "table"]).args(TABLE).status()?;
    ensure!(status.success(), "nft delete table: {status}");
    Ok(())
}

/// Packets that it dropped.
pub fn dropped(edge: &Namespace) -> Result<u64> {
    let output = edge.command("nft").args(["-j", "list", "chain"]).args(TABLE).arg("ingress").output()?;
    let listed: Value = serde_json::from_slice(&output.stdout).context("nft -j list chain")?;
    let rules = listed["nftables"].as_array().context("nft lists nothing")?;
    let expressions = rules.iter().filter_map(|rule| rule["rule"]["expr"].as_array()).flatten();
    Ok(expressions.filter_map(|expression| expression["counter"]["packets"].as_u64()).sum())
}

fn text(interfaces: &[String]) -> String {
    let [family, table] = TABLE;
    let devices = interfaces.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let set = |name: &str| {
        format!("set {name} {{ type ipv4_addr; size {SOURCES}; flags dynamic, timeout; timeout 1m; }}")
    };
    let [packets, bytes, openers] = ["packets", "bytes", "openers"].map(set);
    let opens = "tcp flags & (syn | ack) == syn";
    let burst = 2 * PACKETS;
    let (per_second, at_once) = CONNECTIONS;
    let (all_per_second, all_at_once) = BREAKER;
    format!(
        "table {family} {table} {{
  {packets}
  {bytes}
  {openers}
  chain ingress {{
    type filter hook ingress devices = {{ {devices} }} priority 0; policy accept;
    tcp dport {HTTP} counter drop
    update @packets {{ ip saddr limit rate over {PACKETS}/second burst {burst} packets }} counter drop
    update @bytes {{ ip saddr limit rate over 64 mbytes/second burst 128 mbytes }} counter drop
    {opens} update @openers {{ ip saddr limit rate over {per_second}/second burst {at_once} packets }} counter drop
    {opens} limit rate over {all_per_second}/second burst {all_at_once} packets counter drop
  }}
}}
"
    )
}
