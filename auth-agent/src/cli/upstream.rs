//! `auth-agent upstream`

use super::table::table;
use crate::clock::UnixTime;
use crate::control::is_unprintable;
use crate::control::messages::{UpstreamList, UpstreamsStatus};
use crate::duration::relative;
use crate::proxy::{EndpointStatus, UpstreamStatus};

pub(super) fn list(list: &UpstreamList, now: UnixTime) -> String {
    let rows = list.upstreams.iter().flat_map(|upstream| {
        upstream.endpoints.iter().map(|endpoint| {
            [
                upstream.name.clone(),
                endpoint.endpoint.clone(),
                state(endpoint),
                endpoint.in_flight.to_string(),
                endpoint.idle.to_string(),
                endpoint.requests.to_string(),
                endpoint.failures.to_string(),
                endpoint.connects.to_string(),
            ]
        })
    });
    let head = ["UPSTREAM", "ENDPOINT", "STATE", "IN FLIGHT", "IDLE", "REQUESTS", "FAILED", "CONNECTS"];
    let table = table(head, &rows.collect::<Vec<_>>());
    list.upstreams.iter().fold(table, |text, upstream| text + &details(upstream, now))
}

/// A line of `status`, where something is wrong.
pub(super) fn summary(upstreams: &UpstreamsStatus) -> String {
    match upstreams {
        UpstreamsStatus { endpoints_out: 0, down: 0, .. } => String::new(),
        UpstreamsStatus { down, endpoints, endpoints_out, total } => format!(
            "upstreams  {down} of {total} down, {endpoints_out} of {endpoints} endpoints out: `auth-agent upstream \
             list` says why\n"
        ),
    }
}

fn state(endpoint: &EndpointStatus) -> String {
    match endpoint.ejected_for_seconds {
        Some(seconds) => format!("{} for {seconds:.1} s", endpoint.state.name()),
        None => endpoint.state.name().to_owned(),
    }
}

fn details(upstream: &UpstreamStatus, now: UnixTime) -> String {
    let name = &upstream.name;
    let waiting =
        (upstream.waiting > 0).then(|| format!("{name}: {} requests wait for room\n", upstream.waiting));
    let retries = (upstream.retries + upstream.retries_refused > 0).then(|| {
        format!(
            "{name}: {} requests sent once more, {} too many\n",
            upstream.retries, upstream.retries_refused
        )
    });
    let unresolved = upstream.unresolved.as_ref().map(|why| safe(&format!("{name}: error: {why}")));
    let errors = upstream.endpoints.iter().filter_map(|endpoint| {
        let (why, when) = (endpoint.last_error.as_ref()?, endpoint.last_error_at?);
        Some(safe(&format!("{name}: {}: last error, {}: {why}", endpoint.endpoint, relative(when, now))))
    });
    waiting.into_iter().chain(retries).chain(unresolved).chain(errors).collect()
}

/// What a server said can neither drive the terminal nor look like another line.
fn safe(line: &str) -> String {
    let escaped =
        line.chars().map(|c| if is_unprintable(c) { c.escape_unicode().to_string() } else { c.into() });
    escaped.chain(["\n".to_owned()]).collect()
}
