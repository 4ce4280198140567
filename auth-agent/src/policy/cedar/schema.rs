//! The schema that comes of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use http::Method;

use crate::config::{Policy, PolicyClaim, Route};

/// What a route takes that names no methods, as far as policies are concerned.
const USUAL: [Method; 7] =
    [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT];

/// The kinds of principals, by how they authenticated.
pub(super) const PRINCIPALS: [&str; 3] = ["ApiKey", "Certificate", "Token"];

/// The methods that a route has actions for.
pub(super) fn methods(route: &Route) -> Vec<Method> {
    let mut methods = route.methods.clone();
    if methods.is_empty() {
        return USUAL.to_vec();
    }
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        methods.push(Method::HEAD);
    }
    methods
}

/// The name of what is done on a route.
pub(super) fn action(method: &Method, route: &Route) -> String {
    format!("{method} {}", route.label())
}

/// The schema for the policies that these routes name.
pub(super) fn text(policy: &Policy, routes: &[&Route]) -> String {
    let claim = |claim: &PolicyClaim| format!("    {}?: {},\n", quoted(&claim.attribute), claim.kind.name());
    let claims: String = policy.claims.iter().map(claim).collect();
    let principal = "    claims: Claims,\n    client?: String,\n    issuer?: String,\n    subject: String,\n    tenant?: String,\n";
    format!(
        "type Claims = {{\n{claims}}};\nentity {} = {{\n{principal}}};\nentity Object = {{\n{}}};\n{}",
        PRINCIPALS.join(", "),
        names(routes),
        actions(routes)
    )
}

/// Each in the groups of its method and of its route.
fn actions(routes: &[&Route]) -> String {
    let all =
        || routes.iter().flat_map(|route| methods(route).into_iter().map(move |method| (*route, method)));
    let labels = routes.iter().map(|route| route.label().to_owned());
    let groups: BTreeSet<_> = labels.chain(all().map(|(_, method)| method.to_string())).collect();
    // Routes of one path that share its methods among them have one label.
    let actions: BTreeMap<_, _> =
        all().map(|(route, method)| (action(&method, route), (route, method))).collect();
    let mut text = String::new();
    for group in &groups {
        // Writing to a string does not fail.
        let _ = writeln!(text, "action {};", quoted(group));
    }
    for (action, (route, method)) in actions {
        // What may be got may be asked about.
        let get = if method == Method::HEAD && groups.contains("GET") { ", \"GET\"" } else { "" };
        let (action, route, method) = (quoted(&action), quoted(route.label()), quoted(method.as_str()));
        let _ =
            writeln!(text, "action {action} in [{route}, {method}{get}] appliesTo {{\n{}}};", applies_to());
    }
    text
}

fn applies_to() -> String {
    let context = "authentication: String, scopes: Set<String>, source: ipaddr, time: Long";
    let principals = PRINCIPALS.join(", ");
    format!("    principal: [{principals}],\n    resource: Object,\n    context: {{ {context} }},\n")
}

/// A name is always there if all routes have it.
fn names(routes: &[&Route]) -> String {
    let all: BTreeSet<_> = routes.iter().flat_map(|route| route.path.names()).collect();
    let optional = |name: &str| !routes.iter().all(|route| route.path.names().any(|other| other == name));
    let line =
        |name: &&str| format!("    {}{}: String,\n", quoted(name), if optional(name) { "?" } else { "" });
    all.iter().map(line).collect()
}

/// As a string of the language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}
