//! Days and months of UTC, by the day on which they end: days since 1970-01-01.

use crate::clock::UnixTime;
use crate::config::Period;

const SECONDS_PER_DAY: u64 = 86_400;
/// Days of the 400 years after which the calendar repeats.
const DAYS_PER_ERA: u64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;
/// As far as periods are told apart: the year 2149.
const LAST_DAY: u64 = 65_534;

/// The day of a moment.
pub fn day(now: UnixTime) -> u16 {
    (now.0 / SECONDS_PER_DAY).min(LAST_DAY) as u16
}

/// The first day that is no longer in the period of `now`.
pub fn end(period: Period, now: UnixTime) -> u16 {
    let today = u64::from(day(now));
    let end = match period {
        Period::Day => today + 1,
        Period::Month => next_month(today),
    };
    end.min(LAST_DAY + 1) as u16
}

/// Seconds from `now` to the start of a day; at least one.
pub fn seconds_to(end: u16, now: UnixTime) -> u64 {
    (u64::from(end) * SECONDS_PER_DAY).saturating_sub(now.0).max(1)
}

/// The first day of the next month. Counted in years that begin in March, all months but the last are alike in every
/// year; the arithmetic is that of "chrono-compatible low-level date algorithms" (H. Hinnant).
fn next_month(day: u64) -> u64 {
    let day = day + DAYS_BEFORE_1970;
    let of_era = day % DAYS_PER_ERA;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, 0 to 11.
    let month = (5 * of_year + 2) / 153;
    let next = match month {
        // February ends with the year.
        11 => days_of_year(year_of_era),
        month => first_of(month + 1),
    };
    day - of_year + next - DAYS_BEFORE_1970
}

/// The first day of a month, in a year that begins in March.
fn first_of(month: u64) -> u64 {
    (153 * month + 2) / 5
}

/// Days of a year that begins in March: its February is that of the next year.
fn days_of_year(year_of_era: u64) -> u64 {
    let next = (year_of_era + 1) % 400;
    if next.is_multiple_of(4) && (!next.is_multiple_of(100) || next == 0) { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn date(text: &str) -> UnixTime {
        let time = humantime::parse_rfc3339(text).unwrap();
        UnixTime(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn a_period_ends_at_midnight_utc() {
        for (now, day, month) in [
            ("1970-01-01T00:00:00Z", "1970-01-02", "1970-02-01"),
            ("2026-11-25T23:59:59Z", "2026-11-26", "2026-12-01"),
            ("2026-12-31T12:00:00Z", "2027-01-01", "2027-01-01"),
            ("2027-01-01T00:00:00Z", "2027-01-02", "2027-02-01"),
            ("2027-02-28T23:59:59Z", "2027-03-01", "2027-03-01"),
            ("2028-02-28T00:00:00Z", "2028-02-29", "2028-03-01"),
            ("2028-02-29T00:00:00Z", "2028-03-01", "2028-03-01"),
            ("2028-03-01T00:00:00Z", "2028-03-02", "2028-04-01"),
            ("2100-02-28T00:00:00Z", "2100-03-01", "2100-03-01"),
            ("2000-02-29T00:00:00Z", "2000-03-01", "2000-03-01"),
        ] {
            let ends = [Period::Day, Period::Month].map(|period| {
                let end = Duration::from_secs(u64::from(end(period, date(now))) * SECONDS_PER_DAY);
                humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + end).to_string()
            });
            assert_eq!(ends, [day, month].map(|day| format!("{day}T00:00:00Z")), "{now}");
        }
    }

    #[test]
    fn months_follow_each_other_without_a_gap() {
        let mut today = 0;
        let mut months = 0;
        while today < 60_000 {
            let next = next_month(today);
            assert!((28..=31).contains(&(next - today)), "{today}");
            for within in today..next {
                assert_eq!(next_month(within), next, "{within}");
            }
            (today, months) = (next, months + 1);
        }
        assert_eq!(months, 1_972);
    }

    #[test]
    fn the_seconds_to_the_end_are_never_none() {
        let now = date("2026-11-25T23:59:59Z");
        assert_eq!(seconds_to(end(Period::Day, now), now), 1);
        assert_eq!(seconds_to(day(now), now), 1);
    }
}
