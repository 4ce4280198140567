//! `[[upstream]]`

use std::sync::Arc;

use super::Earlier;
use crate::config::defaults::{DAY, HOUR, MILLISECOND, MINUTE, SECOND};
use crate::config::document::{Section, wrong};
use crate::config::upstream::{Ejection, HealthCheck, Protocol, Scheme, Upstream, UpstreamTls};
use crate::config::values;

/// The names of all upstreams, also of those with a problem, so that routes to them have none.
pub(super) fn upstreams(root: &mut Section<'_>) -> (Vec<String>, Vec<Upstream>) {
    let mut earlier = Earlier::default();
    let mut names = Vec::new();
    let mut upstreams = Vec::new();
    for mut section in root.required_sections("upstream", "[[upstream]] with name and endpoints") {
        let name = section.required("name", values::name, r#"name = "app""#);
        let write = r#"endpoints = ["http://127.0.0.1:8080"]"#;
        let endpoints = section.required_list("endpoints", values::endpoint, write).unwrap_or_default();
        let default = Upstream::new(name.as_deref().unwrap_or_default(), endpoints);
        let upstream = upstream(&mut section, default);
        check(&mut section, &upstream);
        if let Some(name) = name {
            earlier.check(&section, "name", name.clone(), String::eq);
            upstreams.push(upstream);
            names.push(name);
        }
        section.finish();
    }
    (names, upstreams)
}

fn upstream(section: &mut Section<'_>, default: Upstream) -> Upstream {
    Upstream {
        balance: section.or("balance", values::balance, default.balance),
        connections: section.or("connections", values::count(1..=1_000_000), default.connections),
        ejection: ejection(section.section("ejection"), default.ejection),
        health_check: health_check(section.section("health_check")),
        identity: section.or("identity", values::identity_form, default.identity),
        idle_connections: section.or(
            "idle_connections",
            values::number(0..=1_000_000),
            default.idle_connections,
        ),
        idle_timeout: section.or("idle_timeout", values::duration(SECOND..=HOUR), default.idle_timeout),
        protocol: section.or("protocol", values::protocol, default.protocol),
        queue: section.or("queue", values::number(0..=1_000_000), default.queue),
        queue_timeout: section.or(
            "queue_timeout",
            values::duration(MILLISECOND..=HOUR),
            default.queue_timeout,
        ),
        resolve_every: section.or("resolve_every", values::duration(SECOND..=DAY), default.resolve_every),
        streams: section.or("streams", values::count(1..=10_000), default.streams),
        tls: tls(section),
        ..default
    }
}

fn tls(section: &mut Section<'_>) -> UpstreamTls {
    let folder = section.folder().to_owned();
    let certificate = section.optional("certificate", values::path(&folder));
    let key = section.optional("key", values::path(&folder));
    if certificate.is_some() != key.is_some() {
        let (there, absent) =
            if certificate.is_some() { ("certificate", "key") } else { ("key", "certificate") };
        section.check(there, wrong(format!("without {absent}"), format!("write {absent}, too")));
    }
    UpstreamTls {
        ca: section.optional("ca", values::path(&folder)),
        certificate: certificate.zip(key),
        server_name: section.optional("server_name", values::server_name).map(Arc::from),
    }
}

/// What must hold between the endpoints and the other fields.
fn check(section: &mut Section<'_>, upstream: &Upstream) {
    let uses = |scheme| upstream.endpoints.iter().any(|endpoint| endpoint.scheme == scheme);
    if upstream.protocol == Protocol::Http1 && uses(Scheme::H2c) {
        let problem = wrong("an h2c:// endpoint speaks HTTP/2", "write protocol = \"http2\", or http://");
        section.check("protocol", problem);
    }
    if !uses(Scheme::Https) && !upstream.endpoints.is_empty() {
        for field in ["ca", "certificate", "key", "server_name"] {
            if section.has(field) {
                section.check(
                    field,
                    wrong("no endpoint is connected to by TLS", "write https:// endpoints, or take it out"),
                );
            }
        }
    }
}

fn ejection(mut section: Section<'_>, default: Ejection) -> Ejection {
    let ejection = Ejection {
        failures: section.or("failures", values::number(0..=10_000), default.failures),
        first: section.or("for", values::duration(MILLISECOND..=HOUR), default.first),
        longest: section.or("longest", values::duration(MILLISECOND..=DAY), default.longest),
    };
    if ejection.longest < ejection.first {
        section.check("longest", wrong("shorter than `for`", "write a longer duration"));
    }
    section.finish();
    ejection
}

fn health_check(mut section: Section<'_>) -> Option<HealthCheck> {
    if !section.is_present() {
        return None;
    }
    let path = section.required("path", values::check_path, r#"path = "/health""#);
    let check = HealthCheck {
        expect: section.or("expect", values::statuses, 200..=399),
        healthy_after: section.or(
            "healthy_after",
            values::count(1..=1_000),
            crate::config::defaults::nonzero(2),
        ),
        interval: section.or("interval", values::duration(MILLISECOND * 100..=HOUR), SECOND * 10),
        path: path.unwrap_or_default(),
        timeout: section.or("timeout", values::duration(MILLISECOND..=MINUTE), SECOND * 2),
        unhealthy_after: section.or(
            "unhealthy_after",
            values::count(1..=1_000),
            crate::config::defaults::nonzero(3),
        ),
    };
    section.finish();
    Some(check)
}
