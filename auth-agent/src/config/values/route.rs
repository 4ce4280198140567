//! Values of `[[route]]`.

use std::net::Ipv6Addr;

use http::{HeaderValue, Method};
use toml::de::DeValue;

use super::{choice, described, integer, string};
use crate::config::document::{Checked, shown, wrong};
use crate::config::upstream::is_host_name;
use crate::config::{Auth, HostPattern, MAX_TEMPLATE_NAMES, Segment, Template};
use crate::path::{self, PathError};

/// No template has more.
const MAX_SEGMENTS: usize = 32;
const MAX_NAME_BYTES: usize = 32;

/// How a route's path is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::config) enum Match {
    Exact,
    Prefix,
    Template,
}

/// `"required"` or `"none"`
pub(in crate::config) fn auth(value: &DeValue<'_>) -> Checked<Auth> {
    choice(value, &[("none", Auth::None), ("required", Auth::Required)])
}

/// `"exact"`, `"prefix"` or `"template"`
pub(in crate::config) fn path_match(value: &DeValue<'_>) -> Checked<Match> {
    choice(value, &[("exact", Match::Exact), ("prefix", Match::Prefix), ("template", Match::Template)])
}

/// A path prefix in the one form in which requests are matched.
pub(in crate::config) fn route_path(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write it plainly, such as \"/api\"";
    let text = canonical(value, CURE)?;
    if text.len() > 1 && text.ends_with('/') {
        return wrong(format!("\"{}\" ends in /", shown(text)), CURE);
    }
    Ok(text.to_owned())
}

/// A whole path in the one form in which requests are matched.
pub(in crate::config) fn exact_path(value: &DeValue<'_>) -> Checked<String> {
    canonical(value, "write it plainly, such as \"/health\"").map(str::to_owned)
}

/// A path in the form that all its spellings have once they are canonical. `+` has no such form: it is left as it came.
fn canonical<'v>(value: &'v DeValue<'_>, cure: &str) -> Checked<&'v str> {
    let text = string(value, cure)?;
    if text.contains(['{', '}']) {
        let cure = "write match = \"template\" beside it if that stands for a segment";
        return wrong(format!("\"{}\" holds a brace", shown(text)), cure);
    }
    if text.contains('+') || text.contains("%2B") || text.contains("%2b") {
        return wrong(format!("\"{}\" holds a plus, which has two spellings in paths", shown(text)), cure);
    }
    match path::canonical(text) {
        Ok(canonical) if canonical == text => Ok(text),
        Ok(canonical) => {
            wrong(format!("\"{}\" is not the canonical path", shown(text)), format!("write \"{canonical}\""))
        }
        Err(PathError::Form) => wrong(format!("\"{}\" does not start with /", shown(text)), cure),
        Err(error) => wrong(format!("\"{}\" is no path: {}", shown(text), error.description()), cure),
    }
}

/// `"/users/{user_id}/orders"`
pub(in crate::config) fn template(value: &DeValue<'_>) -> Checked<Template> {
    const CURE: &str = "write it like \"/users/{user_id}/files/{file...}\"";
    let text = string(value, CURE)?;
    let refused = |why: &str| wrong(format!("\"{}\" {why}", shown(text)), CURE);
    let Some(rest) = text.strip_prefix('/') else { return refused("does not start with /") };
    let mut segments = rest.split('/').map(segment).collect::<Checked<Vec<_>>>()?;
    let plain = segments.iter().map(|segment| match segment {
        Segment::Literal(text) => text.as_str(),
        Segment::Parameter(_) | Segment::Rest(_) => "x",
    });
    let plain = format!("/{}", plain.collect::<Vec<_>>().join("/"));
    canonical(&DeValue::String(plain.as_str().into()), CURE)?;
    if segments.len() > MAX_SEGMENTS {
        return refused(&format!("has more than {MAX_SEGMENTS} segments"));
    }
    let last = segments.pop();
    if segments.iter().any(|segment| matches!(segment, Segment::Rest(_))) {
        return refused("goes on after what stands for all the rest");
    }
    segments.extend(last);
    let template = Template(segments);
    let names: Vec<_> = template.names().collect();
    if names.len() > MAX_TEMPLATE_NAMES {
        return refused(&format!("has more than {MAX_TEMPLATE_NAMES} names"));
    }
    if let Some(twice) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
        return refused(&format!("names {} twice", names[twice]));
    }
    Ok(template)
}

fn segment(text: &str) -> Checked<Segment> {
    let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return match text.contains(['{', '}']) {
            true => wrong(format!("\"{}\" is only in part a name", shown(text)), "name whole segments"),
            false => Ok(Segment::Literal(text.to_owned())),
        };
    };
    let (name, rest) = match name.strip_suffix("...") {
        Some(name) => (name, true),
        None => (name, false),
    };
    match (is_name(name), rest) {
        (true, false) => Ok(Segment::Parameter(name.to_owned())),
        (true, true) => Ok(Segment::Rest(name.to_owned())),
        (false, _) => wrong(
            format!("\"{}\" holds no name", shown(text)),
            format!("write up to {MAX_NAME_BYTES} lower-case letters, digits and _ between the braces"),
        ),
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

/// What may stand between the braces of a template.
pub(in crate::config) fn template_name(text: &str) -> Checked<String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    wrong(format!("\"{}\" is no name of a template", shown(text)), "write one that stands in the path")
}

/// `"api.example.com"` or `"*.example.com"`
pub(in crate::config) fn host(value: &DeValue<'_>) -> Checked<HostPattern> {
    const CURE: &str = "write a name without a port, such as \"api.example.com\" or \"*.example.com\"";
    let text = string(value, CURE)?.to_ascii_lowercase();
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return Ok(HostPattern::Exact(address.to_string()));
    }
    match text.strip_prefix("*.") {
        Some(name) if is_host_name(name) => Ok(HostPattern::Under(name.to_owned())),
        None if is_host_name(&text) => Ok(HostPattern::Exact(text)),
        _ => wrong(format!("\"{}\" is not a host", shown(&text)), CURE),
    }
}

/// `"GET"`
pub(in crate::config) fn method(value: &DeValue<'_>) -> Checked<Method> {
    const CURE: &str = "write it in capitals, such as \"GET\"";
    let text = string(value, CURE)?;
    if matches!(text, "CONNECT" | "TRACE" | "TRACK") {
        return wrong(format!("{text} is never forwarded"), "take it out");
    }
    let right =
        (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if right => Ok(method),
        _ => wrong(format!("\"{}\" is not a method", shown(text)), CURE),
    }
}

/// `"websocket"`
pub(in crate::config) fn upgrade(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write a protocol such as \"websocket\"";
    let text = string(value, CURE)?.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return wrong(format!("\"{}\" is not a protocol", shown(&text)), CURE);
    }
    let name = text.split('/').next().unwrap_or_default();
    if matches!(name, "h2" | "h2c" | "http" | "tls") {
        return wrong(format!("\"{}\" would carry requests past this edge", shown(&text)), "take it out");
    }
    Ok(text)
}

/// A status that says that another try may help.
pub(in crate::config) fn retried_status(value: &DeValue<'_>) -> Checked<u16> {
    match integer(value) {
        Some(status @ (429 | 502 | 503 | 504)) => Ok(status as u16),
        _ => wrong(
            format!("{} is no status that another try may change", described(value)),
            "choose from 429, 502, 503 and 504",
        ),
    }
}

/// What a header field may hold.
pub(in crate::config) fn header_value(value: &DeValue<'_>) -> Checked<HeaderValue> {
    const CURE: &str = "write visible ASCII, without line breaks, in quotes";
    let text = string(value, CURE)?;
    match HeaderValue::from_str(text) {
        Ok(value) if text.trim() == text => Ok(value),
        _ => wrong(format!("\"{}\" is not the value of a header field", shown(text)), CURE),
    }
}
