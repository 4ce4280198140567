//! `GET /metrics`: what `status` says, for a Prometheus that scrapes the control socket (text format 0.0.4).
//!
//! Labels come from the code and the configuration alone, so they are bounded; nothing that a client sends is in one.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

use super::messages::{LadderStatus, Status, UpstreamList};
use super::problem::Problem;
use super::{Control, filter, upstreams};
use crate::limits::Occupancy;

mod endpoints;

pub(super) async fn metrics(State(control): State<Arc<Control>>) -> Result<impl IntoResponse, Problem> {
    let Json(status) = filter::status(State(Arc::clone(&control))).await?;
    let Json(upstreams) = upstreams::list(State(control)).await;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text(&status, &upstreams)))
}

fn text(status: &Status, upstreams: &UpstreamList) -> String {
    let mut text = Text::default();
    let http = &status.http;
    text.one("connections_total", "counter", "Connections accepted.", http.connections);
    text.one("requests_total", "counter", "Requests.", http.requests);
    text.one("requests_forwarded_total", "counter", "Requests that an upstream answered.", http.forwarded);
    text.one(
        "requests_permitted_total",
        "counter",
        "Requests that another proxy was told it may forward.",
        http.permitted,
    );
    text.one(
        "handshakes_delayed_total",
        "counter",
        "TLS handshakes that waited for others (sizes.handshakes).",
        http.handshakes_delayed,
    );
    text.one(
        "access_log_dropped_total",
        "counter",
        "Lines of the access log, or refusals in the agent's own, that were dropped.",
        http.access_log_dropped,
    );
    text.family("requests_refused_total", "counter", "Requests refused, by reason.");
    for (reason, count) in &http.refusals {
        text.sample("requests_refused_total", &[("reason", reason)], count);
    }
    ladder(&mut text, &status.ladder);
    limits(&mut text, &status.limits);
    text.family("connections_closed_total", "counter", "Connections ended before their clients were done.");
    for (reason, count) in &http.closed {
        text.sample("connections_closed_total", &[("reason", reason)], count);
    }
    text.family("packets_total", "counter", "Packets that the filter decided, by reason.");
    for counter in &status.filter.counters {
        let labels = [("reason", &*counter.reason), ("verdict", &counter.verdict)];
        text.sample("packets_total", &labels, counter.packets);
    }
    text.one("sources", "gauge", "Sources that the filter knows.", status.filter.sources.used);
    text.one("revocations", "gauge", "Revocations.", status.revocations.count);
    text.one("bans", "gauge", "Bans that hold.", status.rules.banned);
    text.one("rules_pending", "gauge", "The kernel lacks rules.", u8::from(status.rules.error.is_some()));
    text.one(
        "issuers_failing",
        "gauge",
        "Issuers whose keys could not be refreshed.",
        status.issuers.failing,
    );
    text.family("certificate_not_after_seconds", "gauge", "Last second of a certificate, since 1970.");
    for certificate in &status.certificates {
        let (listener, names) = (certificate.listener.to_string(), certificate.names.join(" "));
        let labels = [("listener", &*listener), ("names", &names), ("source", &certificate.source)];
        text.sample("certificate_not_after_seconds", &labels, certificate.not_after.0);
    }
    endpoints::write(&mut text, upstreams);
    text.0
}

fn ladder(text: &mut Text, ladder: &LadderStatus) {
    text.family("offences_total", "counter", "What sources did wrong, by kind.");
    for (offence, count) in &ladder.offences {
        text.sample("offences_total", &[("offence", offence)], count);
    }
    text.one("bans_automatic", "gauge", "Bans that hold and that nobody made.", ladder.banned);
    text.one("ladder_lost_total", "counter", "Bans and drops that were not noted.", ladder.lost);
    text.one(
        "foreign_objects_total",
        "counter",
        "Distinct objects of others that were asked for.",
        ladder.foreign_objects,
    );
    text.one(
        "principals_slowed_total",
        "counter",
        "Times that a principal was slowed for them.",
        ladder.slowed,
    );
}

/// Its name, kind and help, and what it says of a table.
type Family = (&'static str, &'static str, &'static str, fn(&Occupancy) -> u64);

fn limits(text: &mut Text, tables: &[Occupancy]) {
    let labels = |table: &Occupancy| [("class", table.class.clone()), ("kind", table.kind.clone())];
    let families: [Family; 3] = [
        ("limit_entries", "gauge", "Budgets of limits and quotas in use.", |table| table.used as u64),
        ("limit_entries_max", "gauge", "Budgets that there is room for.", |table| table.capacity as u64),
        ("limit_shared_total", "counter", "Requests counted together for want of room.", |table| {
            table.shared
        }),
    ];
    for (name, kind, help, value) in families {
        text.family(name, kind, help);
        for table in tables {
            let labels = labels(table);
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
            text.sample(name, &labels, value(table));
        }
    }
}

/// The exposition, as it grows. Writing to a string does not fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP auth_agent_{name} {help}\n# TYPE auth_agent_{name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "auth_agent_{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_one_line_each_whatever_a_label_holds() {
        let mut text = Text::default();
        text.one("up", "gauge", "Whether.", 1);
        text.sample("x", &[("a", "b\"c\\d\ne"), ("f", "g")], 2.5);
        assert_eq!(
            text.0,
            "# HELP auth_agent_up Whether.\n# TYPE auth_agent_up gauge\nauth_agent_up 1\n\
             auth_agent_x{a=\"b\\\"c\\\\d\\ne\",f=\"g\"} 2.5\n"
        );
    }
}
