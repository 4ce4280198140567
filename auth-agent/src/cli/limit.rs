//! `auth-agent limit`: the command line's words for [`Overrides`], and a table of them.

use http::Method;
use ipnet::IpNet;

use super::Failure;
use super::args::{Confirm, LimitVerb, Limited, Remove, ResetDebts, SetLimit, WhoseDebt};
use super::session::Session;
use super::table::table;
use crate::clock::UnixTime;
use crate::config::{BudgetText, ByteOverride, HttpOverride, Overrides, RateOverride};
use crate::control::messages::{
    self, LimitEntry, Limits, LimitsOf, Owing, RequestLimitEntry, RequestLimits, ResetLimit, SetRequestLimit,
    WhoseDebts,
};
use crate::duration::{relative, text};
use crate::limits::Occupancy;

/// Does what is asked for.
pub(super) fn run(session: &mut Session<'_>, verb: LimitVerb) -> Result<(), Failure> {
    let now = session.now;
    match verb {
        LimitVerb::List => session.get("/v1/request-limits", list),
        LimitVerb::Show { address: Some(address), .. } => {
            session.get(&format!("/v1/limits/{address}"), |limits| of(limits, now))
        }
        LimitVerb::Show { address: None, whose } if whose.is_nobody() => {
            session.get("/v1/limits", |limits| all(limits, now))
        }
        LimitVerb::Show { address: None, whose } => {
            let query = query(&whose);
            session.get(&format!("/v1/debts?{query}"), owing)
        }
        LimitVerb::Set(set) => match set.limited.clone() {
            Limited::Name(name) => set_budget(session, &name, *set),
            Limited::Network(_) if set.rate.is_some() || set.amount.is_some() || set.durable => {
                Err(Failure::new(
                    "--rate, --amount and --durable are for a [[limit]] or [[quota]]; of a network, write --requests",
                ))
            }
            Limited::Network(network) => {
                let confirm = set.confirm;
                session.add("/v1/limits", request(network, *set), confirm, |entry| self::set(entry, now))
            }
        },
        LimitVerb::Reset(ResetDebts { name, whose }) => {
            let target = format!("/v1/request-limits/{name}/reset");
            let body = session.ask(Method::POST, &target, Some(message(&whose)))?;
            session.show(&body, reset)
        }
        LimitVerb::Remove { confirm, limited: Limited::Network(network) } => {
            let remove = Remove { confirm, network };
            session.remove("/v1/limits", remove, |limit: &messages::RemovedLimit| {
                format!("removed the limits of {}\n", limit.network)
            })
        }
        LimitVerb::Remove { confirm: Confirm { within: Some(_) }, limited: Limited::Name(_) } => {
            Err(Failure::new("--confirm-within is for networks"))
        }
        LimitVerb::Remove { limited: Limited::Name(name), .. } => {
            let body = session.ask(Method::DELETE, &format!("/v1/request-limits/{name}"), None::<()>)?;
            session.show(&body, |left: &RequestLimits| {
                format!("{name} is as the configuration says\n{}", list(left))
            })
        }
    }
}

fn set_budget(session: &mut Session<'_>, name: &str, set: SetLimit) -> Result<(), Failure> {
    let SetLimit { amount, burst, durable, rate, .. } = set;
    if amount.is_none() && rate.is_none() {
        return Err(Failure::new(format!(
            "name what {name} is to allow: --rate 100/min, or --amount of a quota"
        )));
    }
    let request = SetRequestLimit { budget: BudgetText { amount, burst, rate }, durable };
    let body = session.ask(Method::POST, &format!("/v1/request-limits/{name}"), Some(request))?;
    session.show(&body, |entry: &RequestLimitEntry| format!("set {}\n", entry.name) + &budgets(&[entry]))
}

fn message(whose: &WhoseDebt) -> WhoseDebts {
    let WhoseDebt { all, key, principal, source, tenant } = whose.clone();
    WhoseDebts {
        all,
        key: key.map(|key| key.to_string()),
        principal,
        source: source.map(|source| source.to_string()),
        tenant,
    }
}

fn query(whose: &WhoseDebt) -> String {
    let WhoseDebts { all, key, principal, source, tenant } = message(whose);
    let fields = [("key", key), ("principal", principal), ("source", source), ("tenant", tenant)];
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        query.append_pair(name, &value);
    }
    if all {
        query.append_pair("all", "true");
    }
    query.finish()
}

/// How full the tables are; empty where nobody has a budget in them.
pub(super) fn summary(tables: &[Occupancy]) -> String {
    let used = tables.iter().filter(|table| table.used > 0 || table.shared > 0);
    let line = |Occupancy { capacity, class, kind, shared, used }: &Occupancy| {
        let crowded = match shared {
            0 => String::new(),
            shared => {
                format!("; {shared} requests were counted together for want of room (sizes.limit_entries)")
            }
        };
        format!("limits     {used} of {capacity} {kind} of {class} used{crowded}\n")
    };
    used.map(line).collect()
}

/// The limits and quotas of requests.
fn list(limits: &RequestLimits) -> String {
    let unknown = limits.unknown.iter().map(|name| {
        format!("not in force: what was set for {name}, which the configuration does not have\n")
    });
    budgets(&limits.limits.iter().collect::<Vec<_>>()) + &unknown.collect::<String>()
}

fn budgets(limits: &[&RequestLimitEntry]) -> String {
    let rows = limits.iter().map(|entry| {
        let said = match entry.set.as_deref() {
            None => String::new(),
            Some(set) => format!("{set}, in place of {}", budget(&entry.configured, entry)),
        };
        [entry.name.clone(), budget(&entry.budget, entry), entry.by.join(" + "), entry.count.clone(), said]
    });
    table(["NAME", "ALLOWS", "BY", "COUNTS", "SET"], &rows.collect::<Vec<_>>())
}

/// `100/min (20)`, `1000 per month`
fn budget(budget: &BudgetText, entry: &RequestLimitEntry) -> String {
    match (budget, &entry.per) {
        (BudgetText { amount: Some(amount), .. }, Some(per)) => format!("{amount} per {per}"),
        (BudgetText { burst, rate, .. }, _) => {
            let [burst, rate] = [burst, rate].map(|text| text.as_deref().unwrap_or_default());
            format!("{rate} ({burst})")
        }
    }
}

fn owing(owing: &Owing) -> String {
    if owing.debts.is_empty() {
        return "nothing is owed\n".to_owned();
    }
    let rows = owing.debts.iter().map(|debt| {
        let used = debt.most - debt.remaining.min(debt.most);
        [debt.limit.clone(), format!("{used} of {}", debt.most), text(debt.paid_in_seconds)]
    });
    let more = if owing.more > 0 { format!("and {} more\n", owing.more) } else { String::new() };
    table(["LIMIT", "USED", "PAID IN"], &rows.collect::<Vec<_>>()) + &more
}

fn reset(reset: &ResetLimit) -> String {
    match reset.budgets {
        0 => format!("{}: nothing was owed\n", reset.name),
        1 => format!("{}: 1 budget is whole again\n", reset.name),
        budgets => format!("{}: {budgets} budgets are whole again\n", reset.name),
    }
}

/// The request for it.
fn request(network: IpNet, set: SetLimit) -> messages::SetLimit {
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
        network: network.to_string(),
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
