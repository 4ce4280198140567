//! `/v1/revocations`: revoking, and ending at once what goes on with what was revoked.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use tokio::runtime::Handle;

use super::body::SecretBody;
use super::messages::{Ended, RevocationEntry, RevocationList, RevocationQuery, Revoke, Revoked};
use super::problem::Problem;
use super::{Control, blocking, remark};
use crate::api_key::KeyId;
use crate::clock::{Monotonic, UnixTime};
use crate::config::{LONGEST_LEEWAY, LONGEST_TOKEN};
use crate::connections::End;
use crate::edge::Flow;
use crate::identity::TokenHash;
use crate::revocation::{Mark, Revocation, Target};
use crate::store::{MAX_REVOCATIONS, StoredRevocation};
use crate::token::TokenError;

/// What one request may revoke.
const MOST_AT_ONCE: usize = 10_000;

/// Bytes of a name.
const NAME_BYTES: usize = 255;

/// Entries of one answer.
const LISTED: usize = 1_000;
const MOST_LISTED: usize = 100_000;

/// How long the kernel drops what still comes of a condemned connection: long enough for every segment that is on its
/// way (RFC 9293 3.4.1 would wait longer), short enough for a client that takes the same port again.
const DROPPED_FOR: Duration = Duration::from_secs(30);

/// What is over by a clock that was set less than so long ago may not be over.
pub(super) const STEADY_FOR: Duration = Duration::from_secs(3_600);

/// How far ahead a time may lie: a clock may be off. Milliseconds in place of seconds lie further.
const AHEAD: Duration = LONGEST_LEEWAY;

pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    SecretBody(request): SecretBody<Revoke>,
) -> Result<(StatusCode, Json<Revoked>), Problem> {
    blocking(control, move |control| {
        let now = UnixTime::now();
        let Revoke { before, reason, targets, tokens } = request;
        let reason = remark("reason", reason)?;
        let wanted = control.wanted(targets, &tokens, before, now)?;
        let revoked = control.revoke(&wanted, reason.as_deref(), now)?;
        Ok((StatusCode::CREATED, Json(revoked)))
    })
    .await
}

pub(super) async fn list(
    State(control): State<Arc<Control>>,
    query: Result<Query<RevocationQuery>, QueryRejection>,
) -> Result<Json<RevocationList>, Problem> {
    let Query(query) = query.map_err(|error| Problem::field("query", error.body_text()))?;
    let limit = query.limit.unwrap_or(LISTED);
    if !(1..=MOST_LISTED).contains(&limit) {
        return Err(Problem::field("limit", format!("write 1 to {MOST_LISTED}, and go on with `after`")));
    }
    let after = query.after.as_deref().map(str::parse).transpose()?;
    blocking(control, move |control| {
        let found = control.store.revocations(after, limit, UnixTime::now())?;
        let next = if found.len() == limit {
            found.last().map(|last| last.target.mark().1.to_string())
        } else {
            None
        };
        let total = control.revocations.len();
        Ok(Json(RevocationList { next, revocations: found.into_iter().map(entry).collect(), total }))
    })
    .await
}

pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<RevocationEntry>, Problem> {
    let mark: Mark = id.parse()?;
    blocking(control, move |control| {
        let _changing = control.changing();
        let removed = control.store.remove_revocation(mark, UnixTime::now())?;
        let removed = removed.ok_or(Problem::RevocationMissing(mark))?;
        control.revocations.restore(&removed.target);
        Ok(Json(entry(removed)))
    })
    .await
}

impl Control {
    /// Revokes in the store, then in memory, then in the kernel and on the open connections.
    pub(super) fn revoke(
        &self,
        wanted: &[(Target, Revocation)],
        reason: Option<&str>,
        now: UnixTime,
    ) -> Result<Revoked, Problem> {
        let _changing = self.changing();
        for (target, _) in wanted {
            if let Target::Key { key } = target
                && !self.store.has_key(*key)?
            {
                return Err(Problem::KeyMissing(*key));
            }
        }
        // Whoever revokes token by token is to leave room for those that revoke many at once.
        let single = |target: &Target| matches!(target, Target::Token { .. } | Target::TokenId { .. });
        let more = wanted.iter().filter(|(target, _)| single(target)).count();
        if more > 0 && self.revocations.len() + more > MAX_REVOCATIONS {
            return Err(Problem::RevocationsFull);
        }
        let stored = self.store.revoke(wanted, reason, now)?;
        for revoked in &stored {
            self.revocations.revoke(&revoked.target, revoked.revocation, now);
            if let (Target::Key { key }, None) = (&revoked.target, revoked.revocation.before) {
                self.keys.revoke(*key);
            }
        }
        let ended = self.end_revoked(now);
        Ok(Revoked { ended, revocations: stored.into_iter().map(entry).collect() })
    }

    /// Revokes a token that was given up by whoever has it: once is enough, however often they ask.
    pub(super) fn give_up(
        &self,
        token: TokenHash,
        until: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<(), Problem> {
        let target = Target::Token { token };
        if !self.revocations.covers(&target, until) {
            self.revoke(&[(target, Revocation { before: None, until })], None, now)?;
        }
        Ok(())
    }

    /// Revokes an API key for good, and the tokens that were got for it.
    pub(super) fn revoke_key(&self, key: KeyId, now: UnixTime) -> Result<Revoked, Problem> {
        let revocation = Revocation { before: None, until: Some(over(now)) };
        self.revoke(&[(Target::Key { key }, revocation)], None, now)
    }

    /// To be called every few seconds with how long the wall clock has been steady: forgets a part of what is over, where
    /// that can be relied on, and has everyone looked for again once the clock was set. Blocks.
    pub fn tidy_revocations(&self, steady: Duration, now: UnixTime) -> Result<(), Problem> {
        let _tending = self.tending();
        if steady.is_zero() {
            self.revocations.recheck();
        }
        if self.keeps_up() && steady >= STEADY_FOR {
            self.store.purge_revocations(now)?;
            self.revocations.purge(now);
        }
        Ok(())
    }

    /// Ends what goes on with credentials that are revoked. The kernel comes first, so that nothing of an ended connection
    /// reaches the host; what it can't do, the agent does without.
    pub(super) fn end_revoked(&self, now: UnixTime) -> Ended {
        let cut_offs = self.connections.cut_revoked(|identity| self.revocations.is_revoked(identity, now));
        let flows: Vec<Flow> = cut_offs.condemned.iter().map(|connection| connection.flow()).collect();
        if !flows.is_empty() {
            let until = Monotonic(Monotonic::now().0.saturating_add(DROPPED_FOR.as_nanos() as u64));
            if let Err(error) = self.edge.revoke_flows(&flows, until) {
                tracing::warn!(%error, "the kernel does not drop what still comes of revoked connections");
            }
        }
        let condemned = cut_offs.condemned.iter().filter(|connection| connection.end(End::Revoked)).count();
        let ended = Ended { connections: condemned + cut_offs.ended, requests: cut_offs.requests };
        Handle::current().spawn(cut_offs.end_stalled());
        ended
    }

    /// What is asked for, checked, and until when each matters.
    fn wanted(
        &self,
        targets: Vec<Target>,
        tokens: &[String],
        before: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<Vec<(Target, Revocation)>, Problem> {
        let count = targets.len() + tokens.len();
        if !(1..=MOST_AT_ONCE).contains(&count) {
            return Err(Problem::field("targets", format!("name 1 to {MOST_AT_ONCE} targets and tokens")));
        }
        if before.is_some_and(|before| before.0 > now.0.saturating_add(AHEAD.as_secs())) {
            return Err(Problem::field("before", "lies ahead: write seconds since 1970, until now"));
        }
        let tokens = tokens.iter().enumerate().map(|(at, token)| {
            self.token(token, before, now).map_err(|error| Problem::TokenInvalid { error, number: at + 1 })
        });
        let targets = targets.into_iter().map(|target| {
            self.check(&target)?;
            let until = self.until(&target, before, now)?;
            Ok((target, Revocation { before, until }))
        });
        tokens.chain(targets).collect()
    }

    /// A token by its text, which says when it is over, or by its hash.
    fn token(
        &self,
        text: &str,
        before: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<(Target, Revocation), TokenError> {
        if let Ok(token) = text.parse::<TokenHash>() {
            return Ok((Target::Token { token }, Revocation { before, until: Some(over(now)) }));
        }
        let expires = self.tokens.expiry_of(text)?;
        let until = UnixTime(expires.0.saturating_add(LONGEST_LEEWAY.as_secs()));
        Ok((Target::Token { token: TokenHash::of(text) }, Revocation { before, until: Some(until) }))
    }

    fn check(&self, target: &Target) -> Result<(), Problem> {
        let (issuer, name) = match target {
            Target::Client { client, issuer } => (issuer.as_ref(), Some(client)),
            Target::Issuer { issuer } => (Some(issuer), None),
            Target::Key { .. } | Target::Token { .. } => (None, None),
            Target::Subject { issuer, subject } => (issuer.as_ref(), Some(subject)),
            Target::TokenId { issuer, token_id } => (Some(issuer), Some(token_id)),
        };
        if let Some(issuer) = issuer.filter(|issuer| !self.tokens.has_issuer(issuer)) {
            return Err(Problem::IssuerMissing { known: self.tokens.issuer_names(), name: issuer.clone() });
        }
        match name {
            Some(name) if !(1..=NAME_BYTES).contains(&name.len()) => {
                Err(Problem::field("targets", format!("names have 1 to {NAME_BYTES} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// When everything that this revokes is over, which is never where nothing bounds its age. What was issued before a
    /// time is over when the longest-lived token of that time is, whatever an issuer's `max_lifetime` is by then; API
    /// keys and client certificates may live for years.
    fn until(
        &self,
        target: &Target,
        before: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, Problem> {
        Ok(match (target, before) {
            (Target::Subject { issuer: None, subject }, Some(_))
                if self.tls.authenticate() || self.store.has_key_named(subject)? =>
            {
                None
            }
            (_, Some(before)) => Some(over(now.max(before))),
            (Target::Key { .. } | Target::Token { .. } | Target::TokenId { .. }, None) => Some(over(now)),
            (Target::Client { .. } | Target::Issuer { .. } | Target::Subject { .. }, None) => None,
        })
    }
}

/// When every token is over that was issued until `time`, by a clock that may be off.
fn over(time: UnixTime) -> UnixTime {
    UnixTime(time.0.saturating_add(LONGEST_TOKEN.as_secs() + 2 * LONGEST_LEEWAY.as_secs()))
}

fn entry(stored: StoredRevocation) -> RevocationEntry {
    RevocationEntry {
        before: stored.revocation.before,
        created: stored.created,
        id: stored.target.mark().1.to_string(),
        reason: stored.reason,
        target: stored.target,
        until: stored.revocation.until,
    }
}
