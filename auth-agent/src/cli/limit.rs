//! `auth-agent limit`: the command line's words for [`Overrides`], and a table of them.

use super::args::SetLimit;
use super::table::table;
use crate::clock::UnixTime;
use crate::config::{ByteOverride, HttpOverride, Overrides, RateOverride};
use crate::control::messages::{self, LimitEntry, Limits, LimitsOf};
use crate::duration::relative;

/// The request for it.
pub(super) fn request(set: SetLimit) -> messages::SetLimit {
    messages::SetLimit {
        limits: Overrides {
            auth_failures: unless_empty(HttpOverride {
                burst: set.auth_failures_burst,
                drop_after: set.auth_failures_drop_after,
                drop_for: set.auth_failures_drop_for,
                rate: set.auth_failures,
            }),
            bytes: unless_empty(ByteOverride { burst: set.bytes_burst, per_second: set.bytes }),
            connections: unless_empty(RateOverride { burst: set.connections_burst, rate: set.connections }),
            packets: unless_empty(RateOverride { burst: set.packets_burst, rate: set.packets }),
            requests: unless_empty(HttpOverride {
                burst: set.requests_burst,
                drop_after: set.requests_drop_after,
                drop_for: set.requests_drop_for,
                rate: set.requests,
            }),
        },
        network: set.network.to_string(),
        reason: set.reason,
    }
}

fn unless_empty<T: Default + PartialEq>(limit: T) -> Option<T> {
    (limit != T::default()).then_some(limit)
}

/// All limits, and below what of them is not in force.
pub(super) fn all(limits: &Limits, now: UnixTime) -> String {
    let (idle, in_force): (Vec<_>, Vec<_>) = limits.limits.iter().partition(|entry| entry.obstacle.is_some());
    let idle = idle.iter().map(|entry| {
        let obstacle = entry.obstacle.as_deref().unwrap_or_default();
        format!("not in force: {} for {}: {obstacle}\n", origin(entry, now), network(entry))
    });
    entries(&in_force, now) + &idle.collect::<String>()
}

/// Which limits hold for one address, and what else covers it.
pub(super) fn of(limits: &LimitsOf, now: UnixTime) -> String {
    let why = match limits.limits.split_first() {
        _ if limits.allowed => "it is on the allowlist: no limit holds for it\n".to_owned(),
        None | Some((_, [])) => "no network with limits of its own covers it\n".to_owned(),
        Some((first, _)) => {
            format!("it is held to the limits of {}, the longest network that covers it\n", network(first))
        }
    };
    why + &entries(&limits.limits.iter().collect::<Vec<_>>(), now)
}

pub(super) fn set(entry: &LimitEntry, now: UnixTime) -> String {
    format!("set the limits of {}\n", network(entry)) + &entries(&[entry], now)
}

fn entries(limits: &[&LimitEntry], now: UnixTime) -> String {
    let rows = limits.iter().map(|entry| {
        let Overrides { auth_failures, bytes, connections, packets, requests } = &entry.limits;
        [
            network(entry).to_owned(),
            origin(entry, now),
            http(requests.as_ref()),
            http(auth_failures.as_ref()),
            rate(connections.as_ref()),
            rate(packets.as_ref()),
            size(bytes.as_ref()),
            entry.reason.clone().unwrap_or_default(),
        ]
    });
    let head = ["NETWORK", "CLASS", "REQUESTS", "AUTH FAILURES", "CONNECTIONS", "PACKETS", "BYTES", "REASON"];
    table(head, &rows.collect::<Vec<_>>())
}

fn network(entry: &LimitEntry) -> &str {
    entry.network.as_deref().unwrap_or("everyone else")
}

fn origin(entry: &LimitEntry, now: UnixTime) -> String {
    match entry.created {
        Some(created) => format!("set {}", relative(created, now)),
        None => entry.class.clone(),
    }
}

/// `100/min (100), 100 > 10s`: the rate, the burst, and when the NIC drops for how long.
fn http(limit: Option<&HttpOverride>) -> String {
    let Some(HttpOverride { burst, drop_after, drop_for, rate }) = limit else { return String::new() };
    let [burst, drop_after] = [burst, drop_after].map(|number| number.unwrap_or_default());
    let [rate, drop_for] = [rate, drop_for].map(|text| text.as_deref().unwrap_or_default());
    format!("{rate} ({burst}), {drop_after} > {drop_for}")
}

fn rate(limit: Option<&RateOverride>) -> String {
    let Some(RateOverride { burst, rate }) = limit else { return String::new() };
    format!("{} ({})", rate.as_deref().unwrap_or_default(), burst.unwrap_or_default())
}

fn size(limit: Option<&ByteOverride>) -> String {
    let Some(ByteOverride { burst, per_second }) = limit else { return String::new() };
    let [burst, per_second] = [burst, per_second].map(|size| size.as_deref().unwrap_or_default());
    format!("{per_second}/s ({burst})")
}
