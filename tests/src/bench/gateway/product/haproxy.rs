//! haproxy, a frontend for each guard. Tokens are checked as its documentation has it, but what can only refuse comes
//! before the signature.

use crate::agent::Setup;
use crate::bench::gateway::request::RSA_ISSUER;
use crate::bench::gateway::upstream;
use crate::issuer::{AUDIENCE, ISSUER};

/// Where it listens without a guard; its other frontends follow.
pub const PORT: u16 = 9_443;

/// Its haproxy.cfg.
pub fn configuration(setup: &Setup) -> String {
    let bind = |offset: u16| {
        let certificate = setup.path("both.pem");
        format!("bind 127.0.0.1:{} ssl crt {} alpn h2,http/1.1", PORT + offset, certificate.display())
    };
    let guard = |algorithm: &str, issuer: &str, key: &str| {
        let key = setup.path(key);
        format!(
            r#"    http-request deny deny_status 401 unless {{ http_auth_bearer -m found }}
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str {algorithm} }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str {issuer} }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.aud') -m str {AUDIENCE} }}
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{}") -m int 1 }}"#,
            key.display()
        )
    };
    format!(
        r#"global
    nbthread 1
    maxconn {}
    ssl-default-bind-options ssl-min-ver TLSv1.3

defaults
    mode http
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout http-keep-alive 10m
    http-reuse always
    default_backend app

backend app
    server app {}

frontend plain
    {}

frontend es256
    {}
{}

frontend rs256
    {}
{}
"#,
        super::CONNECTIONS,
        upstream::ADDRESS,
        bind(0),
        bind(1),
        guard("ES256", ISSUER, "es256.pem"),
        bind(2),
        guard("RS256", RSA_ISSUER, "rs256.pem"),
    )
}
