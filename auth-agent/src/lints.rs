//! What the routes of a configuration let happen that their author may not have meant.
//!
//! Which route takes a request is asked of the router itself, for requests that one would think a route to be for: what
//! is said here can't be other than what happens.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use http::Method;
use serde::Serialize;

use crate::config::{
    Auth, ClaimPath, Config, HostPattern, Issuer, Listener, OWN_ISSUER, PathPattern, Route, Segment, Template,
};
use crate::routes::RouteTable;

/// A segment that no configuration holds.
const ANY: &str = "~any~";
/// A label of a host that stands for all others.
const ANY_HOST: &str = "any";

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Hardly what was meant.
    Warning,
    /// What was written, to be looked at.
    Note,
}

/// Something to look at.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub struct Lint {
    /// What to do about it.
    pub cure: String,
    /// How bad it is.
    pub level: Level,
    /// What kind it is of.
    pub name: &'static str,
    /// The label of the route.
    pub route: String,
    /// What was found.
    pub what: String,
}

/// All of them, warnings first, each kind in the order of the routes.
pub fn lints(config: &Config) -> Vec<Lint> {
    let table = RouteTable::new(&config.routes);
    let hosts: BTreeSet<_> = config.routes.iter().flat_map(|route| &route.hosts).map(host).collect();
    let hosts: Vec<_> = hosts.into_iter().collect();
    let mut lints: Vec<_> = config
        .routes
        .iter()
        .flat_map(|route| {
            let own = [open(route), unchecked(route), shared_subject(route, config), wildcard(route)];
            let own = own.into_iter().chain([common_budget(route, config)]);
            own.flatten().chain(reached(route, &table, &hosts))
        })
        .collect();
    lints.sort_by_key(|lint| (lint.level, lint.name));
    lints
}

fn lint(route: &Route, level: Level, name: &'static str, what: String, cure: impl Into<String>) -> Lint {
    Lint { cure: cure.into(), level, name, route: route.label().to_owned(), what }
}

fn open(route: &Route) -> Option<Lint> {
    let what = "auth = \"none\": anyone may use it".to_owned();
    (route.auth == Auth::None).then(|| {
        lint(route, Level::Note, "open-route", what, "write auth = \"required\" if that is not meant")
    })
}

fn unchecked(route: &Route) -> Option<Lint> {
    let names: Vec<_> = route.path.names().filter(|name| !route.access.binds(name)).collect();
    let what = || format!("whoever may use it may use every {}", shown(&names));
    let cure = "bind it to the claim that says whose it is, if it is anyone's";
    (route.access.unchecked && route.access.policy.is_none() && route.auth == Auth::Required)
        .then(|| lint(route, Level::Note, "unchecked-object", what(), cure))
}

/// What needs nobody is charged before it is known who asks, and whether or not anybody may.
fn common_budget(route: &Route, config: &Config) -> Option<Lint> {
    let limits = route.limits.iter().filter_map(|index| config.request_limits.get(*index));
    let mut common = limits.filter(|limit| limit.by.is_of_nobody() && limit.networks.is_empty());
    let name = &common.next()?.name;
    let what = format!("whoever comes can use up {name} for all others: it has one budget for the route");
    let cure =
        "write by = [\"route\", \"source\"] or [\"route\", \"principal\"], or the networks that it is for";
    Some(lint(route, Level::Warning, "common-budget", what, cure))
}

fn shown(names: &[&str]) -> String {
    names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(" and ")
}

/// Two kinds of credentials may give one name to two people. Names of API keys are given here, by whoever makes keys.
fn shared_subject(route: &Route, config: &Config) -> Option<Lint> {
    let by_subject = route.access.bindings.iter().any(|binding| binding.claim.is_subject());
    let is_issuer = |claim: &ClaimPath| matches!(claim.names(), [name] if name == "iss");
    let by_issuer = route.access.claims.iter().any(|rule| is_issuer(&rule.claim));
    let others = named_elsewhere(config);
    if !by_subject || by_issuer || others.is_empty() {
        return None;
    }
    let level = if others.len() > 1 { Level::Warning } else { Level::Note };
    let what =
        format!("objects are bound to \"sub\", which {} and the names of API keys can be", others.join(", "));
    let cure = "write claims = { iss = \"the issuer whose subjects these are\" }, unless all of them name the same people";
    Some(lint(route, level, "shared-subject", what, cure))
}

/// Who names subjects, besides whoever makes API keys.
fn named_elsewhere(config: &Config) -> Vec<String> {
    let issuer = |issuer: &Issuer| match &*issuer.name {
        OWN_ISSUER => "those of the built-in issuer".to_owned(),
        name => format!("those of issuer {name}"),
    };
    let authenticates = |listener: &Listener| {
        listener.client_certificates.as_ref().is_some_and(|certificates| certificates.authenticates.is_some())
    };
    let certificates = config.listeners.iter().any(authenticates);
    let certificates = certificates.then(|| "the names in client certificates".to_owned());
    config.issuers.iter().map(issuer).chain(certificates).collect()
}

/// Scopes are compared as they stand.
fn wildcard(route: &Route) -> Option<Lint> {
    let access = &route.access;
    let mut scopes = route.scopes.iter().chain(&access.any_scopes).chain(&access.unless_scopes);
    let scope = scopes.find(|scope| scope.contains('*'))?;
    let what = format!("\"{scope}\" stands for itself alone, not for scopes that begin so");
    Some(lint(
        route,
        Level::Warning,
        "wildcard-scope",
        what,
        "name each scope that is meant, in any_scopes if one is enough",
    ))
}

/// Which requests one would think it to be for, and where they go.
fn reached(route: &Route, table: &RouteTable, hosts: &[String]) -> Vec<Lint> {
    let mut found: Vec<Lint> = Vec::new();
    let samples = samples(route, hosts);
    let taker = |sample: &Sample| {
        let matched = table.find(&sample.host, &sample.method, &sample.path).ok()?;
        (matched.route != route).then_some(matched.route)
    };
    let own = samples.iter().filter(|sample| sample.kind != Kind::Slash);
    let takers: Vec<_> = own.map(|sample| (sample, taker(sample))).collect();
    if let Some((_, Some(other))) = takers.first()
        && takers.iter().all(|(_, taker)| taker.is_some())
    {
        let what = format!("no request reaches it: route {} takes them", other.label());
        found.push(lint(
            route,
            Level::Warning,
            "unreachable-route",
            what,
            "take it out, or make its path or its hosts more specific",
        ));
        return found;
    }
    for sample in &samples {
        let Some(other) = taker(sample) else { continue };
        let Some(lacking) = lacking(route, other) else { continue };
        let (name, cure) = match sample.kind {
            Kind::Slash => (
                "trailing-slash",
                "give the route of the other path what this one asks for, or write a prefix",
            ),
            Kind::Own => (
                "laxer-route",
                "give that route what this one asks for, or write this path as match = \"exact\" or as a template",
            ),
        };
        if !found.iter().any(|lint| lint.name == name) {
            let what = format!("{} goes to route {}, which {lacking}", sample.shown, other.label());
            found.push(lint(route, Level::Warning, name, what, cure));
        }
    }
    found
}

/// What `route` asks for and `other` does not.
fn lacking(route: &Route, other: &Route) -> Option<String> {
    if route.auth == Auth::None {
        return None;
    }
    if other.auth == Auth::None {
        return Some("asks for no credential".to_owned());
    }
    let scope = route.scopes.iter().find(|scope| !other.scopes.contains(scope));
    let claim = route.access.claims.iter().find(|rule| !other.access.claims.contains(rule));
    if let Some(scope) = scope {
        return Some(format!("does not ask for the scope \"{scope}\""));
    }
    if let Some(rule) = claim {
        return Some(format!("does not ask for the claim \"{}\"", rule.claim));
    }
    let decides = |route: &Route| !route.access.bindings.is_empty() || route.access.policy.is_some();
    if let Some(policy) = &route.access.policy
        && other.access.policy.is_none()
    {
        return Some(format!("does not ask the policy {policy}"));
    }
    (decides(route) && !decides(other)).then(|| "binds no object to a claim".to_owned())
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// One that the route's pattern is for.
    Own,
    /// One with a slash more at its end, which servers often read as the same path.
    Slash,
}

struct Sample {
    host: String,
    kind: Kind,
    method: Method,
    path: String,
    /// The path, with the host if that is one of other routes.
    shown: String,
}

/// Of each host that it is for, as far as any route names it, and of each method.
fn samples(route: &Route, hosts: &[String]) -> Vec<Sample> {
    let own = route.hosts.iter().map(host).collect::<Vec<_>>();
    let own = if own.is_empty() { vec![format!("{ANY_HOST}.invalid")] } else { own };
    let others: Vec<_> =
        hosts.iter().filter(|host| !own.contains(host) && is_for(route, host)).cloned().collect();
    // A method that nobody names, for a route of all.
    let any = || vec![Method::from_bytes(b"ANY").unwrap_or_default()];
    let methods = if route.methods.is_empty() { any() } else { route.methods.clone() };
    let mut samples = Vec::new();
    for (place, host) in own.iter().chain(&others).enumerate() {
        for method in &methods {
            samples.extend(paths(&route.path).into_iter().map(|(kind, path)| {
                let shown = if place < own.len() { path.clone() } else { format!("{host}{path}") };
                Sample { host: host.clone(), kind, method: method.clone(), path, shown }
            }));
        }
    }
    samples
}

/// A host that a pattern is for.
fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Under(name) => format!("{ANY_HOST}.{name}"),
    }
}

fn is_for(route: &Route, host: &str) -> bool {
    let covers = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Under(name) => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
    };
    route.hosts.is_empty() || route.hosts.iter().any(covers)
}

fn paths(pattern: &PathPattern) -> Vec<(Kind, String)> {
    match pattern {
        PathPattern::Exact(path) if path.ends_with('/') => vec![(Kind::Own, path.clone())],
        PathPattern::Exact(path) => vec![(Kind::Own, path.clone()), (Kind::Slash, format!("{path}/"))],
        PathPattern::Prefix(path) => {
            let under = path.trim_end_matches('/');
            let (own, below) = (path.clone(), format!("{under}/{ANY}"));
            vec![(Kind::Own, below.clone()), (Kind::Own, format!("{below}/{ANY}")), (Kind::Own, own)]
        }
        PathPattern::Template(template) => {
            let path = filled(template);
            let slash = format!("{path}/");
            vec![(Kind::Own, path), (Kind::Slash, slash)]
        }
    }
}

fn filled(template: &Template) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        Segment::Parameter(_) => format!("/{ANY}"),
        Segment::Rest(_) => format!("/{ANY}/{ANY}"),
    };
    template.0.iter().map(segment).collect()
}
