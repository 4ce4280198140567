//! `/v1/allows`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;

use super::body::Body;
use super::messages::{AddAllow, AllowEntry, Allows, RemovedAllow};
use super::problem::Problem;
use super::{Control, blocking, remark};
use crate::clock::UnixTime;
use crate::network::parse_network;
use crate::store::Allow;

pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<Allows>, Problem> {
    blocking(control, |control| {
        let configured = control.allowlist.configured().iter();
        let configured =
            configured.map(|&network| AllowEntry { configured: true, created: None, network, reason: None });
        let added = control.store.allows()?.into_iter().map(entry);
        Ok(Json(Allows { allows: configured.chain(added).collect() }))
    })
    .await
}

pub(super) async fn add(
    State(control): State<Arc<Control>>,
    Body(request): Body<AddAllow>,
) -> Result<(StatusCode, Json<AllowEntry>), Problem> {
    let now = UnixTime::now();
    let network = parse_network(&request.network)?;
    let reason = remark("reason", request.reason)?;
    // The same rule as for kernel.allow: everyone can't be an exception.
    if network.prefix_len() == 0 {
        return Err(Problem::AllowEveryone);
    }
    blocking(control, move |control| {
        let _changing = control.changing();
        let allow = control.store.add_allow(network, reason.as_deref(), now)?;
        control.apply_rules_locked(now)?;
        Ok((StatusCode::CREATED, Json(entry(allow))))
    })
    .await
}

pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path(network): Path<String>,
) -> Result<Json<RemovedAllow>, Problem> {
    let network = parse_network(&network)?;
    blocking(control, move |control| {
        let now = UnixTime::now();
        let _changing = control.changing();
        if !control.store.remove_allow(network, now)? {
            let configured = control.allowlist.configured().contains(&network);
            return Err(Problem::AllowMissing { configured, network });
        }
        control.apply_rules_locked(now)?;
        Ok(Json(RemovedAllow { network }))
    })
    .await
}

fn entry(allow: Allow) -> AllowEntry {
    AllowEntry {
        configured: false,
        created: Some(allow.created),
        network: allow.network,
        reason: allow.reason,
    }
}
