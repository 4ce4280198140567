//! What a route needs of whoever has a valid credential.

use std::sync::Arc;

use http::HeaderName;

use crate::config::ClaimPath;

/// Who may use a route, and which of its objects. Scopes that are all needed are [`Route::scopes`](super::Route::scopes).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Access {
    /// Scopes one of which is needed; empty: none is.
    pub any_scopes: Vec<String>,
    /// `bind`, `bind_query` and `bind_headers`: what in a request names an object, and the claim that says whose it is.
    pub bindings: Vec<Binding>,
    /// `body = "unchecked"`: requests may have a body, although a parameter of the query is bound.
    pub body_unchecked: bool,
    /// Claims that are all needed.
    pub claims: Vec<ClaimRule>,
    /// How a foreign object is answered.
    pub foreign: Foreign,
    /// The policies that decide, too.
    pub policy: Option<Arc<str>>,
    /// `object = "unchecked"`: the names in the path that nothing decides about are whoever's may use the route.
    pub unchecked: bool,
    /// Claims one of which makes all objects its holder's own.
    pub unless_claims: Vec<ClaimRule>,
    /// Scopes one of which makes all objects its holder's own.
    pub unless_scopes: Vec<String>,
}

/// A part of a request that must hold what a claim says, or, where that is a list, one of what it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The claim.
    pub claim: ClaimPath,
    /// The part.
    pub part: Part,
    /// Both, for explanations: `path user_id = sub`.
    pub shown: Arc<str>,
}

impl Binding {
    /// Of a part to a claim.
    pub fn new(part: Part, claim: ClaimPath) -> Self {
        let shown = match &part {
            Part::Header(name) => format!("header {name} = {claim}"),
            Part::Path(name) => format!("path {name} = {claim}"),
            Part::Query(name) => format!("query {name} = {claim}"),
        };
        Self { claim, part, shown: shown.into() }
    }
}

/// Where a request names an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// In this header field.
    Header(HeaderName),
    /// In the place of this name in the route's template.
    Path(String),
    /// In this parameter of the query.
    Query(String),
}

/// A claim that must have one of these values, or, where it is a list, one of them among its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimRule {
    /// The claim.
    pub claim: ClaimPath,
    /// At least one; numbers and booleans as JSON writes them.
    pub values: Vec<String>,
}

/// `route.foreign`: how a request for someone else's object is answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Foreign {
    /// 403, with the reason.
    #[default]
    Forbidden,
    /// 404, as if there were no such route.
    NotFound,
}

impl Access {
    /// Every claim that is named here.
    pub fn named_claims(&self) -> impl Iterator<Item = &ClaimPath> {
        let rules = self.claims.iter().chain(&self.unless_claims).map(|rule| &rule.claim);
        self.bindings.iter().map(|binding| &binding.claim).chain(rules)
    }

    /// Whether a binding says whose the name of a template is.
    pub fn binds(&self, name: &str) -> bool {
        self.bindings.iter().any(|binding| matches!(&binding.part, Part::Path(bound) if bound == name))
    }
}
