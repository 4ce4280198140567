//! Single values: from what TOML says to a closed type, or to what is wrong with it.

mod access;
mod files;
mod limit;
mod listener;
mod place;
mod route;
mod token;
mod upstream;
mod url;

use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use jsonwebtoken::Algorithm;
use toml::de::DeValue;

pub(super) use self::access::{claim_kind, claim_rule, foreign, query_name, unchecked};
pub(super) use self::files::{absolute_path, local_address, log_target, path, socket};
pub(super) use self::limit::{counted, dimension, period, volume, volume_rate};
pub(super) use self::listener::{
    certificate_name, client_mode, contact, host_name, tls_version, unknown_name,
};
pub(super) use self::place::{address, any_network, interface, network, port};
pub(super) use self::route::{
    Match, auth, exact_path, header_value, host, method, path_match, retried_status, route_path, template,
    template_name, upgrade,
};
pub(super) use self::token::{claim, sensitive_claims, token_type};
pub(super) use self::upstream::{balance, check_path, endpoint, number, protocol, server_name, statuses};
pub(super) use self::url::{https_url, issuer_url};
use super::defaults::{DAY, HOUR, MINUTE, SECOND};
use super::document::{Checked, shown, wrong};
use super::{Forwarding, IdentityForm, PlaintextAnswer, Rate, WhenAgentGone, XdpMode};
use crate::duration;

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
    move |value| whole(most)(value).map(|number| u8::try_from(number).unwrap_or(u8::MAX))
}

/// A whole number up to `most`, 0 included.
pub(super) fn whole(most: u32) -> impl Fn(&DeValue<'_>) -> Checked<u32> {
    move |value| match integer(value).and_then(|number| u32::try_from(number).ok()) {
        Some(number) if number <= most => Ok(number),
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

/// `"off"`, or a header field as [`header`] has it.
pub(super) fn header_or_off(value: &DeValue<'_>) -> Checked<Option<HeaderName>> {
    if value.as_str() == Some("off") { Ok(None) } else { header(value).map(Some) }
}

/// `"auto"`, `"generic"` or `"native"`
pub(super) fn mode(value: &DeValue<'_>) -> Checked<XdpMode> {
    choice(value, &[("auto", XdpMode::Auto), ("generic", XdpMode::Generic), ("native", XdpMode::Native)])
}

pub(super) fn plaintext(value: &DeValue<'_>) -> Checked<PlaintextAnswer> {
    choice(value, &[("drop", PlaintextAnswer::Drop), ("reset", PlaintextAnswer::Reset)])
}

pub(super) fn when_agent_gone(value: &DeValue<'_>) -> Checked<WhenAgentGone> {
    choice(value, &[("filter", WhenAgentGone::Filter), ("pass", WhenAgentGone::Pass)])
}

/// `"x-forwarded"` or `"forwarded"`
pub(super) fn forwarding(value: &DeValue<'_>) -> Checked<Forwarding> {
    choice(value, &[("forwarded", Forwarding::Forwarded), ("x-forwarded", Forwarding::XForwarded)])
}

/// `"headers"`, `"token"` or `"both"`
pub(super) fn identity_form(value: &DeValue<'_>) -> Checked<IdentityForm> {
    choice(
        value,
        &[("headers", IdentityForm::Headers), ("token", IdentityForm::Token), ("both", IdentityForm::Both)],
    )
}

/// A short name that is safe in a log line and a metric label.
pub(super) fn name(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write up to 32 letters, digits, - and _";
    let text = string(value, CURE)?;
    let right = (1..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if right { Ok(text.to_owned()) } else { wrong(format!("\"{}\" is not a name", shown(text)), CURE) }
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
