//! `/v1/upstreams`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Control;
use super::messages::{UpstreamList, UpstreamsStatus};
use crate::proxy::{EndpointState, UpstreamStatus};

pub(super) async fn list(State(control): State<Arc<Control>>) -> Json<UpstreamList> {
    Json(UpstreamList { upstreams: upstreams(&control) })
}

/// For `/v1/status`.
pub(super) fn status(control: &Control) -> UpstreamsStatus {
    let upstreams = upstreams(control);
    let endpoints = || upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    UpstreamsStatus {
        down: upstreams.iter().filter(|upstream| upstream.is_down()).count(),
        endpoints: endpoints().count(),
        endpoints_out: endpoints().filter(|endpoint| endpoint.state != EndpointState::In).count(),
        total: upstreams.len(),
    }
}

/// None before there is a way to them.
fn upstreams(control: &Control) -> Vec<UpstreamStatus> {
    control.counters.upstreams.get().map(|board| board.upstreams()).unwrap_or_default()
}
