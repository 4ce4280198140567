//! `/v1/allows`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;

use super::body::Body;
use super::confirm::ConfirmWithin;
use super::messages::{AddAllow, AllowEntry, Allows, Changed, RemovedAllow};
use super::problem::Problem;
use super::{Control, blocking, remark};
use crate::clock::UnixTime;
use crate::network::parse_network;
use crate::store::Allow;

pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<Allows>, Problem> {
    blocking(control, |control| {
        let configured = control.allowlist.configured();
        let configured = configured.iter().map(|&network| AllowEntry {
            configured: true,
            created: None,
            network,
            reason: None,
        });
        let added = control.store.allows()?.into_iter().map(entry);
        Ok(Json(Allows { allows: configured.chain(added).collect() }))
    })
    .await
}

pub(super) async fn add(
    State(control): State<Arc<Control>>,
    confirm: ConfirmWithin,
    Body(request): Body<AddAllow>,
) -> Result<(StatusCode, Json<Changed<AllowEntry>>), Problem> {
    let now = UnixTime::now();
    let when = confirm.from(now);
    let network = parse_network(&request.network)?;
    let reason = remark("reason", request.reason)?;
    // The same rule as for kernel.allow: everyone can't be an exception.
    if network.prefix_len() == 0 {
        return Err(Problem::AllowEveryone);
    }
    blocking(control, move |control| {
        let _changing = control.changing();
        let allow = control.store.add_allow(network, reason.as_deref(), when)?;
        control.apply_rules_locked(now)?;
        Ok((StatusCode::CREATED, Json(control.changed(entry(allow), when)?)))
    })
    .await
}

pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    confirm: ConfirmWithin,
    Path(network): Path<String>,
) -> Result<Json<Changed<RemovedAllow>>, Problem> {
    let network = parse_network(&network)?;
    blocking(control, move |control| {
        let now = UnixTime::now();
        let _changing = control.changing();
        let when = confirm.from(now);
        if !control.store.remove_allow(network, when)? {
            let configured = control.allowlist.configured().contains(&network);
            return Err(Problem::AllowMissing { configured, network });
        }
        control.apply_rules_locked(now)?;
        Ok(Json(control.changed(RemovedAllow { network }, when)?))
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
