//! `/v1/upgrade`: another agent takes over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::body::Body;
use super::messages::{Upgrade, Upgraded};
use super::problem::Problem;
use crate::actor::carried;
use crate::handover::{LONGEST_READY, READY_WITHIN, Upgrader};

/// To its end, whether or not the client waits for it.
pub(super) async fn upgrade(
    State(upgrader): State<Arc<Upgrader>>,
    Body(Upgrade { binary, within_seconds }): Body<Upgrade>,
) -> Result<Json<Upgraded>, Problem> {
    let within = within(within_seconds)?;
    let binary = binary.map(absolute).transpose()?;
    let done = tokio::task::spawn_blocking(carried(move || upgrader.upgrade(binary, within))).await;
    let done = done.map_err(|_| Problem::Internal)??;
    Ok(Json(Upgraded { binary: done.binary.display().to_string(), pid: done.pid, version: done.version }))
}

fn within(seconds: Option<u64>) -> Result<Duration, Problem> {
    match seconds.map(Duration::from_secs) {
        None => Ok(READY_WITHIN),
        Some(within) if !within.is_zero() && within <= LONGEST_READY => Ok(within),
        Some(_) => {
            let cure = format!("write 1 to {} seconds", LONGEST_READY.as_secs());
            Err(Problem::field("within_seconds", cure))
        }
    }
}

fn absolute(binary: String) -> Result<PathBuf, Problem> {
    let path = PathBuf::from(binary);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(Problem::field("binary", "write the whole path of a program, from /")),
    }
}
