//! What the server tells of itself (RFC 8414, 2).

use bytes::Bytes;
use serde_json::json;

use super::{INTROSPECT, KEYS, REVOKE, TOKEN};
use crate::config::AuthorizationServer;

/// The metadata. Not OpenID Connect's: there are no ID tokens here.
pub(super) fn document(config: &AuthorizationServer) -> Bytes {
    let issuer = &config.issuer.text;
    let url = |path: &str| format!("{issuer}{path}");
    let methods = ["client_secret_basic", "client_secret_post"];
    let document = json!({
        "issuer": issuer,
        "grant_types_supported": ["client_credentials"],
        "introspection_endpoint": url(INTROSPECT),
        "introspection_endpoint_auth_methods_supported": methods,
        "jwks_uri": url(KEYS),
        // Needed, and there is no authorization endpoint that would give any.
        "response_types_supported": [],
        "revocation_endpoint": url(REVOKE),
        "revocation_endpoint_auth_methods_supported": methods,
        "token_endpoint": url(TOKEN),
        "token_endpoint_auth_methods_supported": methods,
    });
    document.to_string().into()
}
