//! https URLs: those that are fetched, and the one that this agent is found at.

use std::net::Ipv6Addr;

use toml::de::DeValue;

use super::{route_path, string};
use crate::config::IssuerUrl;
use crate::config::document::{Checked, shown, wrong};
use crate::config::upstream::is_host_name;
use crate::https_url::{HttpsUrl, UrlError};

/// `"https://id.example.com/keys"`
pub(in crate::config) fn https_url(value: &DeValue<'_>) -> Checked<HttpsUrl> {
    const CURE: &str = "write an address such as \"https://id.example.com/jwks.json\"";
    let text = string(value, CURE)?;
    HttpsUrl::parse(text).or_else(|error| match error {
        // What stands before the @ may be a password.
        UrlError::User => wrong("an address with a user name", CURE),
        error => wrong(format!("\"{}\" {error}", shown(text)), CURE),
    })
}

/// `"https://host"`, with a port and a path where wanted.
pub(in crate::config) fn issuer_url(value: &DeValue<'_>) -> Checked<IssuerUrl> {
    const CURE: &str =
        "write \"https://host\", with a port or a plain path if needed, and no slash at the end";
    let text = string(value, CURE)?;
    if text.contains('@') {
        return wrong("a URL with a user name", CURE);
    }
    let refused = || wrong(format!("\"{}\" is not such a URL", shown(text)), CURE);
    let Some(rest) = text.strip_prefix("https://") else { return refused() };
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => {
            if port.parse::<u16>().map_or(true, |number| number == 0 || number.to_string() != port) {
                return refused();
            }
            host
        }
        _ => authority,
    };
    let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = ipv6.map_or(is_host_name(host), |ipv6| ipv6.parse::<Ipv6Addr>().is_ok());
    let plain = path.is_empty() || path != "/" && route_path(&DeValue::String(path.into())).is_ok();
    if !(named && plain) {
        return refused();
    }
    let authority = authority.strip_suffix(":443").unwrap_or(authority).to_ascii_lowercase();
    Ok(IssuerUrl { authority, path: path.to_owned(), text: text.to_owned() })
}
