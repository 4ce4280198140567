//! `[[route]]`

mod access;
mod clashes;
mod headers;

use std::collections::BTreeSet;
use std::sync::Arc;

use http::HeaderName;

use self::clashes::Clashes;
use self::headers::Direction;
use crate::config::defaults::{DAY, MILLISECOND};
use crate::config::document::{Checked, Section, shown, wrong};
use crate::config::values::{self, Match};
use crate::config::{
    ClaimPath, PathPattern, Policy, Retries, Rewrite, Route, RouteTimeouts, Sizes, Template, Timeouts, route,
};
use crate::routes::RouteTable;

/// More tries than this only multiply what an upstream in trouble has to bear.
const MAX_ATTEMPTS: u32 = 5;

/// A literal segment takes one step, as does a name; where both may stand, both are tried.
const MAX_STEPS: usize = 512;

/// What routes are read against.
pub(super) struct Given<'g> {
    /// Names of header fields that say who sent the request, or prove it.
    pub identity: &'g [&'g HeaderName],
    /// The names of all policies, also of those with a problem.
    pub policies: &'g [String],
    /// The field of a request's id.
    pub request_id: Option<&'g HeaderName>,
    pub sizes: &'g Sizes,
    pub timeouts: &'g Timeouts,
    /// The names of all upstreams, also of those with a problem, so that routes to them have none.
    pub upstreams: &'g [String],
}

/// `[[route]]`
pub(super) fn routes(sections: Vec<Section<'_>>, given: &Given<'_>) -> Vec<Route> {
    let mut clashes = Clashes::default();
    sections.into_iter().filter_map(|section| route(section, given, &mut clashes)).collect()
}

/// The claims that tokens are to be asked for.
pub(super) fn kept_claims(routes: &[Route], policies: &[Policy]) -> Arc<[ClaimPath]> {
    let named = routes.iter().flat_map(|route| route.access.named_claims());
    let seen = policies.iter().flat_map(|policy| &policy.claims).map(|claim| &claim.claim);
    let named = named.chain(seen);
    let sorted: BTreeSet<_> = named.filter(|claim| !claim.is_subject()).cloned().collect();
    sorted.into_iter().collect()
}

/// Whether every path finds its route soon, whatever clients make up.
pub(super) fn are_quick_to_find(routes: &[Route]) -> Checked<()> {
    match RouteTable::new(routes).template_steps() {
        Some(steps) if steps.get() > MAX_STEPS => wrong(
            format!(
                "the templates overlap so much that a path may be held against {steps} of their segments"
            ),
            format!("write literal segments in place of some names until it is at most {MAX_STEPS}"),
        ),
        _ => Ok(()),
    }
}

fn route(mut section: Section<'_>, given: &Given<'_>, clashes: &mut Clashes) -> Option<Route> {
    let path = path(&mut section);
    let hosts =
        section.filled_list("hosts", values::host, "hosts = [\"api.example.com\"], or no hosts for any");
    let methods =
        section.filled_list("methods", values::method, "methods = [\"GET\"], or no methods for any");
    let auth =
        section.required("auth", values::auth, r#"auth = "required", or auth = "none" to let everyone in"#);
    let scopes = section.list("scopes", values::scope).unwrap_or_default();
    let access = access::access(&mut section, given);
    let upstream = upstream(&mut section, given.upstreams);
    let rewrite = rewrite(&mut section, path.as_ref());
    let timeouts = timeouts(section.section("timeouts"), given.timeouts);
    let body_bytes = section.or("body_bytes", values::bytes(0..=1 << 40), given.sizes.body_bytes);
    let retries = retries(section.section("retries"));
    let request_headers =
        headers::changes(section.section("request_headers"), Direction::Request, given.identity);
    let response_headers =
        headers::changes(section.section("response_headers"), Direction::Response, given.identity);
    let upgrades = section.list("upgrades", values::upgrade).unwrap_or_else(|| vec!["websocket".to_owned()]);
    let (hosts, methods) = (hosts.unwrap_or_default(), methods.unwrap_or_default());
    access::check(&mut section, auth, path.as_ref(), &access, &request_headers);
    let name = section.optional("name", values::name);
    if let Some(path) = &path {
        clashes.check(&section, &hosts, path, &methods);
    }
    clashes.check_name(&section, name.as_deref());
    section.finish();
    let path = path?;
    let label = name.map_or_else(|| route::label(&hosts, &path), Into::into);
    Some(Route {
        access,
        auth: auth?,
        body_bytes,
        hosts,
        label,
        limits: Vec::new(),
        methods,
        path,
        request_headers,
        response_headers,
        retries,
        rewrite,
        scopes,
        timeouts,
        upgrades,
        upstream: upstream?,
    })
}

fn path(section: &mut Section<'_>) -> Option<PathPattern> {
    let write = r#"path = "/api""#;
    match section.or("match", values::path_match, Match::Prefix) {
        Match::Exact => section.required("path", values::exact_path, write).map(PathPattern::Exact),
        Match::Prefix => section.required("path", values::route_path, write).map(PathPattern::Prefix),
        Match::Template => section.required("path", values::template, write).map(PathPattern::Template),
    }
}

fn upstream(section: &mut Section<'_>, upstreams: &[String]) -> Option<usize> {
    let write = format!("upstream = {}", choices(upstreams));
    let wanted = section.required("upstream", values::text, &write)?;
    let index = upstreams.iter().position(|name| *name == wanted);
    if index.is_none() {
        let what = format!("there is no upstream \"{}\"", shown(&wanted));
        section.check("upstream", wrong(what, format!("write {}", choices(upstreams))));
    }
    index
}

fn choices(upstreams: &[String]) -> String {
    if upstreams.is_empty() { "the name of an [[upstream]]".to_owned() } else { named(upstreams) }
}

fn named(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ")
}

fn rewrite(section: &mut Section<'_>, path: Option<&PathPattern>) -> Option<Rewrite> {
    let mut inner = section.section("rewrite");
    if !inner.is_present() {
        return None;
    }
    let both = inner.has("prefix") && inner.has("path");
    let neither = !inner.has("prefix") && !inner.has("path");
    let prefix = inner.optional("prefix", values::route_path).map(Rewrite::Prefix);
    let whole = inner.optional("path", values::template).map(Rewrite::Path);
    inner.finish();
    if both || neither {
        let cure = "write prefix for a route of a prefix, path for any other";
        section.check("rewrite", wrong("not exactly one of prefix and path", cure));
    }
    let rewrite = prefix.or(whole)?;
    section.check("rewrite", fits(path?, &rewrite));
    Some(rewrite)
}

/// Whether the route's path has all that the other one is made of.
fn fits(path: &PathPattern, rewrite: &Rewrite) -> Checked<()> {
    match (path, rewrite) {
        (PathPattern::Prefix(_), Rewrite::Prefix(_)) => Ok(()),
        (PathPattern::Prefix(_), Rewrite::Path(_)) => wrong(
            "all paths of a prefix would become one",
            "write prefix, or give the route match = \"template\" or \"exact\"",
        ),
        (_, Rewrite::Prefix(_)) => wrong("the route's path is no prefix", "write path"),
        (PathPattern::Exact(_), Rewrite::Path(template)) => has_names(template, &Template(Vec::new())),
        (PathPattern::Template(names), Rewrite::Path(template)) => has_names(template, names),
    }
}

fn has_names(template: &Template, given: &Template) -> Checked<()> {
    use crate::config::Segment::{Literal, Parameter, Rest};
    let strange = template.0.iter().find(|segment| match segment {
        Literal(_) => false,
        Parameter(name) => !given.0.contains(&Parameter(name.clone())),
        Rest(name) => !given.0.contains(&Rest(name.clone())),
    });
    match strange {
        None => Ok(()),
        Some(segment) => {
            let segment = Template(vec![segment.clone()]).to_string();
            wrong(
                format!("{} is not in the route's path", &segment[1..]),
                "use the names that stand there, as they stand there",
            )
        }
    }
}

fn timeouts(mut section: Section<'_>, given: &Timeouts) -> RouteTimeouts {
    let default = RouteTimeouts::within(given);
    let timeouts = RouteTimeouts {
        response: section.or("response", values::duration(MILLISECOND..=DAY), default.response),
        body_idle: section.or("body_idle", values::duration(MILLISECOND..=DAY), default.body_idle),
        request: section.optional("request", values::duration(MILLISECOND..=DAY)).or(default.request),
    };
    section.finish();
    timeouts
}

fn retries(mut section: Section<'_>) -> Retries {
    let default = Retries::default();
    let retries = Retries {
        attempts: section.optional("attempts", values::small(MAX_ATTEMPTS)).unwrap_or(default.attempts),
        statuses: section.list("statuses", values::retried_status).unwrap_or(default.statuses),
    };
    if retries.attempts == 0 && !retries.statuses.is_empty() {
        section.check(
            "statuses",
            wrong("no second try, as attempts is 0", "write a number from 1 on, or take them out"),
        );
    }
    section.finish();
    retries
}
