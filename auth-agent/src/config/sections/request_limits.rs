//! `[[limit]]` and `[[quota]]`

use super::Earlier;
use super::limits::MAX_DEBT_DAYS;
use crate::config::defaults::DAY;
use crate::config::document::{Checked, Section, shown, wrong};
use crate::config::{
    By, Counted, MAX_LIMITS_PER_ROUTE, MAX_REQUEST_LIMITS, RequestBudget, RequestLimit, Route, VolumeRate,
    values,
};

/// What `auth-agent limit reset` calls the budgets that every source has.
const TAKEN: [&str; 2] = ["auth-failures", "requests"];

/// What both kinds of sections hold, but for how much there may be.
struct Common {
    by: By,
    count: Counted,
    methods: Vec<http::Method>,
    name: String,
    networks: Vec<ipnet::IpNet>,
    /// Indexes of the routes that it is for.
    routes: Vec<usize>,
}

/// The limits and the quotas, in this order. Each route learns which are for it.
pub(super) fn request_limits(root: &mut Section<'_>, routes: &mut [Route]) -> Vec<RequestLimit> {
    let (limits, quotas) = (root.sections("limit"), root.sections("quota"));
    if limits.len() + quotas.len() > MAX_REQUEST_LIMITS {
        let cure = "make one of those that tell the same apart";
        root.check("limit", wrong(format!("more than {MAX_REQUEST_LIMITS} limits and quotas"), cure));
    }
    let mut names = Earlier::default();
    let read: Vec<_> = (limits.into_iter().map(|section| (section, RateOrQuota::Rate)))
        .chain(quotas.into_iter().map(|section| (section, RateOrQuota::Quota)))
        .filter_map(|(section, kind)| request_limit(section, kind, routes, &mut names))
        .collect();
    for (index, (_, wanted)) in read.iter().enumerate() {
        for route in wanted {
            routes[*route].limits.push(index);
        }
    }
    if let Some(route) = routes.iter().find(|route| route.limits.len() > MAX_LIMITS_PER_ROUTE) {
        let label = shown(route.label());
        let what =
            format!("more than {MAX_LIMITS_PER_ROUTE} limits and quotas are for the route \"{label}\"");
        root.check("limit", wrong(what, "name in each the routes that it is for"));
    }
    read.into_iter().map(|(limit, _)| limit).collect()
}

#[derive(Clone, Copy)]
enum RateOrQuota {
    Quota,
    Rate,
}

fn request_limit(
    mut section: Section<'_>,
    kind: RateOrQuota,
    routes: &[Route],
    names: &mut Earlier<String>,
) -> Option<(RequestLimit, Vec<usize>)> {
    let count = section.or("count", values::counted, Counted::Requests);
    let common = common(&mut section, count, routes, names);
    let budget = match kind {
        RateOrQuota::Quota => quota(&mut section, count),
        RateOrQuota::Rate => rate(&mut section, count).map(RequestBudget::Rate),
    };
    section.finish();
    let Common { by, count, methods, name, networks, routes } = common?;
    Some((RequestLimit { budget: budget?, by, count, methods, name: name.into(), networks }, routes))
}

fn common(
    section: &mut Section<'_>,
    count: Counted,
    routes: &[Route],
    names: &mut Earlier<String>,
) -> Option<Common> {
    let name = section.required("name", values::name, r#"name = "per-user""#);
    let by = section.required_list("by", values::dimension, r#"by = ["principal"]"#);
    let methods =
        section.filled_list("methods", values::method, "methods = [\"GET\"], or no methods for any");
    let networks = section.filled_list(
        "networks",
        values::any_network,
        r#"networks = ["192.0.2.0/24"], or no networks for any"#,
    );
    let wanted = section.filled_list("routes", values::text, "the names of routes, or no routes for all");
    let routes = match wanted {
        Some(wanted) => named(section, &wanted, routes),
        None => (0..routes.len()).collect(),
    };
    if let Some(name) = &name {
        names.check(section, "name", name.clone(), String::eq);
        if TAKEN.contains(&name.as_str()) {
            let problem = wrong("that is a budget of [limits]", "choose another name");
            section.check("name", problem);
        }
    }
    let by: Option<By> = by.map(|by| by.into_iter().collect::<By>());
    Some(Common {
        by: by?,
        count,
        methods: methods.unwrap_or_default(),
        name: name?,
        networks: networks.unwrap_or_default(),
        routes,
    })
}

fn named(section: &Section<'_>, wanted: &[String], routes: &[Route]) -> Vec<usize> {
    let mut indexes = Vec::new();
    for wanted in wanted {
        let found = (0..routes.len()).filter(|index| routes[*index].label() == wanted);
        let before = indexes.len();
        indexes.extend(found);
        if indexes.len() == before {
            let what = format!("there is no route \"{}\"", shown(wanted));
            let cure = "write a route's name, or its hosts and path where it has none, as they stand there";
            section.check("routes", wrong(what, cure));
        }
    }
    indexes
}

fn quota(section: &mut Section<'_>, count: Counted) -> Option<RequestBudget> {
    let amount = section.required("amount", values::volume(count), "amount = 10000");
    let period = section.required("per", values::period, r#"per = "day" or per = "month""#);
    Some(RequestBudget::Quota { amount: amount?, period: period? })
}

fn rate(section: &mut Section<'_>, count: Counted) -> Option<VolumeRate> {
    let write = match count {
        Counted::Requests => r#"rate = "100/min""#,
        Counted::ResponseBytes => r#"rate = "10MiB/min""#,
    };
    let rate = section.required("rate", values::volume_rate(count), write);
    let burst = section.optional("burst", values::volume(count));
    let (amount, period) = rate?;
    let rate = VolumeRate { amount, burst: burst.unwrap_or(amount), period };
    section.check("burst", is_payable(rate));
    Some(rate)
}

/// How much there may be, in a section that holds nothing else, in place of what is `configured`.
pub(in crate::config) fn sole_budget(
    mut section: Section<'_>,
    count: Counted,
    configured: RequestBudget,
) -> Option<RequestBudget> {
    let budget = match configured {
        RequestBudget::Quota { period, .. } => {
            let amount = section.required("amount", values::volume(count), "amount = 10000");
            amount.map(|amount| RequestBudget::Quota { amount, period })
        }
        RequestBudget::Rate(_) => rate(&mut section, count).map(RequestBudget::Rate),
    };
    section.finish();
    budget
}

fn is_payable(VolumeRate { amount, burst, period }: VolumeRate) -> Checked<()> {
    let seconds = u128::from(burst.get()) * u128::from(period.as_secs()) / u128::from(amount.get());
    let days = seconds / u128::from(DAY.as_secs());
    if days < u128::from(MAX_DEBT_DAYS) {
        return Ok(());
    }
    wrong(
        format!("{burst} take {days} days to pay off at this rate"),
        "write a smaller number or a faster rate",
    )
}
