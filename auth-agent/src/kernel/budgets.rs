//! Limits as operators state them, in the limiter's terms.

use std::time::Duration;

use auth_common::gcra::{Escalation, Limit};
use auth_common::layout::{BYTES_PER_BLOCK, Class, Policy};

use crate::config::{ByteRate, HttpLimit, Kernel, Limits, PlaintextAnswer, Rate, SourceLimits};

/// Nanoseconds that the filter's clock may stand still: two ticks of a kernel with `CONFIG_HZ=100`, the lowest there
/// is.
const LONGEST_STANDSTILL: u64 = 20_000_000;

/// The budgets of a class, and what no class changes.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Failed authentications, and when the NIC answers.
    pub auth_failures: (Limit, Escalation),
    /// New connections of strangers.
    pub breaker: Limit,
    /// Blocks of [`BYTES_PER_BLOCK`].
    pub bytes: Limit,
    /// New connections.
    pub connections: Limit,
    /// Packets.
    pub packets: Limit,
    /// HTTP requests, and when the NIC answers.
    pub requests: (Limit, Escalation),
    /// How many times all that an IPv6 site has.
    pub site_factor: u32,
}

impl From<&Limits> for Budgets {
    fn from(limits: &Limits) -> Self {
        let Limits { breaker, credential_failures: _, enumeration: _, resets: _, site_factor, source } =
            limits;
        Self::new(source, ticking(limit(breaker)), site_factor.get())
    }
}

impl Budgets {
    fn new(source: &SourceLimits, breaker: Limit, site_factor: u32) -> Self {
        Self {
            auth_failures: escalating(&source.auth_failures),
            breaker,
            bytes: ticking(blocks(&source.bytes)),
            connections: ticking(limit(&source.connections)),
            packets: ticking(limit(&source.packets)),
            requests: escalating(&source.requests),
            site_factor,
        }
    }

    /// The budgets of a class with these limits.
    pub fn of_class(&self, limits: &SourceLimits) -> Self {
        Self::new(limits, self.breaker, self.site_factor)
    }

    /// What the kernel is told of everyone. The generation is that of the rules in place.
    pub fn policy(&self, rules_generation: u64) -> Policy {
        Policy { breaker: self.breaker, flows_until: 0, pass_when_agent_gone: 0, rules_generation }
    }

    /// What the kernel is told of the class.
    pub fn class(&self) -> Class {
        let site = |limit: Limit| limit.times(self.site_factor);
        Class {
            auth_failure_threshold: self.auth_failures.1.threshold,
            bytes: self.bytes,
            connections: self.connections,
            packets: self.packets,
            request_threshold: self.requests.1.threshold,
            site_bytes: site(self.bytes),
            site_connections: site(self.connections),
            site_packets: site(self.packets),
        }
    }
}

/// The limit of resets that plaintext ports send; none goes out where the operator wants segments to them dropped.
pub fn resets(kernel: &Kernel, limits: &Limits) -> Limit {
    match kernel.plaintext {
        PlaintextAnswer::Drop => Limit { increment: 0, tolerance: 0 },
        PlaintextAnswer::Reset => ticking(limit(&limits.resets)),
    }
}

fn blocks(rate: &ByteRate) -> Limit {
    const SECOND: u64 = 1_000_000_000;
    let increment = (SECOND * BYTES_PER_BLOCK / rate.per_second).max(1);
    Limit { increment, tolerance: increment.saturating_mul(rate.burst.div_ceil(BYTES_PER_BLOCK)) }
}

fn limit(rate: &Rate) -> Limit {
    Limit::new(rate.events.get(), nanoseconds(rate.period), rate.burst.get())
}

/// A limit that the kernel charges: by a clock that stands still between ticks. A burst of less than comes in
/// meanwhile would cut the rate short, so that is the least it can be.
fn ticking(limit: Limit) -> Limit {
    let least = limit.increment.saturating_add(LONGEST_STANDSTILL);
    Limit { tolerance: limit.tolerance.max(least), ..limit }
}

fn escalating(http: &HttpLimit) -> (Limit, Escalation) {
    let limit = limit(&http.rate);
    let beyond = limit.increment.saturating_mul(http.drop_after.get().into());
    let threshold = limit.tolerance.saturating_add(beyond);
    (limit, Escalation { threshold, sentence: nanoseconds(http.drop_for) })
}

/// At most what the kernel's clock can say.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use auth_common::gcra::{self, Charge};

    use super::{Rate, limit, ticking};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_coarse_clock_neither_cuts_the_rate_nor_adds_more_than_two_ticks_to_it() {
        for (events, burst) in
            [(45, 1), (50, 200), (166, 1), (333, 2), (1_000, 1), (20_000, 20), (20_000, 40_000)]
        {
            for tick in [1_000_000, 4_000_000, 10_000_000, 20_000_000] {
                let [events, burst] = [events, burst].map(|number| NonZeroU32::new(number).unwrap());
                let limit = ticking(limit(&Rate { burst, events, period: Duration::from_secs(1) }));
                let arrival = AtomicU64::new(0);
                let admitted: usize = (SECOND..11 * SECOND)
                    .step_by(tick as usize)
                    .map(|now| {
                        std::iter::from_fn(|| {
                            (gcra::charge(&arrival, now, limit) == Charge::Within).then_some(())
                        })
                        .count()
                    })
                    .sum();
                let sustained = 10 * events.get() as usize;
                let slack = burst.get() as usize + events.get() as usize / 50 + 1;
                let range = sustained - events.get() as usize / 50..=sustained + slack;
                assert!(range.contains(&admitted), "{events}/s, burst {burst}, tick {tick}: {admitted}");
            }
        }
    }
}
