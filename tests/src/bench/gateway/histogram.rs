//! Latencies, counted in steps of a thirty-second of themselves.

use std::time::Duration;

/// What is counted, in nanoseconds.
const UNIT: u64 = 100;
/// Steps between a power of two and the next.
const STEPS: u64 = 32;
/// The last holds what takes longer than a quarter of an hour.
const BUCKETS: usize = 1_024;

/// How often something took how long.
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let bucket = bucket(time.as_nanos() as u64 / UNIT).min(BUCKETS - 1);
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    /// Below this, in microseconds, lies this part of all.
    pub fn quantile(&self, part: f64) -> f64 {
        let wanted = (self.count as f64 * part).ceil().max(1.0) as u64;
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += count;
            below >= wanted
        });
        bucket.map_or(0.0, |bucket| (floor(bucket as u64) * UNIT) as f64 / 1e3)
    }
}

fn bucket(value: u64) -> usize {
    let shift = shift(value);
    (shift * STEPS + (value >> shift)) as usize
}

/// How many of the value's low bits do not count.
fn shift(value: u64) -> u64 {
    u64::from(value.max(1).ilog2()).saturating_sub(u64::from(STEPS.ilog2()))
}

/// The smallest value of a bucket.
fn floor(bucket: u64) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    (bucket - shift * STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_to_a_thirty_second_of_itself() {
        for value in (0..10_000).chain([1 << 20, (1 << 30) + 12_345, 9_000_000_000]) {
            let floor = floor(bucket(value) as u64);
            assert!(floor <= value && value - floor <= value / STEPS, "{value}: {floor}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_counted() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|microseconds| histogram.add(Duration::from_micros(microseconds)));
        for (part, expected) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = histogram.quantile(part);
            assert!(found <= expected && expected - found <= expected / 32.0, "{part}: {found}");
        }
        assert_eq!(Histogram::default().quantile(0.5), 0.0);
    }
}
