//! The one canonical form of a request path: what is matched, authorised and sent to the upstream.
//!
//! Escapes of characters that a path may hold as they are get decoded, the others are written in upper case
//! (RFC 3986, 6.2.2). That goes beyond the unreserved ones, because upstreams decode once more: `/a%3Ab` and
//! `/a:b` are one resource to them, and so must be one path to the routes. `+` alone keeps the spelling that it
//! came in, since some upstreams read the raw one as a space; so no route may hold it. Whatever two servers could read differently is refused, never repaired: dot segments, empty segments,
//! encoded separators, path parameters, double encoding, control characters, broken UTF-8.
//!
//! Laws: the canonical form of a canonical form is itself, and it never holds anything refused.

use std::borrow::Cow;
use std::str;

/// Why a request target has no single canonical form.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PathError {
    /// `\`, raw or encoded.
    Backslash,
    /// A character that must be percent-encoded in a path or query.
    Character,
    /// An ASCII or C1 control character, raw or encoded.
    Control,
    /// `.` or `..`, raw or encoded.
    DotSegment,
    /// `%25` followed by two hexadecimal digits.
    DoubleEncoding,
    /// `//`.
    EmptySegment,
    /// `%2F`.
    EncodedSlash,
    /// `%` that two hexadecimal digits do not follow.
    Escape,
    /// `*`, or an authority without a scheme.
    Form,
    /// `;`, raw or encoded: some servers cut it and what follows out of the segment.
    Parameter,
    /// Escapes that do not decode to UTF-8.
    Utf8,
}

impl PathError {
    /// What is wrong, for the client.
    pub fn description(self) -> &'static str {
        match self {
            Self::Backslash => "the path holds a backslash",
            Self::Character => "the request target holds a character that must be percent-encoded",
            Self::Control => "the path holds a control character",
            Self::DotSegment => "the path holds a dot segment",
            Self::DoubleEncoding => "the path is percent-encoded twice",
            Self::EmptySegment => "the path holds an empty segment",
            Self::EncodedSlash => "the path holds an encoded slash",
            Self::Escape => "the path holds an incomplete percent-escape",
            Self::Form => "the request target is not a path",
            Self::Parameter => "the path holds a semicolon",
            Self::Utf8 => "the path is not valid utf-8 once decoded",
        }
    }
}

/// The canonical form of `path`; borrowed where it already is canonical.
pub fn canonical(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Form);
    }
    let path = normalise_escapes(path)?;
    refuse_double_encoding(&path)?;
    refuse_segments(&path)?;
    refuse_undecodable(&path)?;
    Ok(path)
}

/// Refuses a query that isn't visible ASCII. It is forwarded byte for byte, so nothing else matters here.
pub fn check_query(query: &str) -> Result<(), PathError> {
    if query.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err(PathError::Character) }
}

/// The byte that the escape at the start of `text` stands for.
pub(crate) fn escape(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    match (text.first(), digit(1), digit(2)) {
        (Some(b'%'), Some(high), Some(low)) => Some((high << 4 | low) as u8),
        _ => None,
    }
}

fn normalise_escapes(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    let mut output = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            check_raw(byte)?;
            at += 1;
            continue;
        }
        let decoded = escape(&bytes[at..]).ok_or(PathError::Escape)?;
        check_escaped(decoded)?;
        let digits = &bytes[at + 1..at + 3];
        if is_plain(decoded) {
            output.push_str(&path[copied..at]);
            output.push(char::from(decoded));
            copied = at + 3;
        } else if digits.iter().any(u8::is_ascii_lowercase) {
            output.push_str(&path[copied..=at]);
            output.extend(digits.iter().map(|digit| char::from(digit.to_ascii_uppercase())));
            copied = at + 3;
        }
        at += 3;
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(path));
    }
    output.push_str(&path[copied..]);
    Ok(Cow::Owned(output))
}

fn check_raw(byte: u8) -> Result<(), PathError> {
    match byte {
        b'\\' => Err(PathError::Backslash),
        b';' => Err(PathError::Parameter),
        _ if byte.is_ascii_control() => Err(PathError::Control),
        b'/' | b'+' => Ok(()),
        _ if is_plain(byte) => Ok(()),
        _ => Err(PathError::Character),
    }
}

fn check_escaped(byte: u8) -> Result<(), PathError> {
    match byte {
        b'/' => Err(PathError::EncodedSlash),
        b'\\' => Err(PathError::Backslash),
        b';' => Err(PathError::Parameter),
        _ if byte.is_ascii_control() => Err(PathError::Control),
        _ => Ok(()),
    }
}

/// Whether `byte` has one spelling in a canonical path, itself: RFC 3986, 3.3, without what is refused, and
/// without `+`.
pub(crate) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*,=:@".contains(&byte)
}

fn refuse_double_encoding(path: &str) -> Result<(), PathError> {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let doubled = path.match_indices("%25").any(|(at, escape)| {
        let rest = &path.as_bytes()[at + escape.len()..];
        is_hex(rest.first()) && is_hex(rest.get(1))
    });
    if doubled { Err(PathError::DoubleEncoding) } else { Ok(()) }
}

fn refuse_segments(path: &str) -> Result<(), PathError> {
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(PathError::DotSegment),
            "" if segments.peek().is_some() => return Err(PathError::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

/// Only escapes can stand for bytes beyond ASCII, so that most paths are through at the first look.
fn refuse_undecodable(path: &str) -> Result<(), PathError> {
    let bytes = path.as_bytes();
    if !bytes.windows(2).any(|pair| pair[0] == b'%' && pair[1] >= b'8') {
        return Ok(());
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match escape(&bytes[at..]) {
            Some(escaped) => {
                decoded.push(escaped);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    let text = str::from_utf8(&decoded).map_err(|_| PathError::Utf8)?;
    if text.chars().any(char::is_control) { Err(PathError::Control) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
