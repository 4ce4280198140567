//! Parameters of a query, where it decides something what they are.
//!
//! The query is forwarded as it came, and there is no standard for how servers take it apart: they split at `&`, some
//! also at `;`; they take the first of two, the last, or both; `a[]`, `[a]`, `a[b`, `A` and `a.` are `a` to some of them;
//! `+` is a space or itself; some decode before they split, or twice. So a parameter counts here if it is there once,
//! spelled as in the configuration, and a query in which some server might find another one is refused.
//!
//! Law: of a query that is not refused, no server that is known finds another value for the parameter than this.

use std::borrow::Cow;

use crate::path;

/// Servers could read the query differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ambiguous;

/// The decoded value of the parameter `name`, which holds letters, digits, `-` and `_`; `None`: it is not there.
pub(super) fn value<'q>(query: &'q str, name: &str) -> Result<Option<Cow<'q, str>>, Ambiguous> {
    if query.contains(';') {
        return Err(Ambiguous);
    }
    let mut found = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
        if key == name {
            let value = value.ok_or(Ambiguous)?;
            if found.replace(decoded(value)?).is_some() {
                return Err(Ambiguous);
            }
        } else {
            let key = unescaped(key).ok_or(Ambiguous)?;
            if is_dubious(&key) || is_alike(&key, name) {
                return Err(Ambiguous);
            }
        }
    }
    refuse_nested(query, name)?;
    Ok(found)
}

/// Whether some server may take a parameter of this query for `name`, which begins with an underscore. Words without it are
/// other parameters here: they are common.
pub(super) fn mentions(query: &str, name: &str) -> bool {
    // Most queries are through here.
    if !query.contains('%') && !contains(query, name) {
        return false;
    }
    let is = |key: &[u8]| is_spelled(key, name);
    let decoded = |text: &str| unescaped(text).is_some_and(|query| keys(&query).any(is));
    // Also where something else in it can't be decoded.
    keys(query.as_bytes()).any(is) || decoded(query) || query.split(['&', ';']).any(decoded)
}

/// Without regard to case and to all that is no letter or digit.
fn contains(query: &str, name: &str) -> bool {
    let letters = || folded(name.as_bytes());
    let (Some(first), length) = (letters().next(), letters().count()) else { return false };
    let starts = query.bytes().enumerate().filter(|(_, byte)| byte.eq_ignore_ascii_case(&first));
    starts.into_iter().any(|(at, _)| folded(&query.as_bytes()[at..]).take(length).eq(letters()))
}

fn keys(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    let pairs = query.split(|byte| matches!(byte, b'&' | b';' | b'?'));
    pairs.filter_map(|pair| pair.split(|byte| *byte == b'=').next())
}

/// The value that all servers read.
fn decoded(value: &str) -> Result<Cow<'_, str>, Ambiguous> {
    // Some end the value there, or see a space.
    if value.contains(['=', '+']) {
        return Err(Ambiguous);
    }
    let text = text(value).ok_or(Ambiguous)?;
    // The latter end it where the query is decoded before it is taken apart.
    let ends = |char: char| char.is_control() || char == '&' || char == ';';
    if text.contains(ends) || is_escaped_twice(&text) { Err(Ambiguous) } else { Ok(text) }
}

/// Some servers decode twice, or know other escapes than RFC 3986: `%u0031`.
fn is_escaped_twice(text: &str) -> bool {
    let mut escapes = text.match_indices('%').map(|(at, _)| &text.as_bytes()[at..]);
    escapes.any(|escape| path::escape(escape).is_some() || matches!(escape.get(1), Some(b'u' | b'U')))
}

/// What `text` stands for; `None`: that is no UTF-8, or an escape is incomplete.
pub(super) fn text(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    String::from_utf8(unescaped(text)?.into_owned()).ok().map(Cow::Owned)
}

fn unescaped(text: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return Some(Cow::Borrowed(bytes));
    }
    let mut output = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            output.push(path::escape(&bytes[at..])?);
            at += 3;
        } else {
            output.push(byte);
            at += 1;
        }
    }
    Some(Cow::Owned(output))
}

/// What folds to ASCII by some alphabet's rules, ends the text for some, or is decoded once more by some.
fn is_dubious(key: &[u8]) -> bool {
    key.iter().any(|byte| !byte.is_ascii() || byte.is_ascii_control() || *byte == b'%')
}

/// Whether some server takes a parameter of that name, decoded, for `name`. Case, and what is no letter or digit, tell no
/// two apart: PHP makes an underscore of a dot and of an opening bracket, others make `user_id` of `userId`, trim, or take
/// what is before a bracket, or after one.
fn is_alike(key: &[u8], name: &str) -> bool {
    let is = |part: &[u8]| folded(part).eq(folded(name.as_bytes()));
    let mut parts = key.split(|byte| matches!(byte, b'[' | b']') || byte.is_ascii_control());
    // What is before the first bracket, or after brackets that come first.
    is(key) || parts.find(|part| folded(part).next().is_some()).is_some_and(is)
}

/// The same for a name whose underscores count; PHP makes them of other characters, too.
fn is_spelled(key: &[u8], name: &str) -> bool {
    let fold = |byte: &u8| if b".+ [-".contains(byte) { b'_' } else { byte.to_ascii_lowercase() };
    let is = |part: &[u8]| part.len() == name.len() && part.iter().map(fold).eq(name.bytes());
    let mut parts = key.split(|byte| matches!(byte, b'[' | b']' | b'+') || byte.is_ascii_control());
    is(key) || parts.find(|part| folded(part).next().is_some()).is_some_and(|part| is(part.trim_ascii()))
}

fn folded(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase)
}

/// Some programs decode a query before they take it apart: what another parameter's value holds then comes out. Some
/// begin anew at another question mark.
fn refuse_nested(query: &str, name: &str) -> Result<(), Ambiguous> {
    // Most queries are through here: nothing is decoded, and no question mark begins another one.
    if !query.contains(['%', '?']) {
        return Ok(());
    }
    let query = unescaped(query).ok_or(Ambiguous)?;
    if keys(&query).filter(|key| is_alike(key, name)).count() > 1 { Err(Ambiguous) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
