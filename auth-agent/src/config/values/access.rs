//! Values that say who may use a route, and which of its objects.

use toml::de::DeValue;

use super::{choice, claim, described, integer};
use crate::config::document::{Checked, shown, wrong};
use crate::config::{ClaimKind, ClaimRule, Foreign};
use crate::token::is_identifier;

const MAX_QUERY_NAME_BYTES: usize = 64;

/// `403` or `404`
pub(in crate::config) fn foreign(value: &DeValue<'_>) -> Checked<Foreign> {
    match integer(value) {
        Some(403) => Ok(Foreign::Forbidden),
        Some(404) => Ok(Foreign::NotFound),
        _ => wrong(format!("{} is none of the choices", described(value)), "write 403 or 404"),
    }
}

/// `"String"`
pub(in crate::config) fn claim_kind(value: &DeValue<'_>) -> Checked<ClaimKind> {
    use ClaimKind::{Bool, Long, Set, String};
    choice(value, &[Bool, Long, Set, String].map(|kind| (kind.name(), kind)))
}

/// `"unchecked"`
pub(in crate::config) fn unchecked(value: &DeValue<'_>) -> Checked<()> {
    choice(value, &[("unchecked", ())])
}

/// The name of a parameter of the query, such that every server reads it as the same one.
pub(in crate::config) fn query_name(text: &str) -> Checked<String> {
    let right = (1..=MAX_QUERY_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && text.contains(|char: char| char.is_ascii_alphanumeric());
    if right {
        return Ok(text.to_owned());
    }
    wrong(
        format!("\"{}\" is not a parameter that can be bound", shown(text)),
        format!("write up to {MAX_QUERY_NAME_BYTES} letters, digits, - and _"),
    )
}

/// `role = "admin"`, `tenant = ["a", "b"]`
pub(in crate::config) fn claim_rule(name: &str, value: &DeValue<'_>) -> Checked<ClaimRule> {
    let claim = claim(&DeValue::String(name.into()))?;
    let values = match value {
        DeValue::Array(elements) if elements.is_empty() => {
            return wrong("no value is ever among none", "write one value or more, or take the claim out");
        }
        DeValue::Array(elements) => {
            elements.iter().map(|element| claim_value(element.get_ref())).collect::<Checked<_>>()?
        }
        DeValue::Table(_) => {
            let cure = "write the whole path to the claim in quotes, such as \"/realm_access/roles\"";
            return wrong("a table, and claims are compared with single values", cure);
        }
        single => vec![claim_value(single)?],
    };
    Ok(ClaimRule { claim, values })
}

/// A value as claims are compared: numbers and booleans as JSON writes them.
fn claim_value(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write text, a whole number, true or false";
    match value {
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok(number.to_string()),
            Err(_) => wrong(format!("{} is too large", described(value)), CURE),
        },
        DeValue::String(text) if is_identifier(text) => Ok(text.clone().into_owned()),
        DeValue::String(text) => wrong(
            format!("\"{}\" is never equal to a claim", shown(text)),
            "write 1 to 255 bytes without control characters, and without spaces at either end",
        ),
        other => wrong(format!("{} is no value that a claim is compared with", described(other)), CURE),
    }
}
