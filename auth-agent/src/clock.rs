//! The two clocks. Everything below the entry points takes the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds on `CLOCK_MONOTONIC`: the clock that `bpf_ktime_get_ns` reads, so that debts and
/// deadlines mean the same in the kernel and here.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The time now.
    pub fn now() -> Self {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid, writable timespec for the length of the call. The call can't fail
        // with a clock that every Linux has.
        #[allow(unsafe_code, reason = "std offers no reading of CLOCK_MONOTONIC as a number")]
        unsafe {
            libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time)
        };
        Self(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

/// Seconds since 1970-01-01 UTC: the clock of tokens, keys and bans in the store.
#[derive(Clone, Copy, Debug, serde::Deserialize, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The time now; 0 on a host whose clock stands before 1970.
    pub fn now() -> Self {
        Self(since_epoch().as_secs())
    }
}

/// When something happened, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For debts.
    pub monotonic: Monotonic,
    /// For credentials.
    pub unix: UnixTime,
}

impl Now {
    /// The time now.
    pub fn read() -> Self {
        Self { monotonic: Monotonic::now(), unix: UnixTime::now() }
    }
}

/// The wall clock to the nanosecond, for what is only shown; 0 on a host whose clock stands before 1970.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Tells whether the wall clock goes as time does. One that was set, or a host that was suspended, makes what is over by
/// it doubtful.
#[derive(Debug)]
pub struct Steadiness {
    since: Monotonic,
    wall: UnixTime,
}

/// By how much the two clocks may drift apart between two looks.
const DRIFT_SECONDS: u64 = 30;

impl Steadiness {
    /// From now on.
    pub fn new(now: Now) -> Self {
        Self { since: now.monotonic, wall: now.unix }
    }

    /// For how long the wall clock has been steady; none at all after a step.
    pub fn lasted(&mut self, now: Now) -> Duration {
        let lasted = Duration::from_nanos(now.monotonic.0.saturating_sub(self.since.0));
        let expected = self.wall.0.saturating_add(lasted.as_secs());
        if expected.abs_diff(now.unix.0) <= DRIFT_SECONDS {
            return lasted;
        }
        *self = Self::new(now);
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_steady_until_it_is_set() {
        let at = |monotonic: u64, unix| Now {
            monotonic: Monotonic(monotonic * 1_000_000_000),
            unix: UnixTime(unix),
        };
        let mut steadiness = Steadiness::new(at(100, 5_000));
        for (monotonic, unix, lasted) in [
            (100, 5_000, 0),
            (110, 5_010, 10),
            (200, 5_101, 100),
            (210, 9_000, 0),
            (220, 9_010, 10),
            (230, 5_130, 0),
            (4_000, 8_900, 3_770),
        ] {
            assert_eq!(
                steadiness.lasted(at(monotonic, unix)),
                Duration::from_secs(lasted),
                "{monotonic} {unix}"
            );
        }
    }
}
