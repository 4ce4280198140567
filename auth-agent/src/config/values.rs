//! Single values: from what TOML says to a closed type, or to what is wrong with it.

mod route;
mod token;
mod upstream;
mod url;

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use jsonwebtoken::Algorithm;
use toml::de::DeValue;

pub(super) use self::route::{
    Match, auth, exact_path, header_value, host, method, path_match, retried_status, route_path, template,
    upgrade,
};
pub(super) use self::token::{claim, sensitive_claims, token_type};
pub(super) use self::upstream::{balance, check_path, endpoint, number, protocol, server_name, statuses};
pub(super) use self::url::{https_url, issuer_url};
use super::defaults::{DAY, HOUR, MINUTE, SECOND};
use super::document::{Checked, shown, wrong};
use super::upstream::is_host_name;
use super::{
    CertificateName, Forwarding, PlaintextAnswer, Rate, TlsVersion, UnknownName, WhenAgentGone, XdpMode,
};
use crate::duration;

/// Linux's IFNAMSIZ without the final NUL.
const MAX_INTERFACE_BYTES: usize = 15;

/// Events per second beyond which a single event costs too few nanoseconds to count them exactly.
const MAX_EVENTS_PER_SECOND: u64 = 10_000_000;

/// Fields that belong to the connection or the message, by name and by prefix; nobody else may set them.
const RESERVED_HEADERS: [&str; 14] = [
    "authorization",
    "connection",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
];
const RESERVED_PREFIXES: [&str; 3] = ["content-", "proxy-", "x-forwarded-"];

/// `"0.0.0.0:443"`
pub(super) fn address(value: &DeValue<'_>) -> Checked<SocketAddr> {
    const CURE: &str = "write an address and a port, such as \"0.0.0.0:443\" or \"[::]:443\"";
    let text = string(value, CURE)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        _ => wrong(format!("\"{}\" is not an address with a port", shown(text)), CURE),
    }
}

/// `"ES256"`
pub(super) fn algorithm(value: &DeValue<'_>) -> Checked<Algorithm> {
    const CURE: &str =
        "choose from EdDSA, ES256, ES384, PS256, PS384, PS512, RS256, RS384, RS512, HS256, HS384, HS512";
    let text = string(value, CURE)?;
    match text.parse() {
        Ok(algorithm) => Ok(algorithm),
        Err(_) => wrong(format!("\"{}\" is not a signature algorithm that can be used", shown(text)), CURE),
    }
}

/// `"ES256"` or `"EdDSA"`
pub(super) fn signing_algorithm(value: &DeValue<'_>) -> Checked<Algorithm> {
    choice(value, &[("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA)])
}

/// `true` or `false`
pub(super) fn boolean(value: &DeValue<'_>) -> Checked<bool> {
    match value {
        DeValue::Boolean(boolean) => Ok(*boolean),
        other => wrong(format!("{} is neither true nor false", described(other)), "write true or false"),
    }
}

/// A size within the range: `"64KiB"`, or a number of bytes.
pub(super) fn bytes(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Checked<u64> {
    move |value| {
        const CURE: &str = "write a number of bytes, or a number and KiB, MiB or GiB, such as \"64KiB\"";
        let bytes = match value {
            DeValue::String(text) => match split(text) {
                Some((number, "B" | "")) => Some(number),
                Some((number, "KiB")) => number.checked_mul(1 << 10),
                Some((number, "MiB")) => number.checked_mul(1 << 20),
                Some((number, "GiB")) => number.checked_mul(1 << 30),
                _ => None,
            },
            _ => integer(value),
        };
        match bytes {
            Some(bytes) if range.contains(&bytes) => Ok(bytes),
            Some(bytes) => wrong(
                format!("{bytes} bytes is out of range"),
                format!("write {} to {} bytes", range.start(), range.end()),
            ),
            None => wrong(format!("{} is not a size", described(value)), CURE),
        }
    }
}

/// A size that is never 0.
pub(super) fn nonzero_bytes<T: TryFrom<NonZeroU32>>(
    range: RangeInclusive<u32>,
) -> impl Fn(&DeValue<'_>) -> Checked<T> {
    let bytes = bytes(u64::from(*range.start())..=u64::from(*range.end()));
    move |value| narrow(bytes(value)?)
}

/// A whole number within the range, which starts above 0.
pub(super) fn count<T: TryFrom<NonZeroU32>>(
    range: RangeInclusive<u32>,
) -> impl Fn(&DeValue<'_>) -> Checked<T> {
    move |value| match integer(value) {
        Some(number) if u32::try_from(number).is_ok_and(|number| range.contains(&number)) => narrow(number),
        _ => wrong(
            format!("{} is not a number in range", described(value)),
            format!("write {} to {}", range.start(), range.end()),
        ),
    }
}

/// `"auto"`, or a number.
pub(super) fn workers(value: &DeValue<'_>) -> Checked<Option<NonZeroUsize>> {
    match value {
        DeValue::String(text) if text == "auto" => Ok(None),
        DeValue::Integer(_) => count(1..=1_024)(value).map(Some),
        other => {
            wrong(format!("{} is no number of threads", described(other)), "write \"auto\", or 1 to 1024")
        }
    }
}

/// A whole number up to `most`, 0 included.
pub(super) fn small(most: u32) -> impl Fn(&DeValue<'_>) -> Checked<u8> {
    move |value| match integer(value).and_then(|number| u8::try_from(number).ok()) {
        Some(number) if u32::from(number) <= most => Ok(number),
        _ => wrong(format!("{} is not a number in range", described(value)), format!("write 0 to {most}")),
    }
}

/// `"10s"`, within the range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&DeValue<'_>) -> Checked<Duration> {
    move |value| {
        const CURE: &str = "write a number and ms, s, m, h or d, such as \"10s\"";
        let duration = match value {
            DeValue::String(text) => duration::parse(text).ok(),
            DeValue::Integer(number) => {
                return wrong(format!("{} has no unit", shown(number.as_str())), CURE);
            }
            _ => None,
        };
        match duration {
            Some(duration) if range.contains(&duration) => Ok(duration),
            Some(_) => wrong(
                format!("{} is out of range", described(value)),
                format!("write \"{}\" to \"{}\"", written(*range.start()), written(*range.end())),
            ),
            None => wrong(format!("{} is not a duration", described(value)), CURE),
        }
    }
}

/// In the unit that the file would use.
fn written(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % DAY.as_millis() == 0 && ms > 0 => format!("{}d", ms / DAY.as_millis()),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// A name that an ACME server can validate on port 443, in lower case.
pub(super) fn host_name(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write a name such as \"api.example.com\"";
    let text = string(value, CURE)?;
    if text.starts_with("*.") {
        return wrong(
            format!("\"{}\" is a wildcard, which takes DNS records to validate", shown(text)),
            "write each name, or name a certificate file",
        );
    }
    let is_name =
        is_host_name(text) && text.contains('.') && !text.contains('_') && text.parse::<IpAddr>().is_err();
    if is_name {
        Ok(text.to_ascii_lowercase())
    } else {
        wrong(format!("\"{}\" is not a name that a certificate can be got for", shown(text)), CURE)
    }
}

/// `"mailto:ops@example.com"`
pub(super) fn contact(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write \"mailto:\" and an address, such as \"mailto:ops@example.com\"";
    let text = text(value)?;
    if text.strip_prefix("mailto:").is_some_and(|address| address.contains('@')) {
        Ok(text)
    } else {
        wrong(format!("\"{}\" is not a contact", shown(&text)), CURE)
    }
}

/// A header field that this edge may claim for itself, in lower case.
pub(super) fn header(value: &DeValue<'_>) -> Checked<HeaderName> {
    const CURE: &str = "write letters, digits and hyphens, such as \"x-auth-subject\"";
    let text = string(value, CURE)?;
    // Servers read `_` and `.` as `-`, or not at all: such a name could not be kept from clients.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return wrong(format!("\"{}\" is not a header name that can be used", shown(text)), CURE);
    }
    let name = text.to_ascii_lowercase();
    if RESERVED_HEADERS.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    {
        return wrong(
            format!("{} has a meaning of its own", shown(&name)),
            "choose another name, such as \"x-auth-subject\"",
        );
    }
    HeaderName::try_from(name).or_else(|_| wrong("a header name that is too long", CURE))
}

/// `"eth0"`
pub(super) fn interface(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write a name as `ip link` shows it, such as \"eth0\"";
    let text = string(value, CURE)?;
    let right = (1..=MAX_INTERFACE_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        && text != "."
        && text != "..";
    if right {
        Ok(text.to_owned())
    } else {
        wrong(format!("\"{}\" is not an interface name", shown(text)), CURE)
    }
}

/// `"auto"`, `"generic"` or `"native"`
pub(super) fn mode(value: &DeValue<'_>) -> Checked<XdpMode> {
    choice(value, &[("auto", XdpMode::Auto), ("generic", XdpMode::Generic), ("native", XdpMode::Native)])
}

pub(super) fn plaintext(value: &DeValue<'_>) -> Checked<PlaintextAnswer> {
    choice(value, &[("drop", PlaintextAnswer::Drop), ("reset", PlaintextAnswer::Reset)])
}

pub(super) fn certificate_name(value: &DeValue<'_>) -> Checked<CertificateName> {
    let choices = [
        ("san-dns", CertificateName::SanDns),
        ("san-email", CertificateName::SanEmail),
        ("san-uri", CertificateName::SanUri),
        ("subject", CertificateName::Subject),
    ];
    choice(value, &choices)
}

/// Whether a client certificate is required, where one is asked for.
pub(super) fn client_mode(value: &DeValue<'_>) -> Checked<Option<bool>> {
    choice(value, &[("none", None), ("optional", Some(false)), ("required", Some(true))])
}

pub(super) fn tls_version(value: &DeValue<'_>) -> Checked<TlsVersion> {
    choice(value, &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)])
}

pub(super) fn unknown_name(value: &DeValue<'_>) -> Checked<UnknownName> {
    choice(value, &[("default", UnknownName::Default), ("refuse", UnknownName::Refuse)])
}

pub(super) fn when_agent_gone(value: &DeValue<'_>) -> Checked<WhenAgentGone> {
    choice(value, &[("filter", WhenAgentGone::Filter), ("pass", WhenAgentGone::Pass)])
}

/// `"x-forwarded"` or `"forwarded"`
pub(super) fn forwarding(value: &DeValue<'_>) -> Checked<Forwarding> {
    choice(value, &[("forwarded", Forwarding::Forwarded), ("x-forwarded", Forwarding::XForwarded)])
}

/// A short name that is safe in a log line and a metric label.
pub(super) fn name(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write up to 32 letters, digits, - and _";
    let text = string(value, CURE)?;
    let right = (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if right { Ok(text.to_owned()) } else { wrong(format!("\"{}\" is not a name", shown(text)), CURE) }
}

/// A CIDR that is not everyone, or a single address.
pub(super) fn network(value: &DeValue<'_>) -> Checked<IpNet> {
    match any_network(value)? {
        network if network.prefix_len() == 0 => {
            wrong(format!("{network} is everyone"), "name the networks that are to pass")
        }
        network => Ok(network),
    }
}

/// A CIDR, or a single address.
pub(super) fn any_network(value: &DeValue<'_>) -> Checked<IpNet> {
    const CURE: &str = "write a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", or a single address";
    let text = string(value, CURE)?;
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        return wrong(format!("\"{}\" is not a network", shown(text)), CURE);
    };
    if network != network.trunc() {
        return wrong(
            format!("{network} has bits set beyond its prefix"),
            format!("write \"{}\", or \"{}\" for that address alone", network.trunc(), network.addr()),
        );
    }
    if let IpNet::V6(ipv6) = network
        && ipv6.addr().to_ipv4_mapped().is_some()
    {
        return wrong(format!("{network} is an IPv4 network in IPv6 clothes"), "write it as IPv4");
    }
    Ok(network)
}

/// A file or folder; a relative one is looked for in `folder`.
pub(super) fn path(folder: &Path) -> impl Fn(&DeValue<'_>) -> Checked<PathBuf> {
    move |value| {
        const CURE: &str = "write a path in quotes";
        let text = string(value, CURE)?;
        if text.is_empty() || text.contains('\0') {
            return wrong(format!("\"{}\" is not a path", shown(text)), CURE);
        }
        Ok(folder.join(text))
    }
}

/// A path that doesn't depend on where the file lies.
pub(super) fn absolute_path(value: &DeValue<'_>) -> Checked<PathBuf> {
    let path = path(Path::new(""))(value)?;
    if path.is_absolute() {
        Ok(path)
    } else {
        wrong(format!("\"{}\" is not an absolute path", shown(&path.to_string_lossy())), "write it from / on")
    }
}

/// The path of a Unix socket, which the kernel keeps short.
pub(super) fn socket(folder: &Path) -> impl Fn(&DeValue<'_>) -> Checked<PathBuf> {
    const MAX_BYTES: usize = 107;
    move |value| {
        let path = path(folder)(value)?;
        if path.as_os_str().len() <= MAX_BYTES {
            Ok(path)
        } else {
            wrong(
                format!("longer than the {MAX_BYTES} bytes that a socket's path may have"),
                "choose a shorter path",
            )
        }
    }
}

/// 1 to 65535
pub(super) fn port(value: &DeValue<'_>) -> Checked<u16> {
    match integer(value).and_then(|number| u16::try_from(number).ok()).filter(|port| *port != 0) {
        Some(port) => Ok(port),
        None => wrong(format!("{} is not a port", described(value)), "write 1 to 65535"),
    }
}

/// `"100/min"`; as many at once as in a period.
pub(super) fn rate(value: &DeValue<'_>) -> Checked<Rate> {
    const CURE: &str = "write a number per s, min or h, such as \"100/min\"";
    let text = string(value, CURE)?;
    let parsed = text.split_once('/').and_then(|(number, unit)| {
        let period = match unit {
            "s" => SECOND,
            "min" => MINUTE,
            "h" => HOUR,
            _ => return None,
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        Some((number.parse::<NonZeroU32>().ok().filter(|_| digits)?, period))
    });
    match parsed {
        Some((events, period)) if u64::from(events.get()) <= MAX_EVENTS_PER_SECOND * period.as_secs() => {
            Ok(Rate { burst: events, events, period })
        }
        Some(_) => wrong(
            format!("\"{}\" is faster than can be counted", shown(text)),
            format!("write at most \"{MAX_EVENTS_PER_SECOND}/s\""),
        ),
        None => wrong(format!("\"{}\" is not a rate above 0", shown(text)), CURE),
    }
}

/// RFC 6749, 3.3: printable ASCII without space, quote and backslash.
pub(super) fn scope(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write one scope, such as \"orders:read\"";
    let text = string(value, CURE)?;
    let right =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if right { Ok(text.to_owned()) } else { wrong(format!("\"{}\" is not a scope", shown(text)), CURE) }
}

/// Text to compare with, so not empty, and without what could not be seen in a message.
pub(super) fn text(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write it in quotes";
    match string(value, CURE)? {
        "" => wrong("empty", CURE),
        text if text.contains(char::is_control) => {
            wrong(format!("\"{}\" holds a control character", shown(text)), CURE)
        }
        text => Ok(text.to_owned()),
    }
}

/// A user id.
pub(super) fn uid(value: &DeValue<'_>) -> Checked<u32> {
    match integer(value).and_then(|number| u32::try_from(number).ok()) {
        Some(uid) => Ok(uid),
        None => {
            wrong(format!("{} is not a user id", described(value)), "write the number that `id -u` prints")
        }
    }
}

fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Checked<T> {
    let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    match choices.iter().find(|(name, _)| value.as_str() == Some(*name)) {
        Some((_, choice)) => Ok(*choice),
        None => wrong(
            format!("{} is none of the choices", described(value)),
            format!("write {}", names.join(" or ")),
        ),
    }
}

fn string<'v>(value: &'v DeValue<'_>, cure: &str) -> Checked<&'v str> {
    match value {
        DeValue::String(text) => Ok(text),
        other => wrong(format!("{} is not a string", described(other)), cure),
    }
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn narrow<T: TryFrom<NonZeroU32>>(number: u64) -> Checked<T> {
    let narrowed =
        u32::try_from(number).ok().and_then(NonZeroU32::new).and_then(|number| T::try_from(number).ok());
    narrowed.map_or_else(
        || wrong(format!("{number} is not a number in range"), "write a smaller number above 0"),
        Ok,
    )
}

/// A number in decimal digits and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", shown(text)),
        DeValue::Integer(number) => shown(&number.to_string()),
        DeValue::Float(number) => shown(number.as_str()),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
