//! The routes of one host, by path.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use http::{HeaderValue, Method};

use super::captures::Values;
use super::trie::{Literals, Templates};
use crate::config::{PathPattern, Route};

/// The routes of one host and path, by method.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The methods, sorted, as `Allow` lists them.
    pub allow: HeaderValue,
    /// The route of every method that is not named.
    any: Option<usize>,
    named: Vec<(Method, usize)>,
}

impl Endpoint {
    fn new() -> Self {
        Self { allow: HeaderValue::from_static(""), any: None, named: Vec::new() }
    }

    fn add(&mut self, methods: &[Method], route: usize) {
        if methods.is_empty() {
            self.any = Some(route);
        }
        self.named.extend(methods.iter().map(|method| (method.clone(), route)));
        self.allow = allow(&self.named);
    }

    /// Whether it depends on the method which route a request takes.
    pub fn tells_methods_apart(&self) -> bool {
        !self.named.is_empty()
    }

    /// The route that takes a method.
    pub fn route(&self, method: &Method) -> Option<usize> {
        let named =
            |wanted: &Method| self.named.iter().find(|(method, _)| method == wanted).map(|(_, route)| *route);
        let covered = || if *method == Method::HEAD { named(&Method::GET) } else { None };
        named(method).or_else(covered).or(self.any)
    }
}

/// RFC 9110, 10.2.1.
fn allow(named: &[(Method, usize)]) -> HeaderValue {
    let mut names: Vec<_> = named.iter().map(|(method, _)| method.as_str()).collect();
    if names.contains(&"GET") && !names.contains(&"HEAD") {
        names.push("HEAD");
    }
    names.sort_unstable();
    HeaderValue::try_from(names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Endpoints, and how a path finds one.
#[derive(Debug, Default)]
pub(super) struct Paths {
    endpoints: Vec<Endpoint>,
    exact: HashMap<Box<str>, usize>,
    prefixes: Literals,
    templates: Templates,
}

impl Paths {
    /// Adds the route with this index.
    pub fn add(&mut self, route: &Route, index: usize) {
        let next = self.endpoints.len();
        let endpoint = match &route.path {
            PathPattern::Exact(path) => *self.exact.entry(path.as_str().into()).or_insert(next),
            PathPattern::Prefix(prefix) => self.prefixes.insert(prefix, next),
            PathPattern::Template(template) => self.templates.insert(template, next),
        };
        if endpoint == next {
            self.endpoints.push(Endpoint::new());
        }
        if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
            endpoint.add(&route.methods, index);
        }
    }

    /// The most specific endpoint that covers a canonical path.
    pub fn find<'p>(&self, path: &'p str) -> Option<(&Endpoint, Values<'p>)> {
        let exact = self.exact.get(path).map(|endpoint| (*endpoint, Values::default()));
        let found = exact
            .or_else(|| self.templates.find(path))
            .or_else(|| self.prefixes.longest(path).map(|endpoint| (endpoint, Values::default())));
        let (endpoint, values) = found?;
        Some((self.endpoints.get(endpoint)?, values))
    }

    pub fn template_steps(&self) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.templates.most_steps())
    }
}
