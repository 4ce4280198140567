//! `/v1/issuers`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};

use super::Control;
use super::messages::{IssuerList, IssuersStatus};
use super::problem::Problem;
use crate::clock::{Monotonic, UnixTime};
use crate::issuers::{IssuerStatus, RefreshError};

pub(super) async fn list(State(control): State<Arc<Control>>) -> Json<IssuerList> {
    Json(IssuerList { issuers: control.issuers.list(Monotonic::now(), UnixTime::now()) })
}

/// Changes nothing that would have to be durable: not one of the changes that run one at a time.
pub(super) async fn refresh(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<IssuerStatus>, Problem> {
    control.issuers.refresh(&name).await?;
    let mut issuers = control.issuers.list(Monotonic::now(), UnixTime::now()).into_iter();
    let refreshed = issuers.find(|issuer| issuer.name == name);
    refreshed.map(Json).ok_or(Problem::Refresh(RefreshError::Missing(name)))
}

/// For `/v1/status`.
pub(super) fn status(control: &Control) -> IssuersStatus {
    let issuers = control.issuers.list(Monotonic::now(), UnixTime::now());
    IssuersStatus {
        failing: issuers.iter().filter(|issuer| issuer.error.is_some()).count(),
        total: issuers.len(),
        without_keys: issuers.iter().filter(|issuer| issuer.keys.is_empty()).count(),
    }
}
