//! Values of `[[limit]]` and `[[quota]]`.

use std::num::NonZeroU64;
use std::time::Duration;

use toml::de::DeValue;

use super::{Checked, bytes, choice, described, integer, string, wrong};
use crate::config::defaults::{HOUR, MINUTE, SECOND};
use crate::config::{Counted, Dimension, Period};

/// No more bytes are asked of a limit in one period.
const MAX_BYTES: u64 = 1 << 40;
/// As many requests, or bytes, as a quota's counter holds.
const MAX_QUOTA: u64 = 1 << 47;
/// More requests than this in a second cost too few nanoseconds to count them exactly.
const MAX_REQUESTS_PER_SECOND: u64 = 10_000_000;

/// `"requests"` or `"response-bytes"`
pub(in crate::config) fn counted(value: &DeValue<'_>) -> Checked<Counted> {
    choice(value, &[Counted::Requests, Counted::ResponseBytes].map(|counted| (counted.name(), counted)))
}

/// `"principal"`
pub(in crate::config) fn dimension(value: &DeValue<'_>) -> Checked<Dimension> {
    choice(value, &Dimension::ALL.map(|dimension| (dimension.name(), dimension)))
}

/// `"day"` or `"month"`
pub(in crate::config) fn period(value: &DeValue<'_>) -> Checked<Period> {
    choice(value, &[Period::Day, Period::Month].map(|period| (period.name(), period)))
}

/// `"100/min"`, or `"10MiB/min"` of bytes.
pub(in crate::config) fn volume_rate(
    counted: Counted,
) -> impl Fn(&DeValue<'_>) -> Checked<(NonZeroU64, Duration)> {
    move |value| {
        let cure = match counted {
            Counted::Requests => "write a number per s, min or h, such as \"100/min\"",
            Counted::ResponseBytes => "write a size per s, min or h, such as \"10MiB/min\"",
        };
        let text = string(value, cure)?;
        let Some((number, unit)) = text.split_once('/') else {
            return wrong(format!("{} is not a rate", described(value)), cure);
        };
        let period = match unit {
            "s" => SECOND,
            "min" => MINUTE,
            "h" => HOUR,
            _ => return wrong(format!("{} is not a rate", described(value)), cure),
        };
        let most = match counted {
            Counted::Requests => MAX_REQUESTS_PER_SECOND * period.as_secs(),
            Counted::ResponseBytes => MAX_BYTES,
        };
        let amount = match counted {
            Counted::Requests => {
                number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))
            }
            Counted::ResponseBytes => bytes(0..=u64::MAX)(&DeValue::String(number.into())).ok(),
        };
        match amount.map(NonZeroU64::new) {
            Some(Some(amount)) if amount.get() <= most => Ok((amount, period)),
            Some(Some(_)) => wrong(
                format!("{} is more than can be counted", described(value)),
                format!("write at most \"{most}/{unit}\""),
            ),
            Some(None) | None => wrong(format!("{} is not a rate above 0", described(value)), cure),
        }
    }
}

/// `1000`, or `"10GiB"` of bytes; up to 2^47.
pub(in crate::config) fn volume(counted: Counted) -> impl Fn(&DeValue<'_>) -> Checked<NonZeroU64> {
    move |value| {
        let volume = match counted {
            Counted::Requests => integer(value),
            Counted::ResponseBytes => Some(bytes(0..=u64::MAX)(value)?),
        };
        match volume.filter(|volume| *volume <= MAX_QUOTA).and_then(NonZeroU64::new) {
            Some(volume) => Ok(volume),
            None => wrong(
                format!("{} is not a number in range", described(value)),
                format!("write 1 to {MAX_QUOTA}"),
            ),
        }
    }
}
