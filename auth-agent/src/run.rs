//! Starting the agent, and ending it: from a configuration to a guarded host.
//!
//! Everything that can be refused is refused before the kernel is touched; the filter is in place before the
//! first connection is accepted, and stays when the agent ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use auth_common::gcra::{self, Limit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::api_key::KeyRing;
use crate::authenticate::Verify;
use crate::clock::{Monotonic, UnixTime};
use crate::config::Config;
use crate::identity::{Identity, Method};
use crate::kernel::Filter;
use crate::limits::{Charge, SourceDebts};
use crate::refusal::Refusal;
use crate::token::Verifier;

/// How long a source counts as known after it authenticated (promise P16): long enough for a client that
/// polls every few minutes, short enough that an address that changes hands is a stranger again.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// What credentials are verified against.
struct Credentials {
    keys: Arc<KeyRing>,
    tokens: Verifier,
}

impl Verify for Credentials {
    fn api_key(&self, key: &str, source: IpAddr, now: UnixTime) -> Result<Identity, Refusal> {
        let record = self.keys.verify(key, source, now)?;
        Ok(Identity::verified(Method::ApiKey, Arc::clone(&record.name), record.scopes.to_vec()))
    }

    fn token(&self, token: &str, now: UnixTime) -> Result<Identity, Refusal> {
        let claims = self.tokens.verify(token, now).map_err(Refusal::Token)?;
        Ok(Identity::verified(Method::Jwt, Arc::clone(claims.subject()), claims.scopes().to_vec()))
    }
}

impl SourceDebts for Filter {
    fn auth_failure_debt(&self, source: IpAddr, now: Monotonic) -> Charge {
        let (limit, _) = self.budgets().auth_failures;
        charge(self.sources().peek(source, |line, _| gcra::peek(&line.auth_failures, now.0, limit)))
    }

    fn authenticated(&self, source: IpAddr, now: Monotonic) {
        let until = now.0.saturating_add(KNOWN_FOR.as_nanos() as u64);
        self.sources().mark_known(source, Monotonic(until));
    }

    fn charge_auth_failure(&self, source: IpAddr, now: Monotonic) -> Charge {
        let (limit, escalation) = self.budgets().auth_failures;
        charge(self.sources().charge(source, now, |line| {
            gcra::charge_escalating(&line.auth_failures, now.0, limit, escalation)
        }))
    }

    fn charge_request(&self, source: IpAddr, now: Monotonic) -> Charge {
        let (limit, escalation) = self.budgets().requests;
        charge(self.sources().charge(source, now, |line| {
            gcra::charge_escalating(&line.requests, now.0, limit, escalation)
        }))
    }
}

fn charge(charge: gcra::Charge) -> Charge {
    match charge {
        gcra::Charge::Over { retry_after } => Charge::Over { retry_after: Duration::from_nanos(retry_after) },
        gcra::Charge::Within => Charge::Within,
    }
}
