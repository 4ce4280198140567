//! Requests that are judged without an agent: a table of who asks for what, and of what is to come of it.
//!
//! They go through the judge that the agent has, from the one form of the request to whose the object is. Credentials are
//! not verified: the table says what they claim.

mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use serde::Serialize;

use self::table::Test;
pub use self::table::{Expected, Table, TableError};
use crate::authenticate::{Denied, Guess, Verify};
use crate::clock::{Monotonic, Now, UnixTime};
use crate::config::{Config, Route};
use crate::connections::Connection;
use crate::explain::Trail;
use crate::headers;
use crate::identity::Identity;
use crate::issuers::MissingKey;
use crate::judge::{Case, Judge};
use crate::ladder::Offence;
use crate::limits::{Charge, SourceDebts, Standing};
use crate::policy::Policies;
use crate::refusal::Refusal;
use crate::request::Canonical;

/// A configuration and a table: a postal service whose customers read their own mail.
pub const POSTAL_SERVICE: (&str, &str) = (
    include_str!("trial/examples/postal-service.toml"),
    include_str!("trial/examples/postal-service.test.toml"),
);

/// What came of one test.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// What was to come of it.
    pub expected: Expected,
    /// What did.
    pub got: Expected,
    /// Its place in the table, from 1 on.
    pub number: usize,
    /// Whether the two are the same.
    pub ok: bool,
    /// The request, with who sent it.
    pub request: String,
}

/// A table, ready to be judged by a configuration.
pub struct Trial {
    cases: Vec<Prepared>,
    judge: Judge,
}

/// A request that has one form, or why it has none.
struct Prepared {
    canonical: Result<Canonical, Refusal>,
    expected: Expected,
    identity: Option<Arc<Identity>>,
    now: Now,
    request: Parts,
    shown: String,
    source: IpAddr,
}

impl Trial {
    /// Of every test of a table.
    ///
    /// # Errors
    /// The table can't be used as it stands.
    pub fn new(config: Config, policies: Policies, table: &Table) -> Result<Self, TableError> {
        let people = table.people(&config)?;
        let judge = Judge::new(Arc::new(config), Arc::new(Nobody), Arc::new(Nobody)).with_policies(policies);
        let prepared = |(index, test): (usize, &Test)| {
            let request = test.request(index + 1)?;
            Ok(Prepared {
                canonical: judge.canonical(&request, None),
                expected: Expected { decision: test.expect.clone(), route: test.route.clone() },
                identity: test.who.as_ref().and_then(|name| people.get(name.as_str())).cloned(),
                now: Now { monotonic: Monotonic(0), unix: test.time.map_or_else(UnixTime::now, UnixTime) },
                request,
                shown: test.to_string(),
                source: test.source(),
            })
        };
        let cases = table.tests().iter().enumerate().map(prepared).collect::<Result<_, TableError>>()?;
        Ok(Self { cases, judge })
    }

    /// What comes of each test.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |(index, case): (usize, &Prepared)| {
            let (route, decided) = self.decided(case);
            let decision = decided.map_or_else(|refusal| refusal.name(), |()| table::ALLOW).to_owned();
            let got = Expected { decision, route: route.map(|route| route.label().to_owned()) };
            let mut expected = case.expected.clone();
            // Without a word about the route, any will do.
            expected.route = expected.route.or_else(|| got.route.clone());
            Outcome { ok: got == expected, expected, got, number: index + 1, request: case.shown.clone() }
        };
        self.cases.iter().enumerate().map(outcome).collect()
    }

    /// Judges the first test, and says whether its request would go through.
    pub fn allows_first(&self) -> bool {
        self.cases.first().is_some_and(|case| self.decided(case).1.is_ok())
    }

    fn decided(&self, case: &Prepared) -> (Option<&Route>, Result<(), Refusal>) {
        let canonical = match &case.canonical {
            Ok(canonical) => canonical,
            Err(refusal) => return (None, Err(*refusal)),
        };
        let Prepared { identity, now, request, source, .. } = case;
        let (headers, method, trail) = (&request.headers, &request.method, Trail::default());
        let (has_body, open) = (headers::tell_of_a_body(headers), None);
        let (standing, trail) = (&Standing::default(), &trail);
        let case =
            Case { canonical, has_body, headers, method, now: *now, open, source: *source, standing, trail };
        self.judge.decision(&case, identity.clone())
    }
}

/// Knows no credential, and counts nothing.
struct Nobody;

impl Verify for Nobody {
    fn api_key(&self, _: &str, _: IpAddr, _: Now) -> Result<Arc<Identity>, Denied> {
        Err(Refusal::CredentialMissing.into())
    }

    fn missing_key(&self, _: &str, _: Monotonic) -> MissingKey {
        MissingKey::Absent
    }

    fn unrevoked(&self, _: &Identity, _: UnixTime) -> Result<(), Refusal> {
        Ok(())
    }

    fn token(&self, _: &str, _: UnixTime, _: &Trail) -> Result<Arc<Identity>, Denied> {
        Err(Refusal::CredentialMissing.into())
    }
}

impl SourceDebts for Nobody {
    fn auth_failure_debt(&self, _: IpAddr, _: Monotonic) -> Charge {
        Charge::Within
    }

    fn authenticated(&self, _: IpAddr, _: Monotonic) {}

    fn charge_auth_failure(&self, _: IpAddr, _: Monotonic) -> Charge {
        Charge::Within
    }

    fn charge_guess(&self, _: IpAddr, _: Guess, _: Monotonic) -> Charge {
        Charge::Within
    }

    fn charge_request(&self, _: IpAddr, _: Monotonic) -> Charge {
        Charge::Within
    }

    fn enumeration_debt(&self, _: IpAddr, _: &Identity, _: Monotonic) -> Charge {
        Charge::Within
    }

    fn foreign_object(&self, _: IpAddr, _: &Identity, _: u64, _: Monotonic) -> Charge {
        Charge::Within
    }

    fn goes_on(&self, _: IpAddr, _: &Identity, _: Option<&Connection>, _: Monotonic) {}

    fn is_banned(&self, _: IpAddr) -> bool {
        false
    }

    fn offend(&self, _: IpAddr, _: Offence, _: Monotonic) {}
}
