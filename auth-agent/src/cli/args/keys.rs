//! The grammar of `auth-agent key`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Arguments, Subcommand};
use ipnet::IpNet;

use crate::api_key::KeyId;
use crate::duration;
use crate::network::parse_network;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KeyVerb {
    /// Create an API key and print it, this once
    Create(CreateKey),
    /// List the keys, without their secrets
    ///
    /// Keys come oldest first, 1,000 at a time; with --json, one line of JSON for each thousand.
    List,
    /// Show one key, without its secret
    Show {
        /// The key's id, as `key list` shows it
        #[arg(value_name = "ID")]
        id: KeyId,
    },
    /// Create a key in the place of another and print it, this once; for an overlap, both are valid
    ///
    /// It has the old key's name, owner, scopes, networks, limit and note.
    Rotate(RotateKey),
    /// Bring in keys that were made on another host, all of them or none
    ///
    /// FILE has one JSON object per line: "key" (the whole key) and "name", and, if wanted, "owner", "scopes" and
    /// "networks" (lists), "expires" and "created" (seconds since 1970), "rate" ("100/min"), "burst" and "note". Up to
    /// 100,000 keys at a time. Nothing of a key is ever printed.
    Import {
        /// JSON lines; - reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Refuse a key from its next request on, for good
    Revoke {
        /// The key's id, as `key list` shows it
        #[arg(value_name = "ID")]
        id: KeyId,
    },
}

#[derive(Arguments, Debug)]
pub(in crate::cli) struct CreateKey {
    /// Who uses it: the subject that the upstream sees
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: String,
    /// Who answers for it: a person, a team
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) owner: Option<String>,
    /// A scope it has; repeat for more
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(in crate::cli) scopes: Vec<String>,
    /// How long it is valid, like 90d [default: until it is revoked]
    #[arg(long = "expires", value_name = "TIME", value_parser = duration::parse_seconds)]
    pub(in crate::cli) expires_in: Option<Duration>,
    /// A network it may be used from; repeat for more [default: any]
    #[arg(long = "allow-net", value_name = "CIDR", value_parser = parse_network)]
    pub(in crate::cli) networks: Vec<IpNet>,
    /// How many requests it may be used for, like 100/min [default: only the limits of its source hold]
    #[arg(long, value_name = "RATE")]
    pub(in crate::cli) rate: Option<String>,
    /// How many of them may come at once [default: the number in the rate]
    #[arg(long, requires = "rate", value_name = "N")]
    pub(in crate::cli) burst: Option<NonZeroU32>,
    /// A remark, shown in the list
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) note: Option<String>,
}

#[derive(Arguments, Debug)]
pub(in crate::cli) struct RotateKey {
    /// The key's id, as `key list` shows it
    #[arg(value_name = "ID")]
    pub(in crate::cli) id: KeyId,
    /// How long the old key stays valid, unless it ends before, like 24h [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    pub(in crate::cli) overlap: Option<Duration>,
    /// How long the new key is valid, like 90d [default: as long as the old one was made for]
    #[arg(long = "expires", value_name = "TIME", value_parser = duration::parse_seconds)]
    pub(in crate::cli) expires_in: Option<Duration>,
}
