//! `[sizes]` and `[timeouts]`

use std::time::Duration;

use crate::config::defaults::{DAY, HOUR, MILLISECOND};
use crate::config::document::Section;
use crate::config::{Sizes, Timeouts, values};

/// `[sizes]`
pub(super) fn sizes(mut section: Section<'_>) -> Sizes {
    const KIB: u32 = 1 << 10;
    const MIB: u32 = 1 << 20;
    let default = Sizes::default();
    let sizes = Sizes {
        body_bytes: section.or("body_bytes", values::bytes(0..=1 << 40), default.body_bytes),
        body_rate: section.or("body_rate", values::bytes(0..=1 << 30), default.body_rate),
        connections: section.or("connections", values::count(1..=1_000_000), default.connections),
        connections_per_source: section.or(
            "connections_per_source",
            values::count(1..=1_000_000),
            default.connections_per_source,
        ),
        handshakes: section.or("handshakes", values::count(1..=1_000_000), default.handshakes),
        header_bytes: section.or("header_bytes", values::nonzero_bytes(8 * KIB..=MIB), default.header_bytes),
        headers: section.or("headers", values::count(16..=1_000), default.headers),
        limit_entries: section.or("limit_entries", values::count(1 << 10..=1 << 26), default.limit_entries),
        streams: section.or("streams", values::count(1..=10_000), default.streams),
        token_bytes: section.or("token_bytes", values::nonzero_bytes(256..=64 * KIB), default.token_bytes),
        uri_bytes: section.or("uri_bytes", values::nonzero_bytes(256..=64 * KIB), default.uri_bytes),
        workers: section.or("workers", values::workers, default.workers),
    };
    section.finish();
    sizes
}

/// `[timeouts]`
pub(super) fn timeouts(mut section: Section<'_>) -> Timeouts {
    let default = Timeouts::default();
    let credential_grace =
        section.or("credential_grace", values::duration(Duration::ZERO..=HOUR), default.credential_grace);
    let mut timeout =
        |key: &'static str, default| section.or(key, values::duration(MILLISECOND..=DAY), default);
    let timeouts = Timeouts {
        body_grace: timeout("body_grace", default.body_grace),
        body_idle: timeout("body_idle", default.body_idle),
        connect: timeout("connect", default.connect),
        credential_grace,
        drain: timeout("drain", default.drain),
        handshake: timeout("handshake", default.handshake),
        headers: timeout("headers", default.headers),
        idle: timeout("idle", default.idle),
        response: timeout("response", default.response),
        upgraded_idle: timeout("upgraded_idle", default.upgraded_idle),
        upstream_idle: timeout("upstream_idle", default.upstream_idle),
    };
    section.finish();
    timeouts
}
