//! Classes 5 and 9: extensions and other kinds of token.

use serde_json::{Value, json};

use super::*;

fn with_header(members: Value) -> String {
    let mut header = json!({"alg": "ES256", "typ": "at+jwt"});
    header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    pair().0.sign(&header.to_string(), &claims().to_string())
}

#[test]
fn extensions_encryption_and_nesting() {
    let (signer, verifier) = pair();
    let good = signer.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let (critical, forbidden) = (TokenError::CriticalHeader, TokenError::HeaderForbidden);
    let rows: Vec<Row> = vec![
        ("crit with an unknown name", with_header(json!({"crit": ["x"], "x": 1})), critical),
        ("crit with a known name", with_header(json!({"crit": ["exp"], "exp": 1})), critical),
        ("crit that names what is not there", with_header(json!({"crit": ["b64"]})), critical),
        ("crit empty", with_header(json!({"crit": []})), critical),
        ("crit null", with_header(json!({"crit": null})), critical),
        ("crit no list", with_header(json!({"crit": "b64"})), critical),
        ("b64 false", with_header(json!({"b64": false, "crit": ["b64"]})), critical),
        ("b64 false, not critical", with_header(json!({"b64": false})), critical),
        ("b64 true", with_header(json!({"b64": true})), critical),
        ("zip", with_header(json!({"zip": "DEF"})), forbidden),
        ("zip null", with_header(json!({"zip": null})), forbidden),
        ("enc", with_header(json!({"enc": "A256GCM"})), forbidden),
        ("cty of a nested token", with_header(json!({"cty": "JWT"})), forbidden),
        ("cty of anything", with_header(json!({"cty": "json"})), forbidden),
        ("an encryption algorithm", with_header(json!({"alg": "RSA-OAEP"})), TokenError::Algorithm),
        ("dir", with_header(json!({"alg": "dir"})), TokenError::Algorithm),
        ("five parts", format!("{good}.{}.{}", parts[1], parts[2]), TokenError::Malformed),
        ("four parts", format!("{good}.{}", parts[2]), TokenError::Malformed),
        ("the JSON serialization", format!(r#"{{"payload":"{}"}}"#, parts[1]), TokenError::Malformed),
    ];
    assert_refused("extensions", &verifier, &good, &rows, 19);
}

#[test]
fn other_kinds_of_token() {
    let (signer, verifier) = pair();
    let claiming = |members: Value| signer.token(&claims_with(members));
    let logout = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let kind = TokenError::Type;
    let rows: Vec<Row> = vec![
        ("an ID token by at_hash", claiming(json!({"at_hash": "x"})), kind),
        ("an ID token by c_hash", claiming(json!({"c_hash": "x"})), kind),
        ("an ID token by s_hash", claiming(json!({"s_hash": "x"})), kind),
        ("an ID token by token_use", claiming(json!({"token_use": "id"})), kind),
        ("an ID token by its typ claim", claiming(json!({"typ": "ID"})), kind),
        ("a refresh token by its typ claim", claiming(json!({"typ": "Refresh"})), kind),
        ("a refresh token by token_type", claiming(json!({"token_type": "refresh"})), kind),
        ("a refresh token by type", claiming(json!({"type": "refresh"})), kind),
        ("an offline token", claiming(json!({"typ": "Offline"})), kind),
        ("a logout token by its events", claiming(json!({"events": logout})), kind),
        ("a security event token", claiming(json!({"events": {}})), kind),
        ("logout+jwt", with_header(json!({"typ": "logout+jwt"})), kind),
        ("secevent+jwt", with_header(json!({"typ": "secevent+jwt"})), kind),
        ("dpop+jwt", with_header(json!({"typ": "dpop+jwt"})), kind),
        ("a refresh token's typ", with_header(json!({"typ": "rt+jwt"})), kind),
        ("an authorization request", with_header(json!({"typ": "oauth-authz-req+jwt"})), kind),
        ("a typ that is no string", with_header(json!({"typ": ["at+jwt"]})), kind),
        ("an empty typ", with_header(json!({"typ": ""})), kind),
        ("another audience", claiming(json!({"aud": "https://app.example"})), TokenError::Audience),
        ("the client as audience", claiming(json!({"aud": "app"})), TokenError::Audience),
        ("another issuer", claiming(json!({"iss": "https://evil.example"})), TokenError::Issuer),
        (
            "the issuer with a slash more",
            claiming(json!({"iss": "https://issuer.example/"})),
            TokenError::Issuer,
        ),
    ];
    assert_refused("kind", &verifier, &signer.token(&claims()), &rows, 22);
}
