//! Each endpoint, by its RFC.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::explain::RequestId;
use crate::refusal::respond_endpoint;

const GRANT: &str = "grant_type=client_credentials";

fn claims(token: &str) -> (Value, Value) {
    let part = |at: usize| {
        let part = token.split('.').nth(at).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    (part(0), part(1))
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

#[tokio::test]
async fn a_key_is_exchanged_for_a_token_that_says_what_rfc_9068_wants() {
    let site = Site::open("token_lifetime = \"2m\"");
    let key = site.key(|_| ());
    let answered = {
        let header = basic(&key.id().to_string(), key.expose());
        site.send(Endpoint::Token, &posted(&[("authorization", &header)]), GRANT, at(0)).await.unwrap()
    };
    assert_eq!(answered.response.status(), 200);
    assert_eq!(answered.response.headers()["cache-control"], "no-store");
    assert_eq!(answered.response.headers()["content-type"], "application/json");
    assert_eq!(answered.client.unwrap().facts().key, Some(key.id()));
    let answer = json_of(answered.response).await;
    assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(120)));
    assert_eq!(answer["scope"], "read write");
    let token = answer["access_token"].as_str().unwrap();
    let (header, claims) = claims(token);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    assert_eq!(header["kid"], site.issuer.keys.report(NOW)[0].kid);
    let jti = claims["jti"].as_str().unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(jti).unwrap().len(), 16);
    let expected = json!({
        "iss": "https://edge.example/auth", "sub": "billing", "aud": "https://api.example", "client_id": key.id(),
        "iat": NOW, "exp": NOW.0 + 120, "jti": jti, "scope": "read write",
    });
    assert_eq!(claims, expected);

    let identity = site.use_token(token, at(1)).unwrap();
    let facts = identity.facts();
    assert_eq!(
        (facts.key, &*facts.subject, facts.issuer.as_deref()),
        (Some(key.id()), "billing", Some("self"))
    );
    assert_eq!(site.use_token(token, at(131)).unwrap_err().name(), "token-expired");
    let another = site.token(&key, at(0)).await;
    assert_ne!(token, another, "each has an id of its own");
}

#[tokio::test]
async fn scopes_can_be_narrowed_and_never_widened() {
    let site = Site::open("");
    let key = site.key(|_| ());
    let none = site.key(|key| key.scopes.clear());
    let table = [
        (&key, "", Ok("read write")),
        (&key, "&scope=", Ok("read write")),
        (&key, "&scope=read", Ok("read")),
        (&key, "&scope=write+read", Ok("write read")),
        (&key, "&scope=read%20read", Ok("read")),
        (&key, "&scope=+", Err(Refusal::ScopeInvalid)),
        (&key, "&scope=admin", Err(Refusal::ScopeInvalid)),
        (&key, "&scope=read+admin", Err(Refusal::ScopeInvalid)),
        (&key, "&scope=READ", Err(Refusal::ScopeInvalid)),
        (&none, "", Ok("")),
        (&none, "&scope=read", Err(Refusal::ScopeInvalid)),
    ];
    for (key, form, expected) in table {
        let answer = site.post(Endpoint::Token, key, &format!("{GRANT}{form}"), at(0)).await;
        let scope = answer.map(|answer| answer["scope"].as_str().unwrap_or_default().to_owned());
        assert_eq!(scope, expected.map(str::to_owned), "{form}");
    }
}

#[tokio::test]
async fn a_token_never_outlives_its_key_and_ends_with_it() {
    let site = Site::open("");
    let short = site.key(|key| key.expires = Some(UnixTime(NOW.0 + 30)));
    let answer = site.post(Endpoint::Token, &short, GRANT, at(0)).await.unwrap();
    assert_eq!(answer["expires_in"], 30);
    let token = answer["access_token"].as_str().unwrap();
    assert!(site.use_token(token, at(29)).is_ok());
    assert_eq!(site.use_token(token, at(30)).err(), Some(Refusal::ApiKeyExpired), "no leeway for the key");
    let key = site.key(|_| ());
    let token = site.token(&key, at(0)).await;
    assert!(site.use_token(&token, at(1)).is_ok());
    site.ring.revoke(key.id());
    assert_eq!(site.use_token(&token, at(2)).err(), Some(Refusal::ApiKeyRevoked));
}

#[tokio::test]
async fn a_client_goes_by_the_rules_of_its_key() {
    let site = Site::open("");
    let key = site.key(|_| ());
    let (id, text) = (key.id().to_string(), key.expose().to_owned());
    let other = ApiKey::generate().unwrap();
    let revoked = site.key(|key| key.revoked = Some(UnixTime(2)));
    let expired = site.key(|key| key.expires = Some(NOW));
    let elsewhere = site.key(|key| key.networks = vec!["198.51.100.0/24".parse().unwrap()]);
    let form = |key: &ApiKey| format!("client_id={}&client_secret={}&{GRANT}", key.id(), key.expose());
    let good = basic(&id, &text);
    let escaped = basic(&id, &text.replace('_', "%5F"));
    let padded = basic(&id, &format!("{text} "));
    let swapped = basic(&other.id().to_string(), &text);
    let unknown = basic(&other.id().to_string(), other.expose());
    type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, String, Option<(u16, &'a str, &'a str)>);
    let header = |value| vec![("authorization", value)];
    let table: Vec<Row<'_>> = vec![
        ("in the header", header(good.as_str()), GRANT.into(), None),
        ("in the header, escaped", header(escaped.as_str()), GRANT.into(), None),
        ("in the header, its id in the form", header(good.as_str()), format!("{GRANT}&client_id={id}"), None),
        ("in the form", vec![], form(&key), None),
        ("not at all", vec![], GRANT.into(), Some((401, "invalid_client", "client-missing"))),
        (
            "a secret without an id",
            vec![],
            format!("{GRANT}&client_secret={text}"),
            Some((400, "invalid_request", "form-invalid")),
        ),
        ("in both", header(good.as_str()), form(&key), Some((400, "invalid_request", "form-invalid"))),
        (
            "another id in the form",
            header(good.as_str()),
            format!("{GRANT}&client_id={}", other.id()),
            Some((400, "invalid_request", "form-invalid")),
        ),
        (
            "twice in the header",
            vec![("authorization", good.as_str()); 2],
            GRANT.into(),
            Some((400, "invalid_request", "form-invalid")),
        ),
        (
            "as a bearer token",
            header("Bearer x"),
            GRANT.into(),
            Some((401, "invalid_client", "credential-malformed")),
        ),
        (
            "not base64",
            header("Basic !"),
            GRANT.into(),
            Some((401, "invalid_client", "credential-malformed")),
        ),
        (
            "another key's id",
            header(swapped.as_str()),
            GRANT.into(),
            Some((401, "invalid_client", "api-key-invalid")),
        ),
        (
            "with a space",
            header(padded.as_str()),
            GRANT.into(),
            Some((401, "invalid_client", "api-key-invalid")),
        ),
        ("unknown", header(unknown.as_str()), GRANT.into(), Some((401, "invalid_client", "api-key-invalid"))),
        ("revoked", vec![], form(&revoked), Some((401, "invalid_client", "api-key-revoked"))),
        ("expired", vec![], form(&expired), Some((401, "invalid_client", "api-key-expired"))),
        ("from elsewhere", vec![], form(&elsewhere), Some((403, "unauthorized_client", "api-key-network"))),
        (
            "from a browser",
            vec![("origin", "null")],
            form(&key),
            Some((403, "unauthorized_client", "api-key-browser")),
        ),
        (
            "from a browser, too",
            vec![("sec-fetch-mode", "cors")],
            form(&key),
            Some((403, "unauthorized_client", "api-key-browser")),
        ),
    ];
    for (what, headers, form, expected) in table {
        let answer = site.send(Endpoint::Token, &posted(&headers), &form, at(0)).await;
        let Some((status, error, reason)) = expected else {
            assert!(answer.is_ok(), "{what}: {answer:?}");
            continue;
        };
        let response = respond_endpoint(&answer.expect_err(what), &RequestId::make());
        assert_eq!(response.status(), status, "{what}");
        assert_eq!(response.headers()["cache-control"], "no-store", "{what}");
        let challenged = response
            .headers()
            .get("www-authenticate")
            .is_some_and(|value| value == "Basic realm=\"auth-agent\"");
        let used_header = headers.iter().any(|(name, _)| *name == "authorization");
        assert_eq!(challenged, status == 401 && (used_header || reason == "client-missing"), "{what}");
        let body = json_of(response).await;
        assert_eq!((&body["error"], &body["reason"]), (&json!(error), &json!(reason)), "{what}");
        assert!(body["error_description"].is_string() && !body.to_string().contains(&text), "{what}");
    }
}

#[tokio::test]
async fn what_is_not_a_form_of_rfc_6749_is_an_invalid_request() {
    let site = Site::open("");
    let key = site.key(|_| ());
    let client = format!("client_id={}&client_secret={}", key.id(), key.expose());
    let invalid = Some(Refusal::FormInvalid);
    let table = [
        ("no grant type", client.clone(), invalid),
        ("an empty grant type", format!("{client}&grant_type="), invalid),
        ("a parameter twice", format!("{client}&{GRANT}&{GRANT}"), invalid),
        ("an unknown parameter twice", format!("{client}&{GRANT}&x=1&x=2"), invalid),
        ("the secret twice, once escaped", format!("{client}&{GRANT}&client%5Fsecret=x"), invalid),
        ("a long body", format!("{client}&{GRANT}&x={}", "a".repeat(17_000)), invalid),
        (
            "many parameters",
            format!("{client}&{GRANT}{}", (0..40).map(|n| format!("&p{n}=1")).collect::<String>()),
            invalid,
        ),
        ("an unknown parameter", format!("{client}&{GRANT}&x=1"), None),
        ("an empty parameter", format!("{client}&{GRANT}&x"), None),
        ("a password grant", format!("{client}&grant_type=password"), Some(Refusal::GrantUnsupported)),
        (
            "another spelling",
            format!("{client}&grant_type=Client_Credentials"),
            Some(Refusal::GrantUnsupported),
        ),
        ("a refresh token", format!("{client}&grant_type=refresh_token"), Some(Refusal::GrantUnsupported)),
    ];
    for (what, form, expected) in table {
        let refused = site.send(Endpoint::Token, &posted(&[]), &form, at(0)).await.err();
        assert_eq!(refused.map(|refused| refused.refusal), expected, "{what}");
    }
    let form = format!("{client}&{GRANT}");
    for kind in ["application/json", "text/plain", "", "multipart/form-data; boundary=x"] {
        let refused =
            site.send(Endpoint::Token, &posted(&[("content-type", kind)]), &form, at(0)).await.err();
        assert_eq!(refused.map(|refused| refused.refusal), invalid, "{kind}");
    }
    let charset = [("content-type", "Application/X-WWW-Form-Urlencoded; charset=UTF-8")];
    assert!(site.send(Endpoint::Token, &posted(&charset), &form, at(0)).await.is_ok());
    let mut in_query = posted(&[]);
    in_query.uri = format!("/auth/oauth2/token?{form}").parse().unwrap();
    let refused = site.send(Endpoint::Token, &in_query, &form, at(0)).await.err();
    assert_eq!(refused.map(|refused| refused.refusal), invalid, "a query");
}

#[tokio::test]
async fn a_token_that_would_be_too_long_to_use_is_not_issued() {
    let site = Site::open("[sizes]\ntoken_bytes = 512");
    let wordy = site.key(|key| key.scopes = (0..20).map(|number| format!("scope-number-{number}")).collect());
    let ask = |form| site.post(Endpoint::Token, &wordy, form, at(0));
    assert_eq!(ask("grant_type=client_credentials").await.err(), Some(Refusal::ScopeInvalid));
    assert!(ask("grant_type=client_credentials&scope=scope-number-1").await.is_ok());
}

#[tokio::test]
async fn introspection_tells_who_may_ask_of_our_valid_tokens_alone() {
    let site = Site::open("introspection_scope = \"peek\"");
    let (client, asker) = (site.key(|_| ()), site.key(|key| key.scopes = vec!["peek".into()]));
    let token = site.token(&client, at(0)).await;
    let about = |token: &str| format!("token={token}&token_type_hint=access_token");
    let answer = site.post(Endpoint::Introspect, &asker, &about(&token), at(1)).await.unwrap();
    let (_, claims) = claims(&token);
    for claim in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"] {
        assert_eq!(answer[claim], claims[claim], "{claim}");
    }
    assert_eq!((&answer["active"], &answer["token_type"]), (&json!(true), &json!("Bearer")));
    let inactive = json!({ "active": false });
    for (what, text) in [("garbage", "x.y.z"), ("a key", client.expose()), ("cut", &token[..token.len() - 2])]
    {
        assert_eq!(
            site.post(Endpoint::Introspect, &asker, &about(text), at(1)).await,
            Ok(inactive.clone()),
            "{what}"
        );
    }
    let exp = claims["exp"].as_u64().unwrap() - NOW.0;
    let active = site.post(Endpoint::Introspect, &asker, &about(&token), at(exp - 1)).await.unwrap();
    assert_eq!(active["active"], true, "a second before it ends");
    assert!(site.use_token(&token, at(exp)).is_ok(), "we allow a leeway");
    let ended = site.post(Endpoint::Introspect, &asker, &about(&token), at(exp)).await;
    assert_eq!(ended, Ok(inactive.clone()), "and leave it to the asker to allow one");
    site.post(Endpoint::Revoke, &client, &about(&token), at(2)).await.unwrap();
    assert_eq!(site.post(Endpoint::Introspect, &asker, &about(&token), at(3)).await, Ok(inactive));
    let refused = site.post(Endpoint::Introspect, &client, &about(&token), at(1)).await;
    assert_eq!(refused, Err(Refusal::ScopeMissing));
    assert_eq!(site.post(Endpoint::Introspect, &asker, "x=1", at(1)).await, Err(Refusal::FormInvalid));
}

#[tokio::test]
async fn a_client_revokes_its_own_tokens_and_only_those() {
    let site = Site::open("");
    let (client, other) = (site.key(|_| ()), site.key(|_| ()));
    let token = site.token(&client, at(0)).await;
    let about = format!("token={token}&token_type_hint=refresh_token");
    assert_eq!(site.post(Endpoint::Revoke, &other, &about, at(1)).await, Err(Refusal::TokenForeign));
    assert!(site.use_token(&token, at(1)).is_ok());
    *site.revoke.fails.lock().unwrap() = true;
    assert_eq!(site.post(Endpoint::Revoke, &client, &about, at(1)).await, Err(Refusal::IssuerFailed));
    *site.revoke.fails.lock().unwrap() = false;
    for what in ["valid", "revoked before"] {
        assert!(site.post(Endpoint::Revoke, &client, &about, at(2)).await.is_ok(), "{what}");
        assert_eq!(site.use_token(&token, at(2)).err(), Some(Refusal::CredentialRevoked), "{what}");
    }
    for unknown in ["token=x", "token=x.y.z"] {
        assert!(
            site.post(Endpoint::Revoke, &client, unknown, at(2)).await.is_ok(),
            "RFC 7009, 2.2: {unknown}"
        );
    }
    assert_eq!(site.post(Endpoint::Revoke, &client, "", at(2)).await, Err(Refusal::FormInvalid));
}

#[tokio::test]
async fn the_metadata_and_the_key_set_are_public_and_say_where_all_is() {
    let site = Site::open("");
    let get = Request::get("/").body(()).unwrap().into_parts().0;
    let answered = site.send(Endpoint::Metadata, &get, "", at(0)).await.unwrap();
    assert_eq!(answered.response.headers()["cache-control"], "public, max-age=300");
    let metadata = json_of(answered.response).await;
    for (member, expected) in [
        ("issuer", json!("https://edge.example/auth")),
        ("token_endpoint", json!("https://edge.example/auth/oauth2/token")),
        ("revocation_endpoint", json!("https://edge.example/auth/oauth2/revoke")),
        ("introspection_endpoint", json!("https://edge.example/auth/oauth2/introspect")),
        ("jwks_uri", json!("https://edge.example/auth/.well-known/jwks.json")),
        ("grant_types_supported", json!(["client_credentials"])),
        ("response_types_supported", json!([])),
        ("token_endpoint_auth_methods_supported", json!(["client_secret_basic", "client_secret_post"])),
    ] {
        assert_eq!(metadata[member], expected, "{member}");
    }
    let answered = site.send(Endpoint::Keys, &get, "", at(0)).await.unwrap();
    assert_eq!(answered.response.headers()["content-type"], "application/jwk-set+json");
    let keys = json_of(answered.response).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let post = posted(&[]);
    for (endpoint, request, allow) in [
        (Endpoint::Metadata, &post, "GET, HEAD"),
        (Endpoint::Keys, &post, "GET, HEAD"),
        (Endpoint::Token, &get, "POST"),
        (Endpoint::Revoke, &get, "POST"),
        (Endpoint::Introspect, &get, "POST"),
    ] {
        let refused = site.send(endpoint, request, "", at(0)).await.unwrap_err();
        let response = respond_endpoint(&refused, &RequestId::make());
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &HeaderValue::from_static(allow))
        );
    }
}

#[test]
fn the_server_answers_at_its_host_and_path_alone() {
    let site = Site::open("");
    let endpoint = |host: &str, path: &str| {
        let request = Request::get(path).header("host", host).body(()).unwrap().into_parts().0;
        let canonical = crate::request::canonicalise(&request, None, &config("").sizes).unwrap();
        site.server.endpoint(&canonical)
    };
    for (host, path, expected) in [
        ("edge.example", "/auth/oauth2/token", Some(Endpoint::Token)),
        ("EDGE.example", "/auth/oauth2/token", Some(Endpoint::Token)),
        ("edge.example:443", "/auth/oauth2/%74oken", Some(Endpoint::Token)),
        ("edge.example", "/auth/oauth2/revoke", Some(Endpoint::Revoke)),
        ("edge.example", "/auth/oauth2/introspect", Some(Endpoint::Introspect)),
        ("edge.example", "/auth/.well-known/jwks.json", Some(Endpoint::Keys)),
        ("edge.example", "/.well-known/oauth-authorization-server/auth", Some(Endpoint::Metadata)),
        ("edge.example", "/.well-known/oauth-authorization-server", None),
        ("edge.example", "/auth/.well-known/oauth-authorization-server", None),
        ("edge.example", "/.well-known/jwks.json", None),
        ("edge.example", "/oauth2/token", None),
        ("edge.example", "/auth/oauth2/token/", None),
        ("edge.example", "/auth/oauth2/tokens", None),
        ("edge.example", "/authoauth2/token", None),
        ("edge.example:8443", "/auth/oauth2/token", None),
        ("other.example", "/auth/oauth2/token", None),
    ] {
        assert_eq!(endpoint(host, path), expected, "{host} {path}");
    }
}
