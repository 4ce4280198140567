//! Durations as operators write and read them: `90s`, `1h30m`; `in 9m 58s`.

use std::time::Duration;

use crate::clock::UnixTime;

/// Largest first: how durations are printed.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write a time above zero with its unit, like 90s, 10m, 1h30m, 7d or 2w")]
pub(super) struct DurationError;

/// Reads whole numbers, each with a unit, from the largest unit to the smallest.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or(DurationError)?);
        let mut tail = tail.chars();
        let unit = tail.next();
        let (_, seconds) = units.find(|(name, _)| Some(*name) == unit).ok_or(DurationError)?;
        let number: u64 = number.parse().map_err(|_| DurationError)?;
        total = number.checked_mul(*seconds).and_then(|part| total.checked_add(part)).ok_or(DurationError)?;
        rest = tail.as_str();
    }
    if total == 0 { Err(DurationError) } else { Ok(Duration::from_secs(total)) }
}

/// The two largest units: more would be false precision.
pub(super) fn text(seconds: u64) -> String {
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
pub(super) fn relative(time: UnixTime, now: UnixTime) -> String {
    if time > now { format!("in {}", text(time.0 - now.0)) } else { format!("{} ago", text(now.0 - time.0)) }
}

/// A time that may never come, or never came.
pub(super) fn relative_or(never: &str, time: Option<UnixTime>, now: UnixTime) -> String {
    time.map_or_else(|| never.to_owned(), |time| relative(time, now))
}
