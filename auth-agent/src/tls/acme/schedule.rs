//! When a certificate is got anew. No clock in here.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::tls::Validity;

/// After the first failure; then four times as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// A server counts failed validations by the hour.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);

/// How far along a random way something is: hosts that started together are not to come together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread(pub u8);

impl Spread {
    /// That part of a time.
    fn of(self, seconds: u64) -> u64 {
        seconds * u64::from(self.0) / u64::from(u8::MAX)
    }
}

/// When to begin: so long before its end, or with the last third of a life that is shorter, and up to a tenth of that
/// time earlier.
pub(super) fn renewal(validity: Validity, ahead: Duration, spread: Spread) -> UnixTime {
    let life = validity.not_after.0.saturating_sub(validity.not_before.0);
    let ahead = ahead.as_secs().min(life / 3);
    UnixTime(validity.not_after.0.saturating_sub(ahead + spread.of(ahead / 10)))
}

/// How long to wait after so many failures in a row, and up to a quarter longer.
pub(super) fn pause(failures: u32, spread: Spread) -> Duration {
    let factor = 4_u32.saturating_pow(failures.saturating_sub(1));
    let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE).as_secs();
    Duration::from_secs(pause + spread.of(pause / 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn renewal_is_ahead_of_the_end_by_what_is_wanted_or_a_third_of_a_short_life() {
        for (life, ahead, spread, expected) in [
            (90, 30, 0, 60 * DAY),
            (90, 30, 255, 57 * DAY),
            (6, 30, 0, 4 * DAY),
            (6, 30, 255, 4 * DAY - DAY / 5),
            (90, 1, 0, 89 * DAY),
            (0, 30, 255, 0),
        ] {
            let validity = Validity { not_after: UnixTime(life * DAY), not_before: UnixTime(0) };
            let at = renewal(validity, Duration::from_secs(ahead * DAY), Spread(spread));
            assert_eq!(at, UnixTime(expected), "{life} {ahead} {spread}");
        }
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses_up_to_six_hours() {
        let pauses = [1, 2, 3, 4, 5, 6, 7, 100].map(|failures| pause(failures, Spread(0)).as_secs());
        assert_eq!(pauses, [60, 240, 960, 3_840, 15_360, 21_600, 21_600, 21_600]);
        assert_eq!(pause(1, Spread(255)).as_secs(), 75);
    }
}
