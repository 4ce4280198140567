//! Whether an identity may use a route, and the object that it asks for.

mod cedar;
mod object;
mod query;

use std::sync::Arc;

use http::{HeaderValue, Method};

use self::cedar::Verdict;
pub use self::cedar::{Policies, PolicyError, PolicyFile, PolicyFiles, schema_text};
pub use self::object::Asked;
use crate::clock::UnixTime;
use crate::config::{Auth, Foreign, Route};
use crate::explain::Decider;
use crate::identity::Identity;
use crate::internal_token::InternalTokens;
use crate::limits::Admitted;
use crate::refusal::{Refusal, Refused};
use crate::request::Canonical;
use crate::routes::{Matched, Miss, RouteTable};

/// What frameworks read the method from that a form could not have (Rails, Laravel, Symfony, Express).
const METHOD_PARAMETER: &str = "_method";

/// Leave to forward one request. Only [`authorize`] makes one, from a request that was charged.
#[derive(Debug)]
pub struct Permit<'r> {
    identity: Option<Arc<Identity>>,
    route: &'r Route,
    token: Option<HeaderValue>,
}

impl<'r> Permit<'r> {
    /// Who sent the request; `None` on an open route.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// What proves to the upstream who sent it, where that wants to know it so.
    pub fn token(&self) -> Option<&HeaderValue> {
        self.token.as_ref()
    }

    /// With a token of `tokens` for the upstream.
    ///
    /// # Errors
    /// None could be made.
    pub fn with_token(self, tokens: &InternalTokens, now: UnixTime) -> Result<Self, Refusal> {
        let Some(identity) = &self.identity else { return Ok(self) };
        let token = tokens.token(identity, self.route.upstream, now)?;
        Ok(Self { token, ..self })
    }

    /// Where it goes.
    pub fn route(&self) -> &'r Route {
        self.route
    }

    #[cfg(test)]
    pub(crate) fn of(route: &'r Route, identity: Option<Arc<Identity>>) -> Self {
        Self { identity, route, token: None }
    }
}

/// The route of a request. There is no other way on: what matches no route is refused, and so is what upstreams may take
/// for a request of another method, where that would have had another route. (Header fields that say so are stripped from
/// all requests.)
pub fn route<'t, 'p>(
    routes: &'t RouteTable,
    method: &Method,
    request: &'p Canonical,
) -> Result<Matched<'t, 'p>, Refused<'t>> {
    let matched = routes.find(request.host_name(), method, request.path()).map_err(|miss| match miss {
        Miss::Method { allow } => Refused { allow: Some(allow), ..Refusal::MethodNotAllowed.into() },
        Miss::Path => Refusal::RouteNotFound.into(),
    })?;
    // Policies are told the method.
    let by_method = matched.by_method || matched.route.access.policy.is_some();
    let overridden = || request.query().is_some_and(|query| query::mentions(query, METHOD_PARAMETER));
    if by_method && overridden() { Err(Refusal::MethodAmbiguous.into()) } else { Ok(matched) }
}

/// Checks that the route is open, or that `identity` has the scopes and claims that it needs, that every object that is
/// `asked` for is its own, and that the policies which the route names permit it.
pub fn authorize<'r>(
    _charged: Admitted,
    route: &'r Route,
    policies: &Policies,
    identity: Option<Arc<Identity>>,
    asked: &Asked<'_>,
) -> Result<Permit<'r>, Refused<'r>> {
    if route.auth == Auth::Required {
        let identity = identity.as_ref().ok_or(Refusal::CredentialMissing)?;
        check_scopes(route, identity).inspect_err(|refused| {
            asked.trail.decided_by(Decider::Scope, refused.scopes.join(" "));
        })?;
        check_claims(route, identity, asked)?;
        check_objects(route, identity, asked)?;
        check_policies(route, policies, identity, asked)?;
    }
    Ok(Permit { identity, route, token: None })
}

fn check_claims(route: &Route, identity: &Identity, asked: &Asked<'_>) -> Result<(), Refusal> {
    match route.access.claims.iter().find(|rule| !object::holds(rule, identity)) {
        None => Ok(()),
        Some(rule) => {
            asked.trail.decided_by(Decider::Claim, rule.claim.to_string());
            Err(if identity.knows_claim(&rule.claim) {
                Refusal::ClaimMismatch
            } else {
                Refusal::ClaimsUnread
            })
        }
    }
}

fn check_objects(route: &Route, identity: &Identity, asked: &Asked<'_>) -> Result<(), Refusal> {
    // The last word is a policy's, where there is one.
    match object::is_own(&route.access, identity, asked)? {
        true => Ok(()),
        // Nobody asked for what is not theirs, as far as is known.
        false if !object::is_known(&route.access, identity) => Err(Refusal::ClaimsUnread),
        false => Err(Refusal::ObjectForeign { hidden: route.access.foreign == Foreign::NotFound }),
    }
}

fn check_policies(
    route: &Route,
    policies: &Policies,
    identity: &Arc<Identity>,
    asked: &Asked<'_>,
) -> Result<(), Refusal> {
    let Some(name) = &route.access.policy else { return Ok(()) };
    object::refuse_ambiguous(asked)?;
    let (verdict, hidden) =
        (policies.decide(name, route, identity, asked), route.access.foreign == Foreign::NotFound);
    match &verdict {
        Verdict::Denied(Some(id)) => asked.trail.decided_by(Decider::Policy, format!("{name}/{id}")),
        _ => asked.trail.decided_by(Decider::Policy, Arc::clone(name)),
    }
    match verdict {
        Verdict::Allowed => Ok(()),
        Verdict::Denied(_) => Err(Refusal::PolicyDenied { hidden }),
        Verdict::Failed => Err(Refusal::PolicyFailed),
        Verdict::Unread => Err(Refusal::ClaimsUnread),
    }
}

fn check_scopes<'r>(route: &'r Route, identity: &Identity) -> Result<(), Refused<'r>> {
    let has = |scope: &String| object::has_scope(identity, std::slice::from_ref(scope));
    let any_scopes = &route.access.any_scopes;
    let lacking = if !route.scopes.iter().all(has) {
        &route.scopes
    } else if !any_scopes.is_empty() && !object::has_scope(identity, any_scopes) {
        any_scopes
    } else {
        return Ok(());
    };
    Err(Refused { scopes: lacking, ..Refusal::ScopeMissing.into() })
}

/// Whether it is decided by whose the object is who may use a route.
pub fn decides_about_objects(route: &Route) -> bool {
    !route.access.bindings.is_empty() || route.access.policy.is_some()
}

/// What tells the object that is asked for from others, for counting those that are foreign.
pub fn object_hash(route: &Route, asked: &Asked<'_>) -> u64 {
    object::hash(route.label(), &route.access, asked)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::HeaderMap;

    use super::*;
    use crate::clock::Monotonic;
    use crate::explain::Trail;
    use crate::identity::Method;
    use crate::identity::tests::someone;
    use crate::limits;
    use crate::routes::Captures;

    fn outcome(auth: Auth, needed: &[&str], held: Option<&[&str]>) -> Option<Refusal> {
        let route = Route::under("/", auth, needed, 0);
        let identity = held.map(|held| someone(Method::Jwt, "alice", held));
        let source = IpAddr::from([192, 0, 2, 1]);
        let admitted = limits::admit(&limits::tests::Fake::new(1, 1), source, Monotonic(0)).unwrap();
        let (captures, headers, trail) = (Captures::default(), HeaderMap::new(), Trail::default());
        let asked = Asked {
            captures: &captures,
            has_body: false,
            headers: &headers,
            method: &http::Method::GET,
            now: UnixTime(0),
            path: "/",
            query: None,
            source,
            trail: &trail,
        };
        authorize(admitted, &route, &Policies::default(), identity, &asked)
            .err()
            .map(|refused| refused.refusal)
    }

    #[test]
    fn a_guarded_route_needs_an_identity_with_every_scope() {
        use Auth::{None as Open, Required};
        for (auth, needed, held, expected) in [
            (Required, &[][..], Some(&[][..]), None),
            (Required, &["a"], Some(&["a"]), None),
            (Required, &["a", "b"], Some(&["b", "c", "a"]), None),
            (Required, &["a", "b"], Some(&["a"]), Some(Refusal::ScopeMissing)),
            (Required, &["a"], Some(&["A"]), Some(Refusal::ScopeMissing)),
            (Required, &["a"], Some(&["a b"]), Some(Refusal::ScopeMissing)),
            (Required, &["a"], Some(&[]), Some(Refusal::ScopeMissing)),
            (Required, &[], None, Some(Refusal::CredentialMissing)),
            (Open, &[], None, None),
        ] {
            assert_eq!(outcome(auth, needed, held), expected, "{auth:?} {needed:?} {held:?}");
        }
    }
}
