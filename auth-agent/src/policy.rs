//! Whether an identity may use a route.

use std::sync::Arc;

use http::{HeaderValue, Method};

use crate::clock::UnixTime;
use crate::config::{Auth, Route};
use crate::identity::Identity;
use crate::internal_token::InternalTokens;
use crate::limits::Admitted;
use crate::refusal::{Refusal, Refused};
use crate::request::Canonical;
use crate::routes::{Matched, Miss, RouteTable};

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

/// The route of a request. There is no other way on: what matches no route is refused.
pub fn route<'t, 'p>(
    routes: &'t RouteTable,
    method: &Method,
    request: &'p Canonical,
) -> Result<Matched<'t, 'p>, Refused<'t>> {
    routes.find(request.host_name(), method, request.path()).map_err(|miss| match miss {
        Miss::Method { allow } => Refused { allow: Some(allow), ..Refusal::MethodNotAllowed.into() },
        Miss::Path => Refusal::RouteNotFound.into(),
    })
}

/// Checks that the route is open or `identity` has every scope that it needs.
pub fn authorize<'r>(
    _charged: Admitted,
    route: &'r Route,
    identity: Option<Arc<Identity>>,
) -> Result<Permit<'r>, Refused<'r>> {
    if route.auth == Auth::Required {
        let identity = identity.as_ref().ok_or(Refusal::CredentialMissing)?;
        let has = |scope: &String| identity.scopes().iter().any(|held| **held == **scope);
        if !route.scopes.iter().all(has) {
            return Err(Refused { scopes: &route.scopes, ..Refusal::ScopeMissing.into() });
        }
    }
    Ok(Permit { identity, route, token: None })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::clock::Monotonic;
    use crate::identity::Method;
    use crate::identity::tests::someone;
    use crate::limits;

    fn outcome(auth: Auth, needed: &[&str], held: Option<&[&str]>) -> Option<Refusal> {
        let route = Route::under("/", auth, needed, 0);
        let identity = held.map(|held| someone(Method::Jwt, "alice", held));
        let source = IpAddr::from([192, 0, 2, 1]);
        let admitted = limits::admit(&limits::tests::Fake::new(1, 1), source, Monotonic(0)).unwrap();
        authorize(admitted, &route, identity).err().map(|refused| refused.refusal)
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
