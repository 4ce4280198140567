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
