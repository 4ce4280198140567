//! What an upstream is told by.

use std::ops::RangeInclusive;

use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::{choice, described, integer, string};
use crate::config::document::{Checked, shown, wrong};
use crate::config::{Address, Balance, Protocol};

/// `"http://host:port"` and its like.
pub(in crate::config) fn endpoint(value: &DeValue<'_>) -> Checked<Address> {
    const CURE: &str = "write \"http://host:port\", \"https://host:port\" or \"h2c://host:port\", without a path, or \"unix:/path\"";
    let text = string(value, CURE)?;
    // Before anything is shown: what stands before the @ may be a password.
    if text.contains('@') && !text.starts_with("unix:") {
        return wrong("an endpoint with a user name", CURE);
    }
    text.parse().or_else(|_| wrong(format!("\"{}\" is not an endpoint", shown(text)), CURE))
}

/// A name or address that a certificate can be for.
pub(in crate::config) fn server_name(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write a host name, such as \"app.internal\", or an address";
    let text = string(value, CURE)?;
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => wrong(format!("\"{}\" is not a server name", shown(text)), CURE),
    }
}

/// What a health check asks for: a path, maybe with a query.
pub(in crate::config) fn check_path(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write a path, such as \"/health\"";
    let text = string(value, CURE)?;
    let right = text.starts_with('/') && text.parse::<PathAndQuery>().is_ok() && !text.contains('#');
    if right { Ok(text.to_owned()) } else { wrong(format!("\"{}\" is not a path", shown(text)), CURE) }
}

/// `"200-399"`, or a single status.
pub(in crate::config) fn statuses(value: &DeValue<'_>) -> Checked<RangeInclusive<u16>> {
    const CURE: &str = "write a status or a range, such as \"200\" or \"200-399\"";
    let text = string(value, CURE)?;
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| (200..=599).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => wrong(format!("\"{}\" is not a range of statuses", shown(text)), CURE),
    }
}

pub(in crate::config) fn balance(value: &DeValue<'_>) -> Checked<Balance> {
    choice(
        value,
        &[
            ("least-requests", Balance::LeastRequests),
            ("principal-hash", Balance::PrincipalHash),
            ("round-robin", Balance::RoundRobin),
        ],
    )
}

pub(in crate::config) fn protocol(value: &DeValue<'_>) -> Checked<Protocol> {
    choice(value, &[("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)])
}

/// A whole number within the range.
pub(in crate::config) fn number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&DeValue<'_>) -> Checked<T> {
    move |value| {
        let number = integer(value).filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).map_or_else(
            || {
                wrong(
                    format!("{} is not a number in range", described(value)),
                    format!("write {} to {}", range.start(), range.end()),
                )
            },
            Ok,
        )
    }
}
