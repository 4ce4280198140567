//! What is said of an issuer's tokens.

use toml::de::DeValue;

use super::{choice, string};
use crate::config::document::{Checked, shown, wrong};
use crate::config::{ClaimPath, SensitiveClaims};

/// A claim's name, or a JSON pointer to one inside others.
pub(in crate::config) fn claim(value: &DeValue<'_>) -> Checked<ClaimPath> {
    const CURE: &str = r#"write a name such as "sub", or a JSON pointer such as "/realm_access/roles""#;
    let text = string(value, CURE)?;
    ClaimPath::parse(text).or_else(|_| wrong(format!("\"{}\" names no claim", shown(text)), CURE))
}

/// `"ignore"`, `"reject"` or `"warn"`
pub(in crate::config) fn sensitive_claims(value: &DeValue<'_>) -> Checked<SensitiveClaims> {
    choice(
        value,
        &[
            ("ignore", SensitiveClaims::Ignore),
            ("reject", SensitiveClaims::Reject),
            ("warn", SensitiveClaims::Warn),
        ],
    )
}

/// A token's `typ`, in the form in which it is compared (RFC 7515, 4.1.9).
pub(in crate::config) fn token_type(value: &DeValue<'_>) -> Checked<String> {
    const CURE: &str = "write a type such as \"at+jwt\"";
    let text = string(value, CURE)?;
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong(format!("\"{}\" is not a token type", shown(text)), CURE);
    }
    let lower = text.to_ascii_lowercase();
    let canonical = lower.strip_prefix("application/").unwrap_or(&lower);
    if canonical == text {
        Ok(text.to_owned())
    } else {
        wrong(
            format!("\"{}\" is not in the form that is compared", shown(text)),
            format!("write \"{}\"", shown(canonical)),
        )
    }
}
