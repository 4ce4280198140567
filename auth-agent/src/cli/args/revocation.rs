//! `revoke` and `revocation`.

use std::time::SystemTime;

use clap::{Args, Subcommand};

use crate::api_key::KeyId;
use crate::clock::UnixTime;
use crate::duration;
use crate::revocation::Mark;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RevokeVerb {
    /// Revoke what was issued to a client
    Client {
        /// The client's id, as tokens name it
        #[arg(value_name = "CLIENT")]
        client: String,
        #[command(flatten)]
        issuer: OfIssuer,
        #[command(flatten)]
        options: RevokeOptions,
    },
    /// Revoke everything from an issuer
    Issuer {
        /// The issuer's name in the configuration
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        options: RevokeOptions,
    },
    /// Revoke an API key for good, and the tokens that were got for it
    ///
    /// With --before, only the tokens that were got for it before: the key itself stays valid.
    Key {
        /// The key's id, as `key list` shows it
        #[arg(value_name = "ID")]
        id: KeyId,
        #[command(flatten)]
        options: RevokeOptions,
    },
    /// Revoke what was issued for a subject, API keys of that name too
    Subject {
        /// The subject
        #[arg(value_name = "SUBJECT")]
        subject: String,
        #[command(flatten)]
        issuer: OfIssuer,
        #[command(flatten)]
        options: RevokeOptions,
    },
    /// Revoke single tokens
    Token {
        /// The token, or SHA-256 of its first two parts with the dot between in hexadecimal; - reads any number of
        /// them from standard input, one a line, which keeps them out of the shell's history
        #[arg(value_name = "TOKEN", required_unless_present = "id")]
        token: Option<String>,
        /// The token's jti, instead
        #[arg(long, value_name = "JTI", conflicts_with = "token", requires = "issuer")]
        id: Option<String>,
        #[command(flatten)]
        issuer: OfIssuer,
        #[command(flatten)]
        options: RevokeOptions,
    },
}

#[derive(Args, Debug)]
pub(in crate::cli) struct OfIssuer {
    /// Of this issuer only, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) issuer: Option<String>,
}

#[derive(Args, Debug)]
pub(in crate::cli) struct RevokeOptions {
    /// Only what was issued before: `now`, how long ago (10m), 2027-01-31T12:00:00Z, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = Before::parse)]
    pub(in crate::cli) before: Option<Before>,
    /// A remark, shown in the list
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RevocationVerb {
    /// List what is revoked, in the order of the ids
    List {
        /// Go on behind this id
        #[arg(long, value_name = "ID")]
        after: Option<Mark>,
        /// How many at most [default: 1000]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Take a revocation back; a revoked API key stays revoked
    Remove {
        /// The revocation's id, as `revocation list` shows it
        #[arg(value_name = "ID")]
        id: Mark,
    },
}

/// In 2001: whoever writes a smaller number forgot its unit.
const LEAST_SECONDS: u64 = 1_000_000_000;

/// A time as `--before` takes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli) enum Before {
    /// So many seconds ago; 0: what was issued in this second counts as before.
    Ago(u64),
    /// At this time.
    At(UnixTime),
}

impl Before {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        if text == "now" {
            Ok(Self::Ago(0))
        } else if let Some(seconds) = text.parse().ok().filter(|seconds| *seconds >= LEAST_SECONDS) {
            Ok(Self::At(UnixTime(seconds)))
        } else if let Ok(ago) = duration::parse_seconds(text) {
            Ok(Self::Ago(ago.as_secs()))
        } else if let Some(time) = humantime::parse_rfc3339(text).ok().and_then(since_1970) {
            Ok(Self::At(UnixTime(time.as_secs())))
        } else {
            Err(
                "write now, how long ago like 10m, a UTC time like 2027-01-31T12:00:00Z, or seconds since 1970",
            )
        }
    }

    /// The first second in which what is issued is not meant.
    pub(in crate::cli) fn at(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Ago(0) => UnixTime(now.0 + 1),
            Self::Ago(seconds) => UnixTime(now.0.saturating_sub(seconds)),
            Self::At(time) => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_four_ways_and_now_includes_this_second() {
        const NOW: UnixTime = UnixTime(1_800_000_000);
        for (text, expected) in [
            ("now", Some(NOW.0 + 1)),
            ("10m", Some(NOW.0 - 600)),
            ("1h30m", Some(NOW.0 - 5400)),
            ("1700000000", Some(1_700_000_000)),
            ("2027-01-15T08:00:00Z", Some(NOW.0)),
            ("2027-01-15T08:00:00+01:00", None),
            ("2027-13-15T08:00:00Z", None),
            ("yesterday", None),
            ("-5", None),
            ("10", None),
            ("", None),
        ] {
            assert_eq!(Before::parse(text).ok().map(|time| time.at(NOW).0), expected, "{text}");
        }
    }
}
