//! `auth-agent limit`

use std::net::IpAddr;

use clap::{Args as Arguments, Subcommand};
use ipnet::IpNet;

use super::Confirm;
use crate::api_key::KeyId;
use crate::network::{NetworkError, parse_network};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum LimitVerb {
    /// List the limits and quotas of requests, [[limit]] and [[quota]], and what is set in place of the configuration
    List,
    /// Show what somebody owes to limits and quotas; or everyone's limits per source, or which hold for one address
    Show {
        /// A client's address
        #[arg(value_name = "IP", conflicts_with = "WhoseDebt")]
        address: Option<IpAddr>,
        #[command(flatten)]
        whose: WhoseDebt,
    },
    /// Give the sources in a network limits of their own, or a [[limit]] or [[quota]] another rate or amount
    ///
    /// Rates are written 5/s, 100/min or 1000/h, sizes 64KiB or 10MiB, times 10s or 1m, as in the configuration. Of a
    /// network, what is left out is as in [limits], and the longest network that a source is in decides. Of a [[limit]] or
    /// [[quota]], it holds from the next request on, until the agent ends; with --durable, until it is removed.
    Set(Box<SetLimit>),
    /// Have somebody owe nothing to a [[limit]] or [[quota]], or a source nothing to its `requests` or `auth-failures`
    Reset(ResetDebts),
    /// Forget the limits that were set for exactly this address or network, or for this [[limit]] or [[quota]]
    Remove {
        /// Address, CIDR, or name
        #[arg(value_name = "NET|NAME", value_parser = parse_limited)]
        limited: Limited,
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// What has limits.
#[derive(Clone, Debug)]
pub(in crate::cli) enum Limited {
    Name(String),
    Network(IpNet),
}

/// Names have neither dots nor colons, and all addresses have.
fn parse_limited(text: &str) -> Result<Limited, NetworkError> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if is_name && !text.is_empty() {
        return Ok(Limited::Name(text.to_owned()));
    }
    parse_network(text).map(Limited::Network)
}

#[derive(Arguments, Clone, Debug, Default)]
#[group(id = "WhoseDebt", multiple = false)]
pub(in crate::cli) struct WhoseDebt {
    /// Of this subject of tokens, name of an API key or of a client certificate
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) principal: Option<String>,
    /// Of this client's address
    #[arg(long, value_name = "IP")]
    pub(in crate::cli) source: Option<IpAddr>,
    /// Of this API key
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) key: Option<KeyId>,
    /// Of this tenant
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) tenant: Option<String>,
    /// Everyone's
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

impl WhoseDebt {
    /// Whether nobody is named.
    pub(in crate::cli) fn is_nobody(&self) -> bool {
        let Self { all, key, principal, source, tenant } = self;
        !all && key.is_none() && principal.is_none() && source.is_none() && tenant.is_none()
    }
}

#[derive(Arguments, Debug)]
#[command(group = clap::ArgGroup::new("whom").args(["principal", "source", "key", "tenant", "all"]).required(true))]
pub(in crate::cli) struct ResetDebts {
    /// The limit's or quota's name; or `requests` or `auth-failures`, with --source
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) whose: WhoseDebt,
}

/// Options that networks alone have.
const OF_NETWORKS: [&str; 16] = [
    "requests",
    "requests_burst",
    "requests_drop_after",
    "requests_drop_for",
    "auth_failures",
    "auth_failures_burst",
    "auth_failures_drop_after",
    "auth_failures_drop_for",
    "connections",
    "connections_burst",
    "packets",
    "packets_burst",
    "bytes",
    "bytes_burst",
    "reason",
    "within",
];

#[derive(Arguments, Debug)]
pub(in crate::cli) struct SetLimit {
    /// Address or CIDR (IPv6 not longer than kernel.ipv6_prefix, /64), or the name of a [[limit]] or [[quota]]
    #[arg(value_name = "NET|NAME", value_parser = parse_limited)]
    pub(in crate::cli) limited: Limited,
    /// What a [[limit]] allows for ever
    #[arg(long, value_name = "RATE", conflicts_with_all = OF_NETWORKS)]
    pub(in crate::cli) rate: Option<String>,
    /// What a [[limit]] allows at once [default: the number in the rate]
    #[arg(long, value_name = "N|SIZE", requires = "rate")]
    pub(in crate::cli) burst: Option<String>,
    /// What a [[quota]] allows in its period
    #[arg(long, value_name = "N|SIZE", conflicts_with_all = OF_NETWORKS, conflicts_with = "rate")]
    pub(in crate::cli) amount: Option<String>,
    /// Keep that in the store, so that it holds after a restart, too
    #[arg(long, conflicts_with_all = OF_NETWORKS)]
    pub(in crate::cli) durable: bool,
    /// HTTP requests
    #[arg(long, value_name = "RATE")]
    pub(in crate::cli) requests: Option<String>,
    /// HTTP requests at once [default: the number in the rate]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) requests_burst: Option<u32>,
    /// Refused HTTP requests after which the source is dropped at the NIC [default: the burst]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) requests_drop_after: Option<u32>,
    /// How long it is dropped then
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) requests_drop_for: Option<String>,
    /// Failed authentications
    #[arg(long, value_name = "RATE")]
    pub(in crate::cli) auth_failures: Option<String>,
    /// Failed authentications at once [default: the number in the rate]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) auth_failures_burst: Option<u32>,
    /// Refused requests for failed authentications after which the source is dropped at the NIC [default: the burst]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) auth_failures_drop_after: Option<u32>,
    /// How long it is dropped then
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) auth_failures_drop_for: Option<String>,
    /// New TCP connections
    #[arg(long, value_name = "RATE")]
    pub(in crate::cli) connections: Option<String>,
    /// New TCP connections at once [default: the number in the rate]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) connections_burst: Option<u32>,
    /// Packets
    #[arg(long, value_name = "RATE")]
    pub(in crate::cli) packets: Option<String>,
    /// Packets at once [default: the number in the rate]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) packets_burst: Option<u32>,
    /// Bytes a second
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) bytes: Option<String>,
    /// Bytes at once
    #[arg(long, value_name = "SIZE")]
    pub(in crate::cli) bytes_burst: Option<String>,
    /// A remark, shown in the list
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) confirm: Confirm,
}
