//! The grammar of `auth-agent token issue` and `auth-agent signing-key`.

use std::time::Duration;

use clap::{Args as Arguments, Subcommand};

use crate::control::messages::OPERATOR;
use crate::duration;

#[derive(Arguments, Debug)]
pub(in crate::cli) struct IssueToken {
    /// Who it stands for: the subject that the upstream sees
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) subject: String,
    /// A scope it has; repeat for more
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(in crate::cli) scopes: Vec<String>,
    /// How long it is valid, an hour at most
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = duration::parse_seconds)]
    pub(in crate::cli) lifetime: Duration,
    /// The client that it is for; with the id of an API key, it ends with that key
    #[arg(long, default_value = OPERATOR, value_name = "ID")]
    pub(in crate::cli) client: String,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SigningKeyVerb {
    /// List the keys: the one that signs, the next, and those whose tokens may still be valid
    List,
    /// Make the next key now; it signs ten minutes later, when everyone can have fetched it
    Rotate {
        /// Delete all other keys and refuse at once whatever they signed: for a leaked key, whose thief signs new tokens
        #[arg(long, requires = "now")]
        drop_old: bool,
        /// Sign with it at once, though some may not have fetched it; tokens of the old one stay valid until they expire
        /// or are revoked (`auth-agent revoke issuer self --before ..`)
        #[arg(long)]
        now: bool,
    },
}
