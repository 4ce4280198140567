//! `/v1/status`, `/v1/sources`, `/v1/detach`: what the kernel half knows and does.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};

use super::messages::{RevocationsStatus, RulesStatus, Status};
use super::problem::Problem;
use super::{Control, blocking, confirm, issuers, upstreams};
use crate::clock::{Now, UnixTime};
use crate::edge::{Detached, SourceView};

pub(super) async fn status(State(control): State<Arc<Control>>) -> Result<Json<Status>, Problem> {
    blocking(control, |control| {
        let now = UnixTime::now();
        Ok(Json(Status {
            acme: control.acme.as_ref().map(|acme| acme.status(&control.tls)).unwrap_or_default(),
            certificates: control.tls.status(),
            client_trust: control.tls.trust_status(),
            filter: control.edge.status().map_err(Problem::Edge)?,
            http: control.counters.snapshot(),
            issuers: issuers::status(control),
            keys: control.store.valid_keys(now)?,
            ladder: control.ladder_status(now)?,
            limits: control.limiter.occupancy(Now::read()),
            pending: control.store.pending()?.into_iter().map(confirm::entry).collect(),
            pid: std::process::id(),
            revocations: RevocationsStatus {
                bytes: control.revocations.bytes(),
                count: control.revocations.len(),
            },
            rules: RulesStatus {
                allowed: control.allowlist.configured().len() + control.store.allows()?.len(),
                banned: control.store.bans(now)?.len(),
                error: control.rules_error(),
            },
            started: control.started,
            upstreams: upstreams::status(control),
            uptime_seconds: now.0.saturating_sub(control.started.0),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    })
    .await
}

pub(super) async fn source(
    State(control): State<Arc<Control>>,
    Path(address): Path<String>,
) -> Result<Json<SourceView>, Problem> {
    let address = Problem::address(&address)?;
    blocking(control, move |control| control.edge.source(address).map(Json).map_err(Problem::Edge)).await
}

pub(super) async fn detach(State(control): State<Arc<Control>>) -> Result<Json<Detached>, Problem> {
    blocking(control, |control| {
        let _changing = control.changing();
        control.edge.detach().map(Json).map_err(Problem::Edge)
    })
    .await
}
