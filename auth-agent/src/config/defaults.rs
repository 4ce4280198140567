//! What holds where the operator wrote nothing. `example.toml` says the same, and a test holds it to that.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::upstream::{Address, Balance, Ejection, Protocol, Upstream, UpstreamTls};
use super::{
    AccessLog, ApiKeys, Audit, ByteRate, Control, EnumerationLimit, Explain, Forwarding, HttpLimit,
    IdentityForm, IdentityHeaders, Kernel, Ladder, Limits, LogTarget, PlaintextAnswer, Prices, Proxies, Rate,
    Retries, RouteTimeouts, Sizes, SourceLimits, Store, Timeouts, Tokens, WhenAgentGone, XdpMode,
};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for AccessLog {
    /// None is written.
    fn default() -> Self {
        Self { principals: true, sample: nonzero(1), to: LogTarget::Off }
    }
}

impl Default for ApiKeys {
    fn default() -> Self {
        Self { allow_browsers: false, header: HeaderName::from_static("x-api-key") }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { entries: nonzero(100_000), keep: 365 * DAY }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { allow_uids: Vec::new(), socket: PathBuf::from("/run/auth-agent/control.sock") }
    }
}

impl Default for Explain {
    fn default() -> Self {
        Self { header: Some(HeaderName::from_static("x-request-id")), remembered: 4096 }
    }
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            client: HeaderName::from_static("x-auth-client"),
            issuer: HeaderName::from_static("x-auth-issuer"),
            method: HeaderName::from_static("x-auth-method"),
            scopes: HeaderName::from_static("x-auth-scopes"),
            subject: HeaderName::from_static("x-auth-subject"),
            tenant: HeaderName::from_static("x-auth-tenant"),
        }
    }
}

impl Default for Kernel {
    /// On no interface.
    fn default() -> Self {
        Self {
            agent_gone_after: 10 * SECOND,
            allow: Vec::new(),
            guarded_ports: vec![22],
            hotplug: Vec::new(),
            interfaces: Vec::new(),
            ipv6_prefix: 64,
            ipv6_site: 48,
            mode: XdpMode::Auto,
            pin_directory: PathBuf::from("/sys/fs/bpf/auth-agent"),
            plaintext: PlaintextAnswer::Drop,
            plaintext_ports: vec![80],
            replace: false,
            sources: nonzero(1 << 19),
            when_agent_gone: WhenAgentGone::Filter,
        }
    }
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            factor: nonzero(4),
            first: 10 * MINUTE,
            forget_after: 7 * DAY,
            known_factor: nonzero(4),
            longest: DAY,
            on: true,
            prices: Prices {
                auth_failure: 1,
                drop: 20,
                enumeration: 5,
                forged: 5,
                limit: 1,
                plaintext: 0,
                protocol: 5,
            },
            rate: rate(500, HOUR, 500),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            breaker: rate(5_000, SECOND, 10_000),
            credential_failures: rate(10, MINUTE, 20),
            enumeration: Some(EnumerationLimit::default()),
            resets: rate(100, SECOND, 100),
            site_factor: nonzero(16),
            source: SourceLimits::default(),
        }
    }
}

impl Default for EnumerationLimit {
    fn default() -> Self {
        Self { end_after: nonzero(20), objects: nonzero(20), per: 10 * MINUTE, source_factor: nonzero(10) }
    }
}

pub(super) const KEYS_MAX_AGE: Duration = DAY;
pub(super) const REFETCH_INTERVAL: Duration = Duration::from_secs(30);
pub(super) const REFRESH_DEFAULT: Duration = Duration::from_secs(10 * 60);
pub(super) const REFRESH_MAX: Duration = HOUR;
pub(super) const REFRESH_MIN: Duration = MINUTE;

impl Default for Proxies {
    /// Nobody's word counts.
    fn default() -> Self {
        Self { read: Forwarding::XForwarded, send: vec![Forwarding::XForwarded], trusted: Vec::new() }
    }
}

impl Default for Retries {
    /// One more try where the first could not be sent or was lost, none for an answer.
    fn default() -> Self {
        Self { attempts: 1, statuses: Vec::new() }
    }
}

impl RouteTimeouts {
    /// Of a route that says nothing.
    pub(crate) fn within(timeouts: &Timeouts) -> Self {
        Self { body_idle: timeouts.body_idle, request: None, response: timeouts.response }
    }
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            auth_failures: HttpLimit {
                drop_after: nonzero(20),
                drop_for: MINUTE,
                rate: rate(10, MINUTE, 20),
            },
            bytes: ByteRate { burst: 128 << 20, per_second: 64 << 20 },
            connections: rate(50, SECOND, 200),
            packets: rate(20_000, SECOND, 40_000),
            requests: HttpLimit {
                drop_after: nonzero(100),
                drop_for: Duration::from_secs(10),
                rate: rate(100, MINUTE, 100),
            },
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            body_bytes: 10 << 20,
            body_rate: 100,
            connections: size(10_000),
            connections_per_source: size(256),
            handshakes: size(1_000),
            header_bytes: size(32 << 10),
            headers: size(100),
            limit_entries: size(1 << 18),
            streams: nonzero(100),
            token_bytes: size(8 << 10),
            uri_bytes: size(8 << 10),
            workers: None,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { directory: PathBuf::from("/var/lib/auth-agent") }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            body_grace: Duration::from_secs(60),
            body_idle: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            credential_grace: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            response: Duration::from_secs(30),
            upgraded_idle: Duration::from_secs(300),
            upstream_idle: Duration::from_secs(300),
        }
    }
}

impl Upstream {
    /// One that says nothing but where it is.
    pub(crate) fn new(name: &str, endpoints: Vec<Address>) -> Self {
        Self {
            balance: Balance::RoundRobin,
            connections: size(1_000),
            ejection: Ejection { failures: 5, first: SECOND, longest: 30 * SECOND },
            endpoints,
            health_check: None,
            identity: IdentityForm::default(),
            idle_connections: 128,
            // Before a common server would (Node.js: 5 s), so that few requests meet a connection that the upstream
            // has just given up.
            idle_timeout: 4 * SECOND,
            name: Arc::from(name),
            protocol: Protocol::Auto,
            queue: 1_000,
            queue_timeout: 5 * SECOND,
            resolve_every: 30 * SECOND,
            streams: nonzero(100),
            tls: UpstreamTls::default(),
        }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self { cache_bytes: 16 << 20, negative_entries: nonzero(4_096) }
    }
}

fn rate(events: u32, period: Duration, burst: u32) -> Rate {
    Rate { burst: nonzero(burst), events: nonzero(events), period }
}

/// At least 1, for constants that are.
pub(super) const fn nonzero(number: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(number.saturating_sub(1))
}

const fn size(number: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(number.saturating_sub(1))
}
