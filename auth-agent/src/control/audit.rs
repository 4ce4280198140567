//! `/v1/audit`: who did what; and that whatever is asked of this API is written down.

use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::messages::{AuditList, AuditRecord};
use super::problem::Problem;
use super::{Control, Peer, blocking};
use crate::actor::{Actor, act_as, run_as};
use crate::clock::UnixTime;
use crate::store::{AuditEntry, AuditOutcome, AuditWanted};

const DEFAULT_LIMIT: u32 = 100;
const MOST: u32 = 100_000;
/// Bytes that are kept of a path that was asked for.
const MAX_PATH_BYTES: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<u32>,
    since_seconds: Option<u64>,
}

pub(super) async fn list(
    State(control): State<Arc<Control>>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<AuditList>, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::field("query", error.body_text()))?;
    let limit = match wanted.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MOST => limit,
        _ => return Err(Problem::field("limit", format!("write 1 to {MOST}"))),
    };
    let since = wanted.since_seconds.map_or(0, |seconds| UnixTime::now().0.saturating_sub(seconds));
    let wanted = AuditWanted { limit, since: UnixTime(since) };
    blocking(control, move |control| {
        let entries = control.store.audit_entries(wanted)?;
        Ok(Json(AuditList { entries: entries.into_iter().map(record).collect() }))
    })
    .await
}

fn record(entry: AuditEntry) -> AuditRecord {
    let AuditEntry { action, actor, detail, gid, outcome, pid, seq, time, uid } = entry;
    AuditRecord { action, actor, detail, gid, outcome, pid, seq, time, uid }
}

/// Who changed what; bodies stay out of the logs, since they may hold secrets. What a handler has written down with its
/// change is not written twice.
pub(super) async fn note(
    State(control): State<Arc<Control>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if *request.method() == Method::GET {
        return next.run(request).await;
    }
    // Whoever hangs up ends neither what was asked for nor its entry.
    match tokio::spawn(noted(control, peer, request, next)).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a control request was not carried out to its end");
            Problem::Internal.into_response()
        }
    }
}

async fn noted(control: Arc<Control>, peer: Peer, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let actor = Actor::operator(peer);
    let mut response = act_as(actor.clone(), next.run(request)).await;
    let status = response.status();
    tracing::info!(uid = peer.uid, %method, path, status = status.as_u16(), "control");
    let outcome = outcome(&response);
    if outcome != AuditOutcome::Done || !actor.has_entry() {
        let why = response.extensions_mut().remove::<Why>();
        let path = &path[..path.floor_char_boundary(MAX_PATH_BYTES)];
        let (action, detail) =
            (action(&method, path), json!({ "path": path, "why": why.map(|Why(why)| why) }));
        write(control, actor, action, detail, outcome).await;
    }
    response
}

/// In words, why a request was refused, beside the response that says so.
#[derive(Clone)]
pub(super) struct Why(pub(super) String);

fn outcome(response: &Response) -> AuditOutcome {
    if response.status().is_success() {
        AuditOutcome::Done
    } else if response.status().is_client_error() {
        AuditOutcome::Refused
    } else {
        AuditOutcome::Failed
    }
}

/// What was asked for, in the words of the log of changes where there are any.
fn action(method: &Method, path: &str) -> String {
    let segments: Vec<_> = path.split('/').skip(2).collect();
    let known = match (method.as_str(), &segments[..]) {
        ("POST", ["allows"]) => "allow.add",
        ("DELETE", ["allows", _]) => "allow.remove",
        ("POST", ["bans"]) => "ban.add",
        ("POST", ["bans", "import"]) => "ban.import",
        ("DELETE", ["bans", _]) => "ban.remove",
        ("POST", ["config", "reload"]) => "config.reload",
        ("POST", ["connections", "end"]) => "connection.end",
        ("POST", ["detach"]) => "filter.detach",
        ("POST", ["issuers", _, "refresh"]) => "issuer.refresh",
        ("POST", ["keys"]) => "key.create",
        ("POST", ["keys", "import"]) => "key.import",
        ("POST", ["keys", _, "revoke"]) => "key.revoke",
        ("POST", ["keys", _, "rotate"]) => "key.rotate",
        ("POST", ["limits"]) => "limit.set",
        ("DELETE", ["limits", _]) => "limit.remove",
        ("POST", ["pending", _, "confirm"]) => "change.confirm",
        ("POST", ["request-limits", _]) => "budget.set",
        ("DELETE", ["request-limits", _]) => "budget.remove",
        ("POST", ["request-limits", _, "reset"]) => "debt.reset",
        ("POST", ["revocations"]) => "revocation.add",
        ("DELETE", ["revocations", _]) => "revocation.remove",
        ("POST", ["signing-keys", "rotate"]) => "signing-key.rotate",
        ("POST", ["tokens"]) => "token.issue",
        ("POST", ["upgrade"]) => "agent.upgrade",
        _ => return format!("{method} {path}"),
    };
    known.to_owned()
}

async fn write(control: Arc<Control>, actor: Actor, action: String, detail: Value, outcome: AuditOutcome) {
    let work = move || run_as(&actor, || control.audit(&action, &detail, outcome, UnixTime::now()));
    // What became of it is in the log.
    let _ = tokio::task::spawn_blocking(work).await;
}

impl Control {
    /// Writes down what was done to no list of the store, on behalf of whom this thread works for. Blocks.
    pub fn audit(&self, action: &str, detail: &Value, outcome: AuditOutcome, now: UnixTime) {
        if let Err(error) = self.store.audit(action, detail, outcome, now) {
            tracing::error!(%error, action, "what was done is not in the audit log");
        }
    }

    /// Writes down that a user was refused who may not use the control socket; not each time.
    pub(super) fn audit_stranger(self: &Arc<Self>, peer: Peer) {
        let now = UnixTime::now();
        let passed_over = self.strangers.lock().unwrap_or_else(PoisonError::into_inner).take(peer.uid, now);
        let Some(passed_over) = passed_over else { return };
        let control = Arc::clone(self);
        let detail = json!({ "earlier": (passed_over > 0).then_some(passed_over) });
        drop(tokio::task::spawn_blocking(move || {
            run_as(&Actor::stranger(peer), || {
                control.audit("control.connect", &detail, AuditOutcome::Refused, now);
            });
        }));
    }

    /// Forgets entries that are over.
    pub(super) fn purge_audit(&self, now: UnixTime) -> Result<(), Problem> {
        let bounds = **self.audit_bounds.load();
        let before = UnixTime(now.0.saturating_sub(bounds.keep.as_secs()));
        Ok(self.store.purge_audit(before, bounds.entries.get()).map(drop)?)
    }
}
