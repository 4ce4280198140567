//! Envoy, a listener for each guard, with the cache of verified tokens that it has.

use anyhow::Result;
use serde_json::{Value, json};

use crate::agent::Setup;
use crate::bench::gateway::request::{Credentials, RSA_ISSUER};
use crate::bench::gateway::upstream;
use crate::issuer::{AUDIENCE, ISSUER, Issuer};

/// Where it listens without a guard; its other listeners follow.
pub const PORT: u16 = 11_443;

/// Its bootstrap.
pub fn configuration(setup: &Setup, credentials: &Credentials) -> Result<Value> {
    let listeners = [
        listener(setup, PORT, None),
        listener(setup, PORT + 1, Some(guard(ISSUER, &credentials.es256)?)),
        listener(setup, PORT + 2, Some(guard(RSA_ISSUER, &credentials.rs256)?)),
    ];
    let (host, port) = upstream::ADDRESS.split_once(':').unwrap_or_default();
    let cluster = json!({
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "app",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(host, port.parse()?) } }] }],
        },
        "circuit_breakers": { "thresholds": [{
            "max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000,
        }] },
    });
    Ok(json!({ "static_resources": { "listeners": listeners, "clusters": [cluster] } }))
}

fn address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

fn listener(setup: &Setup, port: u16, guard: Option<Value>) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": typed("extensions.filters.http.router.v3.Router", json!({})),
    });
    let filters: Vec<_> = guard.into_iter().chain([router]).collect();
    let file = |name: &str| json!({ "filename": setup.path(name) });
    let manager = json!({
        "stat_prefix": "edge",
        "generate_request_id": false,
        "http_filters": filters,
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app" } }],
        }] },
    });
    let tls = json!({ "common_tls_context": {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [{ "certificate_chain": file("edge.pem"), "private_key": file("edge.key") }],
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
    } });
    json!({
        "address": address("127.0.0.1", port),
        "filter_chains": [{
            "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": typed(
                    "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    manager,
                ),
            }],
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext", tls),
            },
        }],
    })
}

fn guard(name: &str, issuer: &Issuer) -> Result<Value> {
    let keys = json!({ "keys": [issuer.jwk("bench")?] });
    let guard = json!({
        "providers": { "bench": {
            "issuer": name,
            "audiences": [AUDIENCE],
            "local_jwks": { "inline_string": keys.to_string() },
            "jwt_cache_config": { "jwt_cache_size": 1_000 },
        } },
        "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "bench" } }],
    });
    Ok(json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": typed("extensions.filters.http.jwt_authn.v3.JwtAuthentication", guard),
    }))
}

fn typed(kind: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/envoy.{kind}"));
    value
}
