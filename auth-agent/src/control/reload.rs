//! The configuration: what would change, and changing it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::messages::ConfigChanges;
use super::problem::Problem;
use crate::actor::carried;
use crate::reload::{Change, ReloadError, Reloader};

pub(super) async fn diff(State(reloader): State<Arc<Reloader>>) -> Result<Json<ConfigChanges>, Problem> {
    run(reloader, Reloader::diff).await
}

pub(super) async fn reload(State(reloader): State<Arc<Reloader>>) -> Result<Json<ConfigChanges>, Problem> {
    run(reloader, Reloader::reload).await
}

/// To its end, whether or not the client waits for it.
async fn run(
    reloader: Arc<Reloader>,
    work: fn(&Reloader) -> Result<Vec<Change>, ReloadError>,
) -> Result<Json<ConfigChanges>, Problem> {
    let done = tokio::task::spawn_blocking(carried(move || work(&reloader))).await;
    let changes = done.map_err(|_| Problem::Internal)??;
    Ok(Json(ConfigChanges { changes }))
}
