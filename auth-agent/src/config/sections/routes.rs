//! `[[route]]`

use super::Earlier;
use crate::config::document::{Section, shown, wrong};
use crate::config::{Auth, Route, values};

/// `[[route]]`
pub(super) fn routes(root: &mut Section<'_>, upstreams: &[String]) -> Vec<Route> {
    let mut earlier = Earlier::default();
    let sections = root.required_sections("route", "[[route]] with path, auth and upstream");
    sections.into_iter().filter_map(|section| route(section, upstreams, &mut earlier)).collect()
}

fn route(mut section: Section<'_>, upstreams: &[String], earlier: &mut Earlier<String>) -> Option<Route> {
    let path = section.required("path", values::route_path, r#"path = "/api""#);
    let auth =
        section.required("auth", values::auth, r#"auth = "required", or auth = "none" to let everyone in"#);
    let scopes = section.list("scopes", values::scope).unwrap_or_default();
    let upstream = section.required("upstream", values::text, &format!("upstream = {}", choices(upstreams)));
    if let Some(path) = &path {
        earlier.check(&section, "path", path.clone(), String::eq);
    }
    if auth == Some(Auth::None) && !scopes.is_empty() {
        section.check(
            "scopes",
            wrong(
                "needed of nobody, as auth is \"none\"",
                "write auth = \"required\", or take the scopes out",
            ),
        );
    }
    let index = upstream.as_ref().and_then(|wanted| upstreams.iter().position(|name| name == wanted));
    if let (Some(wanted), None) = (&upstream, index) {
        section.check(
            "upstream",
            wrong(
                format!("there is no upstream \"{}\"", shown(wanted)),
                format!("write {}", choices(upstreams)),
            ),
        );
    }
    section.finish();
    Some(Route { auth: auth?, path: path?, scopes, upstream: index? })
}

fn choices(upstreams: &[String]) -> String {
    if upstreams.is_empty() {
        return "the name of an [[upstream]]".to_owned();
    }
    upstreams.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ")
}
