//! Changes that undo themselves unless they are confirmed: `?confirm_within_seconds=N` on every change of a list,
//! and `/v1/pending`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use http::request::Parts;
use serde::Deserialize;

use super::messages::{Changed, Confirmed, PendingEntry, PendingList};
use super::problem::Problem;
use super::{Control, blocking};
use crate::clock::UnixTime;
use crate::store::{Pending, When};

/// Who needs more than a day to see whether he is locked out?
const LONGEST_SECONDS: u64 = 24 * 60 * 60;

/// The query of a request that changes a list.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmWithin {
    confirm_within_seconds: Option<u64>,
}

impl ConfirmWithin {
    /// What the store is told.
    pub(super) fn from(self, now: UnixTime) -> When {
        let confirm_by = self.confirm_within_seconds.map(|seconds| UnixTime(now.0.saturating_add(seconds)));
        When { confirm_by, now }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ConfirmWithin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Self>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|error| Problem::field("query", error.body_text()))?;
        match query.confirm_within_seconds {
            None | Some(1..=LONGEST_SECONDS) => Ok(query),
            Some(_) => Err(Problem::field("confirm_within_seconds", "write between a second and a day")),
        }
    }
}

impl Control {
    /// The answer to a change, with what has to be done to keep it. To be called before another change is made.
    pub(super) fn changed<T>(&self, answer: T, when: When) -> Result<Changed<T>, Problem> {
        let pending = match when.confirm_by {
            Some(_) => self.store.pending()?.pop().map(entry),
            None => None,
        };
        Ok(Changed { answer, pending })
    }

    /// Undoes what nobody confirmed in time, in the store; says whether that was anything. Blocks.
    pub(super) fn undo_locked(&self, now: UnixTime) -> Result<bool, Problem> {
        let undone = self.store.undo_unconfirmed(now)?;
        for Pending { id, kind, network, networks, .. } in &undone {
            tracing::warn!(id, kind, %network, networks, "undone, since nobody confirmed it");
        }
        Ok(!undone.is_empty())
    }
}

pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<PendingList>, Problem> {
    blocking(control, |control| {
        Ok(Json(PendingList { pending: control.store.pending()?.into_iter().map(entry).collect() }))
    })
    .await
}

pub(super) async fn confirm(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<Confirmed>, Problem> {
    blocking(control, move |control| {
        let _changing = control.changing();
        match id.parse() {
            Ok(id) if control.store.confirm(id, UnixTime::now())? => Ok(Json(Confirmed { id })),
            _ => Err(Problem::PendingMissing(id.chars().take(64).collect())),
        }
    })
    .await
}

pub(super) fn entry(pending: Pending) -> PendingEntry {
    let Pending { created, deadline, id, kind, network, networks } = pending;
    PendingEntry { created, deadline, id, kind, network, networks }
}
