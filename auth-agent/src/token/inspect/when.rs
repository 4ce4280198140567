//! Seconds since 1970, for people.

use crate::clock::UnixTime;

/// 9999-12-31T23:59:59Z.
const LAST_FOUR_DIGIT_YEAR: u64 = 253_402_300_799;

/// `in 5m 0s`, `2h 3m ago`.
pub(super) fn relative(seconds: u64, now: UnixTime) -> String {
    if seconds >= now.0 {
        format!("in {}", span(seconds - now.0))
    } else {
        format!("{} ago", span(now.0 - seconds))
    }
}

/// The two largest units.
pub(super) fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, ..) => format!("{d}d {h}h"),
    }
}

/// RFC 3339. Days to a date as in Howard Hinnant's `civil_from_days`, with years that start in March.
pub(super) fn utc(seconds: u64) -> Option<String> {
    if seconds > LAST_FOUR_DIGIT_YEAR {
        return None;
    }
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_gregorian_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST_FOUR_DIGIT_YEAR, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(seconds).as_deref(), Some(date));
        }
        assert_eq!(utc(LAST_FOUR_DIGIT_YEAR + 1), None);
        assert_eq!(utc(u64::MAX), None);
    }

    #[test]
    fn spans_name_the_two_largest_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3599, "59m 59s"), (3660, "1h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(relative(100, UnixTime(40)), "in 1m 0s");
        assert_eq!(relative(40, UnixTime(100)), "1m 0s ago");
    }
}
