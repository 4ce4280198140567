//! `policy`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PolicyVerb {
    /// Look for what the routes let happen that can hardly be meant: exits 1 if there is a warning
    ///
    /// Routes that no request reaches, routes past which a request gets to a laxer one, scopes with a wildcard, subjects
    /// of several issuers. Open routes and unchecked objects are noted.
    Check,
    /// Print an example: routes of a postal service, or the table that tests them
    Example {
        /// Which of the two
        #[arg(value_enum, value_name = "WHAT")]
        what: PolicyExample,
    },
    /// Print the schema that the files of a [[policy]] are held against: what they see of a request
    Schema {
        /// The policy's name in the configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Judge the requests of a table, and compare what comes of them: exits 1 where something else does
    ///
    /// The table is TOML, or JSON if its name ends so. [who.NAME] says what a token claims (claims = { sub = "alice" }),
    /// or names an api_key or a certificate with its scopes; [[test]] has a request ("GET /path?query"), who sends it,
    /// headers if any ("name: value"), and what to expect: "allow", or the name of the reason of the refusal.
    #[command(after_help = "auth-agent policy test postal-service.test.toml --config postal-service.toml")]
    Test {
        /// The table
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum PolicyExample {
    /// The configuration
    Config,
    /// The table
    Test,
}
