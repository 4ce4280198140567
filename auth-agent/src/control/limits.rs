//! `/v1/limits`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;

use super::body::Body;
use super::confirm::ConfirmWithin;
use super::messages::{Changed, LimitEntry, Limits, LimitsOf, RemovedLimit, SetLimit};
use super::problem::Problem;
use super::{Control, blocking, remark};
use crate::classes::{self, Entry};
use crate::clock::UnixTime;
use crate::config::{DEFAULT_CLASS_NAME, Overrides};
use crate::network::parse_network;
use crate::store::Limit;

pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<Limits>, Problem> {
    blocking(control, |control| {
        let limits = control.limits(control.store.limits()?).into_iter().map(entry);
        Ok(Json(Limits { limits: [default(control)].into_iter().chain(limits).collect() }))
    })
    .await
}

pub(super) async fn of(
    State(control): State<Arc<Control>>,
    Path(address): Path<String>,
) -> Result<Json<LimitsOf>, Problem> {
    let address = Problem::address(&address)?;
    blocking(control, move |control| {
        let applying = classes::applying(control.limits(control.store.limits()?), address);
        let limits = applying.into_iter().map(entry).chain([default(control)]).collect();
        Ok(Json(LimitsOf { allowed: control.allowlist.contains(address), limits }))
    })
    .await
}

pub(super) async fn set(
    State(control): State<Arc<Control>>,
    confirm: ConfirmWithin,
    Body(request): Body<SetLimit>,
) -> Result<(StatusCode, Json<Changed<LimitEntry>>), Problem> {
    let network = parse_network(&request.network)?;
    let reason = remark("reason", request.reason)?;
    if request.limits == Overrides::default() {
        return Err(Problem::field("limits", "name at least one limit, such as --requests 1000/min"));
    }
    blocking(control, move |control| {
        let _changing = control.changing();
        let when = confirm.from(UnixTime::now());
        let limit = Limit { created: when.now, limits: request.limits, network, reason };
        let entry = checked(control, &limit)?;
        control.store.set_limit(&limit, when.confirm_by)?;
        control.apply_rules_locked(when.now)?;
        Ok((StatusCode::CREATED, Json(control.changed(entry, when)?)))
    })
    .await
}

/// Refuses what could be stored, and not enforced.
fn checked(control: &Control, limit: &Limit) -> Result<LimitEntry, Problem> {
    let mut set = control.store.limits()?;
    set.retain(|other| other.network != limit.network);
    set.push(limit.clone());
    let entries = control.limits(set);
    if !classes::fit(&entries) {
        return Err(Problem::field(
            "limits",
            "too many networks with different limits: give some the same ones",
        ));
    }
    let set = entries.into_iter().find(|entry| entry.set.is_some() && entry.network == limit.network);
    match set.ok_or(Problem::Internal)? {
        Entry { obstacle: Some(obstacle), .. } => Err(Problem::field("limits", obstacle)),
        set => Ok(entry(set)),
    }
}

pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    confirm: ConfirmWithin,
    Path(network): Path<String>,
) -> Result<Json<Changed<RemovedLimit>>, Problem> {
    let network = parse_network(&network)?;
    blocking(control, move |control| {
        let now = UnixTime::now();
        let _changing = control.changing();
        let when = confirm.from(now);
        if !control.store.remove_limit(network, when)? {
            let configured = control.classes.load().is_configured(network);
            return Err(Problem::LimitMissing { configured, network });
        }
        control.apply_rules_locked(now)?;
        Ok(Json(control.changed(RemovedLimit { network }, when)?))
    })
    .await
}

fn default(control: &Control) -> LimitEntry {
    LimitEntry {
        class: DEFAULT_CLASS_NAME.to_owned(),
        configured: true,
        created: None,
        limits: control.classes.load().default().into(),
        network: None,
        obstacle: None,
        reason: None,
    }
}

fn entry(Entry { class, network, obstacle, set }: Entry) -> LimitEntry {
    LimitEntry {
        class: class.name.clone(),
        configured: set.is_none(),
        created: set.as_ref().map(|set| set.created),
        limits: (&class.limits).into(),
        network: Some(network.to_string()),
        obstacle,
        reason: set.and_then(|set| set.reason),
    }
}
