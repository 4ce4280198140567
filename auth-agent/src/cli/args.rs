//! The command line's grammar.

mod issuer;
mod keys;
mod limit;
mod policy;
mod revocation;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Arguments, Parser, Subcommand};
use ipnet::IpNet;

pub(super) use self::issuer::{IssueToken, SigningKeyVerb};
pub(super) use self::keys::{CreateKey, KeyVerb, RotateKey};
pub(super) use self::limit::{LimitVerb, Limited, ResetDebts, SetLimit, WhoseDebt};
pub(super) use self::policy::{PolicyExample, PolicyVerb};
pub(super) use self::revocation::{OfIssuer, RevocationVerb, RevokeOptions, RevokeVerb};
use crate::duration;
use crate::events::{DEFAULT_RATE, MAX_RATE, UnknownReason, parse_reasons};
use crate::forward_auth::EXAMPLES;
use crate::network::parse_network;

const GLOBAL: &str = "Options of every command";

/// An authenticating edge: XDP filter, TLS, JWT and API-key verification, limits per source.
#[derive(Debug, Parser)]
#[command(name = "auth-agent", version, max_term_width = 110)]
pub(super) struct Args {
    /// Configuration file [default: /etc/auth-agent/config.toml]
    #[arg(global = true, help_heading = GLOBAL, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON, exactly as the agent answers
    #[arg(global = true, help_heading = GLOBAL, long)]
    pub(super) json: bool,
    /// The agent's control socket [default: $AUTH_AGENT_SOCKET, or control.socket of the configuration]
    #[arg(global = true, help_heading = GLOBAL, long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Start the agent in the foreground
    Run {
        /// Take the place of another XDP program that was attached over netlink, as kernel.replace does
        #[arg(long)]
        replace: bool,
        /// Take over from the agent that started this one; `upgrade` does that
        #[arg(long, hide = true)]
        handover: bool,
    },
    /// Have a new agent take over from the running one, and no request is dropped
    ///
    /// It is started as the running one was, gets its listening sockets, and reads the configuration file anew, so that
    /// every change takes effect. The old one finishes what is open within timeouts.drain. If the new one can't serve,
    /// nothing changes.
    Upgrade {
        /// The new program [default: the file that the running agent was started from]
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// How long it may take to be ready; no change is taken meanwhile, up to 10m [default: 1m]
        #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
        within: Option<Duration>,
    },
    /// Print what the running agent counts, as Prometheus reads it
    ///
    /// `GET /metrics` on the control socket gives the same. With --json, use `status`.
    Metrics,
    /// Have the running agent take its configuration file anew, all of it or nothing
    ///
    /// No connection is dropped. Says what changed; `config diff` says it beforehand. SIGHUP does the same.
    Reload,
    /// Show the running agent: filter, counters, rules
    Status,
    /// Create, list, rotate, import and revoke API keys
    #[command(subcommand)]
    Key(KeyVerb),
    /// List the token issuers with their keys, and fetch keys anew
    #[command(subcommand)]
    Issuer(IssuerVerb),
    /// List the upstreams with their endpoints
    #[command(subcommand, visible_alias = "upstreams")]
    Upstream(UpstreamVerb),
    /// Let addresses and networks pass every limit and ban
    #[command(subcommand)]
    Allow(AllowVerb),
    /// Ban addresses and networks in the kernel
    #[command(subcommand)]
    Ban(BanVerb),
    /// List who is connected, and end connections
    #[command(subcommand, visible_alias = "connections")]
    Connection(ConnectionVerb),
    /// Revoke tokens, API keys, subjects, clients or issuers, and end at once what goes on with them
    #[command(subcommand)]
    Revoke(RevokeVerb),
    /// List what is revoked, and take revocations back
    #[command(subcommand, visible_alias = "revocations")]
    Revocation(RevocationVerb),
    /// Show, set and remove the limits of networks
    #[command(subcommand)]
    Limit(LimitVerb),
    /// Keep a change that was made with --confirm-within
    Confirm {
        /// The change's number, as `pending` shows it [default: the only one]
        #[arg(value_name = "ID")]
        id: Option<i64>,
    },
    /// Show what was decided about a request, and why
    ///
    /// Stage by stage: credential, route, limits, what decided, upstream; and what the kernel knows of its source now.
    /// Each serving thread remembers its last requests (explain.remembered).
    Why {
        /// The request's id: X-Request-Id of its response
        #[arg(value_name = "REQUEST-ID")]
        id: String,
    },
    /// List who changed what: over the control socket, by signal, or the agent by itself
    Audit {
        /// Only what was done within this time, like 1h [default: whenever]
        #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
        since: Option<Duration>,
        /// At most so many, the last ones [default: 100]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: Option<u32>,
    },
    /// List the sources that owe points for what they did, and the principals that asked for too many objects of others
    ///
    /// Whoever owes too many is banned: see [ladder] and [limits.enumeration] in the configuration.
    Offenders,
    /// List the changes that are undone unless they are confirmed
    Pending,
    /// Look at single client addresses
    #[command(subcommand)]
    Source(SourceVerb),
    /// Watch samples of the packets that the filter drops or passes
    Events(Events),
    /// Look at tokens, which needs no running agent, and issue some
    #[command(subcommand)]
    Token(TokenVerb),
    /// Show and rotate the keys that the built-in issuer signs with
    #[command(subcommand)]
    SigningKey(SigningKeyVerb),
    /// Print what to write into another proxy's configuration, so that it asks this agent; needs no running agent
    #[command(subcommand)]
    ForwardAuth(ForwardAuthVerb),
    /// Check the configuration, or print an example; needs no running agent
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Look for holes in the routes, and try out who may do what; needs no running agent
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Look at this host for what keeps the filter or the agent from working; needs no running agent
    ///
    /// Changes nothing. Exits 1 where there is a problem. Without root it says what it could not see.
    Doctor {
        /// An interface to look at; repeat for more [default: kernel.interfaces, else all that are up]
        #[arg(long = "interface", value_name = "IF")]
        interfaces: Vec<String>,
    },
    /// Print a unit file for systemd, made for this program and its configuration; needs no running agent
    Service {
        /// The .socket unit, which opens the listeners' ports, instead of the .service
        #[arg(long)]
        sockets: bool,
    },
    /// Remove the filter from the kernel, with or without a running agent
    Detach {
        /// Directory of the pinned filter, when no agent runs [default: kernel.pin_directory]
        #[arg(long, value_name = "DIR")]
        pin_directory: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AllowVerb {
    /// Put an address or network on the allowlist
    Add {
        /// Address or CIDR
        #[arg(value_name = "NET", value_parser = parse_network)]
        network: IpNet,
        /// A remark, shown in the list
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// List the allowlist: what the configuration says, and what was added
    List,
    /// Take exactly this address or network off the allowlist
    Remove(Remove),
}

#[derive(Debug, Subcommand)]
pub(super) enum UpstreamVerb {
    /// List each endpoint: whether requests are sent to it, how many are under way, and what was last wrong with it
    List,
}

#[derive(Debug, Subcommand)]
pub(super) enum BanVerb {
    /// Ban an address or network; banning it again sets a new deadline
    Add(AddBan),
    /// Ban every address and network of a list, or none if a line is wrong
    Import(ImportBans),
    /// List the bans that hold
    List,
    /// End the ban on exactly this address or network
    Remove(Remove),
}

#[derive(Arguments, Debug)]
pub(super) struct AddBan {
    /// Address or CIDR
    #[arg(value_name = "NET", value_parser = parse_network)]
    pub(super) network: IpNet,
    #[command(flatten)]
    pub(super) options: BanOptions,
}

#[derive(Arguments, Debug)]
pub(super) struct ImportBans {
    /// One address or CIDR per line, `#` and `;` begin remarks; - reads standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) options: BanOptions,
}

#[derive(Arguments, Debug)]
pub(super) struct BanOptions {
    /// How long, like 90s, 10m or 1h30m [default: until removed]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse_seconds)]
    pub(super) lasts: Option<Duration>,
    /// A remark, shown in the list
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Needed for a very wide network (shorter than /8, IPv6 /16)
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) confirm: Confirm,
}

#[derive(Arguments, Debug)]
pub(super) struct Remove {
    /// Address or CIDR
    #[arg(value_name = "NET", value_parser = parse_network)]
    pub(super) network: IpNet,
    #[command(flatten)]
    pub(super) confirm: Confirm,
}

#[derive(Arguments, Clone, Copy, Debug)]
pub(super) struct Confirm {
    /// Undo it after this time, like 2m, unless `auth-agent confirm` comes first
    #[arg(long = "confirm-within", value_name = "TIME", value_parser = duration::parse_seconds)]
    pub(super) within: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Check the configuration with the certificates and keys it names, and report every problem
    Check,
    /// Show what `reload` would change in the running agent
    Diff,
    /// Print a commented example
    Example,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConnectionVerb {
    /// List the open connections, oldest first
    List {
        /// Only those from this address or network, or of a client there that a proxy names by the PROXY protocol
        #[arg(long, value_name = "CIDR", value_parser = parse_network)]
        source: Option<IpNet>,
        /// Only those whose last client had this subject
        #[arg(long, value_name = "NAME")]
        subject: Option<String>,
    },
    /// End a connection, or all from a source, at once: their requests break off
    End(EndConnections),
}

#[derive(Arguments, Debug)]
pub(super) struct EndConnections {
    #[command(flatten)]
    pub(super) which: Which,
    /// Drop what still comes from the same address and port to the same, new connections too, up to 1d
    /// [default: the host answers it with a reset]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    pub(super) drop_for: Option<Duration>,
}

#[derive(Arguments, Debug)]
#[group(multiple = false, required = true)]
pub(super) struct Which {
    /// The connection's number, as `connection list` shows it
    #[arg(value_name = "ID")]
    pub(super) id: Option<u64>,
    /// All that `connection list` shows for this address or network, allowlisted or not
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub(super) source: Option<IpNet>,
}

#[derive(Arguments, Debug)]
pub(super) struct Events {
    /// Only packets of this reason, or all that drop or pass; repeat for more [default: drop]
    #[arg(long = "reason", value_name = "REASON", value_parser = reason)]
    pub(super) reasons: Vec<String>,
    /// Only packets from this address or network; repeat for more [default: any]
    #[arg(long = "source", value_name = "CIDR", value_parser = parse_network)]
    pub(super) sources: Vec<IpNet>,
    /// End after so many samples [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Samples per second, up to 1000; at once up to twice as many, but no more than 1000
    #[arg(long, value_name = "N", default_value_t = DEFAULT_RATE, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)))]
    pub(super) rate: u32,
    /// Write the headers of the packets to a file for tcpdump or Wireshark, too; - writes them to standard output
    /// instead of the lines
    #[arg(long, value_name = "FILE")]
    pub(super) pcap: Option<PathBuf>,
}

fn reason(text: &str) -> Result<String, UnknownReason> {
    parse_reasons(text).map(|_| text.to_owned())
}

#[derive(Debug, Subcommand)]
pub(super) enum ForwardAuthVerb {
    /// Print a commented example
    Example {
        /// The proxy
        #[arg(value_name = "PROXY", value_parser = EXAMPLES.map(|(proxy, _)| proxy))]
        proxy: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum IssuerVerb {
    /// List the issuers: source and age of their keys, next refresh, last error, kids with their algorithms
    List,
    /// Fetch an issuer's keys now, or read its key file; if that fails, those in use stay
    Refresh {
        /// The issuer's name in the configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SourceVerb {
    /// Show the debts, bans and rules of one client address
    Show {
        /// The client's address
        #[arg(value_name = "IP")]
        address: IpAddr,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Have the running agent's built-in issuer issue a token, and print it
    Issue(IssueToken),
    /// Take a JWT apart, and say whether the configured issuers would accept it
    Inspect {
        /// The token; - reads it from standard input, which keeps it out of the shell's history
        #[arg(value_name = "TOKEN")]
        token: String,
    },
    /// Say whether the configured issuers would accept a JWT: exits 0 if so, else 1
    ///
    /// Prints how each check went, and nothing that is in the token.
    Verify {
        /// The token; - reads it from standard input, which keeps it out of the shell's history
        #[arg(value_name = "TOKEN")]
        token: String,
    },
}
