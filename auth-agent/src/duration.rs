//! Durations as operators write and read them: `90s`, `1h30m`; `in 9m 58s`.

use std::time::Duration;

use crate::clock::UnixTime;

/// Seconds of each unit, largest first: in this order they are written.
const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
const MILLISECONDS: &str = "ms";

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write a time above zero with its unit, like 90s, 10m, 1h30m, 7d or 2w")]
pub struct DurationError;

/// Reads whole numbers, each with a unit, from the largest unit to the smallest: `1h30m`, `250ms`, `0s`.
///
/// # Errors
/// If it is anything else.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError);
    }
    let mut units = UNITS.iter().map(|(name, seconds)| (*name, Some(*seconds))).chain([(MILLISECONDS, None)]);
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or(DurationError)?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let (_, seconds) = units.find(|(name, _)| *name == unit).ok_or(DurationError)?;
        let number: u64 = number.parse().map_err(|_| DurationError)?;
        let part = match seconds {
            Some(seconds) => number.checked_mul(seconds).map(Duration::from_secs),
            None => Some(Duration::from_millis(number)),
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or(DurationError)?;
        rest = tail;
    }
    Ok(total)
}

/// Reads how long something lasts: whole seconds, and at least one.
///
/// # Errors
/// If it is anything else.
pub fn parse_seconds(text: &str) -> Result<Duration, DurationError> {
    parse(text).ok().filter(|time| !time.is_zero() && time.subsec_nanos() == 0).ok_or(DurationError)
}

/// The two largest units: more would be false precision.
pub fn text(seconds: u64) -> String {
    // Weeks are for writing: `45d` reads better than `6w 3d`.
    let units = &UNITS[1..];
    let first = units.iter().position(|(_, length)| seconds >= *length).unwrap_or(units.len() - 1);
    let (name, length) = units[first];
    let whole = format!("{}{name}", seconds / length);
    match units.get(first + 1) {
        Some((next, part)) if seconds % length >= *part => {
            format!("{whole} {}{next}", seconds % length / part)
        }
        _ => whole,
    }
}

/// A time as seen from now.
pub fn relative(time: UnixTime, now: UnixTime) -> String {
    if time > now { format!("in {}", text(time.0 - now.0)) } else { format!("{} ago", text(now.0 - time.0)) }
}

/// A time that may never come, or never came.
pub fn relative_or(never: &str, time: Option<UnixTime>, now: UnixTime) -> String {
    time.map_or_else(|| never.to_owned(), |time| relative(time, now))
}
