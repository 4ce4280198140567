//! Which route a request takes, in a time that does not depend on how many there are.
//!
//! The law: of all routes that cover a request's host and path, the one with the most specific host is taken (a name
//! before a wildcard, a longer wildcard before a shorter one, any host last); among those, the one with the most specific
//! path (an exact one before a template, a template before a prefix, a longer prefix before a shorter one; of two
//! templates the one with a literal where the other has a name, at the first segment where they differ). Only then comes
//! the method: if no route of this very host and path takes it, the request is refused, and no less specific route gets
//! it. What is covered by no route is refused.

mod captures;
mod host;
mod paths;
#[cfg(test)]
mod tests;
mod trie;

use std::collections::HashMap;
use std::num::NonZeroUsize;

use http::{HeaderValue, Method};

pub use self::captures::Captures;
use self::paths::{Endpoint, Paths};
use crate::config::{HostPattern, PathPattern, Rewrite, Route, Template};

/// Routes, compiled.
#[derive(Debug)]
pub struct RouteTable {
    any: Paths,
    exact: HashMap<Box<str>, Paths>,
    routes: Vec<Route>,
    /// By what follows the `*.`.
    wildcards: HashMap<Box<str>, Paths>,
}

/// A route, and what a request's path holds in the places that the route's template names.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'t, 'p> {
    /// Whether another method would have had another route, or none.
    pub by_method: bool,
    /// What the path holds.
    pub captures: Captures<'t, 'p>,
    /// The route.
    pub route: &'t Route,
}

/// Why no route was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Miss<'t> {
    /// Host and path are covered, and the method is not.
    Method {
        /// The methods that are, as `Allow` lists them.
        allow: &'t HeaderValue,
    },
    /// No route covers host and path.
    Path,
}

impl RouteTable {
    /// Compiles routes none of which clash, as the configuration sees to.
    pub fn new(routes: &[Route]) -> Self {
        let mut table = Self {
            any: Paths::default(),
            exact: HashMap::new(),
            routes: routes.to_vec(),
            wildcards: HashMap::new(),
        };
        for (index, route) in routes.iter().enumerate() {
            if route.hosts.is_empty() {
                table.any.add(route, index);
            }
            for host in &route.hosts {
                let (hosts, name) = match host {
                    HostPattern::Exact(name) => (&mut table.exact, name),
                    HostPattern::Under(name) => (&mut table.wildcards, name),
                };
                hosts.entry(name.as_str().into()).or_default().add(route, index);
            }
        }
        table
    }

    /// The route for a request: `host` is a name or an address in any case, without port and brackets; `path` is canonical.
    pub fn find<'t, 'p>(
        &'t self,
        host: &str,
        method: &Method,
        path: &'p str,
    ) -> Result<Matched<'t, 'p>, Miss<'t>> {
        let (endpoint, values) = self.endpoint(host, path).ok_or(Miss::Path)?;
        let index = endpoint.route(method).ok_or(Miss::Method { allow: &endpoint.allow })?;
        let route = self.routes.get(index).ok_or(Miss::Path)?;
        let template = match &route.path {
            PathPattern::Template(template) => Some(template),
            PathPattern::Exact(_) | PathPattern::Prefix(_) => None,
        };
        let by_method = endpoint.tells_methods_apart();
        Ok(Matched { by_method, captures: Captures::new(template, values), route })
    }

    fn endpoint<'t, 'p>(&'t self, host: &str, path: &'p str) -> Option<(&'t Endpoint, captures::Values<'p>)> {
        if !self.exact.is_empty() || !self.wildcards.is_empty() {
            let mut buffer = [0; host::MAX_BYTES];
            if let Some(host) = host::key(host, &mut buffer) {
                let exact = self.exact.get(host).and_then(|paths| paths.find(path));
                let found = exact.or_else(|| {
                    let mut wider = host::parents(host).filter_map(|parent| self.wildcards.get(parent));
                    wider.find_map(|paths| paths.find(path))
                });
                if found.is_some() {
                    return found;
                }
            }
        }
        self.any.find(path)
    }

    /// The largest number of steps that finding a template takes for any path, over all hosts; none without templates.
    pub fn template_steps(&self) -> Option<NonZeroUsize> {
        let hosts = self.exact.values().chain(self.wildcards.values()).chain([&self.any]);
        hosts.filter_map(Paths::template_steps).max()
    }
}

impl Matched<'_, '_> {
    /// The path for the upstream, where it is not `path`, the request's own.
    pub fn rewritten(&self, path: &str) -> Option<String> {
        match (self.route.rewrite.as_ref()?, &self.route.path) {
            (Rewrite::Path(template), _) => Some(self.filled(template)),
            (Rewrite::Prefix(prefix), PathPattern::Prefix(own)) => Some(replaced(path, own, prefix)),
            // No configuration has it.
            (Rewrite::Prefix(_), PathPattern::Exact(_) | PathPattern::Template(_)) => None,
        }
    }

    fn filled(&self, template: &Template) -> String {
        use crate::config::Segment::{Literal, Parameter, Rest};
        let mut path = String::new();
        for segment in &template.0 {
            path.push('/');
            path.push_str(match segment {
                Literal(text) => text,
                Parameter(name) | Rest(name) => self.captures.value(name).unwrap_or_default(),
            });
        }
        path
    }
}

/// `/` stands for no segment at all, on both sides.
fn replaced(path: &str, own: &str, prefix: &str) -> String {
    let rest = if own == "/" { path } else { path.strip_prefix(own).unwrap_or(path) };
    match (prefix, rest) {
        ("/", "") => "/".to_owned(),
        ("/", rest) => rest.to_owned(),
        (prefix, rest) => format!("{prefix}{rest}"),
    }
}
