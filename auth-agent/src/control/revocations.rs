//! `/v1/revocations`: revoking, and ending at once what goes on with what was revoked.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use http::StatusCode;

use super::body::Body;
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

/// How long a request that was cut off may take to be gone before its connection is ended. No test is to be decided by
/// how busy the machine is.
const STALLED_AFTER: Duration = Duration::from_millis(if cfg!(test) { 2_000 } else { 20 });

pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    Body(request): Body<Revoke>,
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
        if self.revocations.len() + wanted.len() > MAX_REVOCATIONS {
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

    /// Revokes an API key for good, and the tokens that were got for it.
    pub(super) fn revoke_key(&self, key: KeyId, now: UnixTime) -> Result<Revoked, Problem> {
        let revocation = Revocation { before: None, until: Some(over(now)) };
        self.revoke(&[(Target::Key { key }, revocation)], None, now)
    }

    /// Ends what goes on with credentials that are revoked. The kernel comes first, so that nothing of an ended connection
    /// reaches the host; what it can't do, the agent does without.
    fn end_revoked(&self, now: UnixTime) -> Ended {
        let mut cut_offs =
            self.connections.cut_revoked(|identity| self.revocations.is_revoked(identity, now));
        let flows: Vec<Flow> = cut_offs.condemned.iter().map(|connection| connection.flow()).collect();
        if !flows.is_empty() {
            let until = Monotonic(Monotonic::now().0.saturating_add(DROPPED_FOR.as_nanos() as u64));
            if let Err(error) = self.edge.revoke_flows(&flows, until) {
                tracing::warn!(%error, "the kernel does not drop what still comes of revoked connections");
            }
        }
        let condemned = cut_offs.condemned.iter().filter(|connection| connection.end(End::Revoked)).count();
        let deadline = Instant::now() + STALLED_AFTER;
        while cut_offs.are_stalled() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let stalled = cut_offs.end_stalled();
        Ended { connections: condemned + stalled, requests: cut_offs.requests }
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
        let tokens = tokens.iter().map(|token| self.token(token, before, now));
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
    ) -> Result<(Target, Revocation), Problem> {
        let latest = over(now);
        if let Ok(token) = text.parse::<TokenHash>() {
            return Ok((Target::Token { token }, Revocation { before, until: Some(latest) }));
        }
        let expires = self.tokens.expiry_of(text).map_err(Problem::TokenInvalid)?;
        let until = UnixTime(expires.0.saturating_add(LONGEST_LEEWAY.as_secs())).min(latest);
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
    /// keys may live for ever.
    fn until(
        &self,
        target: &Target,
        before: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, Problem> {
        Ok(match (target, before) {
            (Target::Subject { issuer: None, subject }, Some(_)) if self.store.has_key_named(subject)? => {
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
