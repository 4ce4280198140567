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
use crate::config::Config;
use crate::connections::Connection;
use crate::explain::Trail;
use crate::identity::Identity;
use crate::issuers::MissingKey;
use crate::judge::{Case, Judge};
use crate::ladder::Offence;
use crate::limits::{Charge, SourceDebts, Standing};
use crate::refusal::Refusal;

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

/// Judges every test of a table by a configuration.
///
/// # Errors
/// The table can't be used as it stands.
pub fn run(config: Config, table: &Table) -> Result<Vec<Outcome>, TableError> {
    let config = Arc::new(config);
    let judge = Judge::new(Arc::clone(&config), Arc::new(Nobody), Arc::new(Nobody));
    let people = table.people(&config)?;
    let outcome = |(index, test): (usize, &Test)| {
        let number = index + 1;
        let identity = test.who.as_ref().and_then(|name| people.get(name.as_str())).cloned();
        let request = test.request(number)?;
        let got = judged(&judge, &request, test, identity);
        // Without a word about the route, any will do.
        let route = test.route.clone().or_else(|| got.route.clone());
        let expected = Expected { decision: test.expect.clone(), route };
        Ok(Outcome { ok: got == expected, expected, got, number, request: test.to_string() })
    };
    table.tests().iter().enumerate().map(outcome).collect()
}

fn judged(judge: &Judge, request: &Parts, test: &Test, identity: Option<Arc<Identity>>) -> Expected {
    let now = Now { monotonic: Monotonic(0), unix: test.time.map_or_else(UnixTime::now, UnixTime) };
    let canonical = match judge.canonical(request, None) {
        Ok(canonical) => canonical,
        Err(refusal) => return Expected { decision: refusal.name().to_owned(), route: None },
    };
    let (headers, method, source) = (&request.headers, &request.method, test.source());
    let (standing, trail) = (&Standing::default(), &Trail::default());
    let case = Case { canonical: &canonical, headers, method, now, open: None, source, standing, trail };
    let (route, decided) = judge.decision(&case, identity);
    let decision = decided.map_or_else(|refusal| refusal.name(), |()| table::ALLOW);
    Expected { decision: decision.to_owned(), route: route.map(|route| route.label().to_owned()) }
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

    fn goes_on(&self, _: &Connection, _: Monotonic) {}

    fn is_banned(&self, _: IpAddr) -> bool {
        false
    }

    fn offend(&self, _: IpAddr, _: Offence, _: Monotonic) {}
}
