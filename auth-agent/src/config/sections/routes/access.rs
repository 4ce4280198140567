//! Who may use a route, and which of its objects.

use std::sync::Arc;

use http::HeaderName;
use toml::de::DeValue;

use super::{Given, named};
use crate::config::document::{Checked, Section, shown, wrong};
use crate::config::{Access, Auth, Binding, Foreign, HeaderChanges, Part, PathPattern, values};
use crate::headers::{is_spelling_of, says_where_it_came_from};

/// Fields that ask something of a credential: of no use where nobody needs one.
const OF_CREDENTIALS: [&str; 9] = [
    "scopes",
    "any_scopes",
    "claims",
    "bind",
    "bind_query",
    "bind_headers",
    "policy",
    "unless_scope",
    "unless_claims",
];

/// What the fields of a route say about access.
pub(super) fn access(section: &mut Section<'_>, given: &Given<'_>) -> Access {
    let any_scopes = section.list("any_scopes", values::scope);
    let path = |name: &str, claim: &DeValue<'_>| bound(values::template_name(name)?, claim, Part::Path);
    let query = |name: &str, claim: &DeValue<'_>| bound(values::query_name(name)?, claim, Part::Query);
    let header = |name: &str, claim: &DeValue<'_>| {
        let name = values::header(&DeValue::String(name.into()))?;
        is_from_clients(&name, given)?;
        bound(name, claim, Part::Header)
    };
    let mut bindings = section.entries("bind", path);
    bindings.extend(section.entries("bind_query", query));
    bindings.extend(section.entries("bind_headers", header));
    Access {
        any_scopes: any_scopes.unwrap_or_default(),
        bindings,
        body_unchecked: section.optional("body", values::unchecked).is_some(),
        claims: section.entries("claims", values::claim_rule),
        foreign: section.or("foreign", values::foreign, Foreign::default()),
        policy: policy(section, given.policies),
        unchecked: section.optional("object", values::unchecked).is_some(),
        unless_claims: section.entries("unless_claims", values::claim_rule),
        unless_scopes: section.list("unless_scope", values::scope).unwrap_or_default(),
    }
}

/// Whether the upstream gets a field of that name as the client sent it. Those of one connection have a meaning of their
/// own already.
fn is_from_clients(name: &HeaderName, given: &Given<'_>) -> Checked<()> {
    let is = |ours: &HeaderName| is_spelling_of(name.as_str(), &ours.as_str().replace(['_', '.'], "-"));
    if given.identity.iter().any(|ours| is(ours)) || given.request_id.is_some_and(is) {
        return wrong(format!("{name} is not the client's to send"), "bind another header field");
    }
    if says_where_it_came_from(name.as_str()) {
        let cure = "bind another header field, one that clients send, such as \"x-account\"";
        return wrong(format!("{name} is taken out of all requests, as only proxies may say it"), cure);
    }
    Ok(())
}

fn policy(section: &mut Section<'_>, policies: &[String]) -> Option<Arc<str>> {
    let name = section.optional("policy", values::name)?;
    if policies.contains(&name) {
        return Some(name.into());
    }
    let cure = match policies {
        [] => "write a [[policy]] with that name and its files".to_owned(),
        policies => format!("write {}", named(policies)),
    };
    section.check("policy", wrong(format!("there is no policy \"{}\"", shown(&name)), cure));
    None
}

fn bound<T>(name: T, claim: &DeValue<'_>, part: impl Fn(T) -> Part) -> Checked<Binding> {
    Ok(Binding::new(part(name), values::claim(claim)?))
}

/// What must hold between these fields and the others of the route.
pub(super) fn check(
    section: &mut Section<'_>,
    auth: Option<Auth>,
    path: Option<&PathPattern>,
    access: &Access,
    request_headers: &HeaderChanges,
) {
    if auth == Some(Auth::None) {
        for field in OF_CREDENTIALS {
            let is_there = section.has(field) && !section.is_empty(field);
            let cure = format!("write auth = \"required\", or take {field} out");
            let needless =
                if is_there { wrong("needed of nobody, as auth is \"none\"", cure) } else { Ok(()) };
            section.check(field, needless);
        }
    }
    section.check("bind", stand_in(path, access));
    section.check("bind_headers", are_left_alone(access, request_headers));
    section.check("path", are_decided(auth, path, access));
    section.check("body", is_in_question(access));
    let decides = |field| field == "foreign" && access.policy.is_some();
    if access.bindings.is_empty() {
        for field in ["unless_scope", "unless_claims", "foreign"] {
            let useless = section.has(field) && auth != Some(Auth::None) && !decides(field);
            let cure = format!("write bind = {{ name = \"claim\" }}, or take {field} out");
            section
                .check(field, if useless { wrong("nothing is bound to a claim here", cure) } else { Ok(()) });
        }
    }
}

/// Bodies are refused only where a parameter of the query is bound.
fn is_in_question(access: &Access) -> Checked<()> {
    let in_query = |binding: &Binding| matches!(binding.part, Part::Query(_));
    if access.body_unchecked && !access.bindings.iter().any(in_query) {
        return wrong("no parameter of the query is bound here, and any body may come", "take it out");
    }
    Ok(())
}

/// Whether every name that is bound stands in the path.
fn stand_in(path: Option<&PathPattern>, access: &Access) -> Checked<()> {
    let Some(path) = path else { return Ok(()) };
    let names: Vec<_> = path.names().collect();
    let strange = access.bindings.iter().find_map(|binding| match &binding.part {
        Part::Path(name) if !names.contains(&name.as_str()) => Some(name),
        _ => None,
    });
    match strange {
        None => Ok(()),
        Some(name) => wrong(
            format!("there is no {{{}}} in the path", shown(name)),
            "bind names of a path with match = \"template\"; parameters of the query belong into bind_query",
        ),
    }
}

/// What was compared is what the upstream gets.
fn are_left_alone(access: &Access, changes: &HeaderChanges) -> Checked<()> {
    let changed =
        |name: &HeaderName| changes.remove.contains(name) || changes.set.iter().any(|(set, _)| set == name);
    let strange = access.bindings.iter().find_map(|binding| match &binding.part {
        Part::Header(name) if changed(name) => Some(name),
        _ => None,
    });
    match strange {
        None => Ok(()),
        Some(name) => wrong(
            format!("{name} is changed by request_headers, after it was compared"),
            "take it out of one of the two",
        ),
    }
}

/// Whether something decides about every object that the path names: so that none is open by forgetting.
fn are_decided(auth: Option<Auth>, path: Option<&PathPattern>, access: &Access) -> Checked<()> {
    let (Some(auth), Some(path)) = (auth, path) else { return Ok(()) };
    let open = path.names().find(|name| !access.binds(name));
    match (open, auth) {
        (Some(_), _) if access.unchecked || access.policy.is_some() => Ok(()),
        (Some(name), Auth::None) => wrong(
            format!("{{{name}}} names an object, and auth = \"none\" gives it to anyone"),
            "write object = \"unchecked\" if that is meant, or auth = \"required\"",
        ),
        (Some(name), Auth::Required) => wrong(
            format!("nothing says whose {{{name}}} is"),
            format!(
                "write bind = {{ {name} = \"sub\" }} with the claim that says so, a policy that decides it, or object = \
                 \"unchecked\" if whoever may use the route may have any"
            ),
        ),
        (None, _) if access.unchecked => wrong_unchecked(),
        (None, _) => Ok(()),
    }
}

fn wrong_unchecked() -> Checked<()> {
    wrong("object = \"unchecked\", and every name in the path is bound or there is none", "take it out")
}
