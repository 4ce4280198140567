use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::config::tests::MINIMAL;
use crate::config::{Auth, HeaderChanges, Route, Sizes};
use crate::explain::RequestId;
use crate::identity::tests::someone;
use crate::identity::{Facts, Method};
use crate::request;

fn rules() -> Rules {
    Rules::new(&Config::parse(MINIMAL, Path::new("edge.toml")).unwrap())
}

fn target() -> Canonical {
    let some = |number| NonZeroUsize::new(number).unwrap();
    let sizes = Sizes {
        body_bytes: 0,
        connections: some(1),
        connections_per_source: some(1),
        handshakes: some(1),
        header_bytes: some(1),
        headers: some(1),
        streams: NonZeroU32::MIN,
        token_bytes: some(1),
        uri_bytes: some(64),
        workers: None,
        ..Sizes::default()
    };
    let request = Request::get("/").header("host", "api.example").body(()).unwrap();
    request::canonicalise(&request.into_parts().0, None, &sizes).unwrap()
}

fn forward(fields: &[(&str, &str)], identity: Option<&Arc<Identity>>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    let source = IpAddr::from([192, 0, 2, 9]);
    let route = Route::under("/", Auth::Required, &[], 0);
    let permit = Permit::of(&route, identity.cloned());
    rules().to_upstream(
        &mut headers,
        Version::HTTP_11,
        &target(),
        (source, &RequestId::parse("id-1").unwrap()),
        &permit,
    );
    headers
}

fn alice() -> Arc<Identity> {
    someone(Method::Jwt, "alice", &["read", "write"])
}

/// What is there for any request, so that the tests below compare whole header maps.
const ALWAYS: [(&str, &str); 6] = [
    ("x-request-id", "id-1"),
    ("host", "api.example"),
    ("x-forwarded-for", "192.0.2.9"),
    ("x-forwarded-host", "api.example"),
    ("x-forwarded-proto", "https"),
    ("via", "1.1 auth-agent"),
];

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    fields
        .iter()
        .map(|(field, value)| (name(field), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        .collect()
}

#[test]
fn what_only_we_may_say_is_stripped_in_every_spelling() {
    for name in [
        "X-Auth-Subject",
        "x-auth-subject",
        "X_Auth_Subject",
        "x.auth.subject",
        "x-auth_subject",
        "X-AUTH-METHOD",
        "X-Auth-Client",
        "x_auth_client",
        "X-Auth-Issuer",
        "x_auth.issuer",
        "X-AUTH-TENANT",
        "x.auth.tenant",
        "x_auth_scopes",
        "Authorization",
        "X-API-Key",
        "x_api_key",
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-User",
        "X-Forwarded-Port",
        "x_forwarded.prefix",
        "Forwarded",
        "X-Real-IP",
        "x_real_ip",
        "True-Client-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-HTTP-Method",
        "x_http_method_override",
        "Proxy",
        "Proxy-Authorization",
        "proxy_connection",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Expect",
        "Content-Length",
    ] {
        let headers = forward(&[(name, "evil"), ("accept", "*/*"), (name, "evil")], None);
        let mut expected = map(&ALWAYS);
        expected.insert("accept", HeaderValue::from_static("*/*"));
        assert_eq!(headers, expected, "{name}");
    }
}

#[test]
fn what_looks_alike_is_kept() {
    let kept = [
        ("x-auth-subjects", "1"),
        ("x-forwarded", "1"),
        ("x-apikey", "1"),
        ("host-x", "1"),
        ("upgraded", "1"),
    ];
    let headers = forward(&kept, None);
    assert_eq!(headers, map(&[&kept[..], &ALWAYS].concat()));
}

#[test]
fn the_identity_replaces_whatever_the_client_claimed() {
    let claims = [("x-auth-subject", "root"), ("x_auth_subject", "root"), ("X-Auth-Scopes", "admin")];
    let headers = forward(&claims, Some(&alice()));
    let identity = [("x-auth-method", "jwt"), ("x-auth-subject", "alice"), ("x-auth-scopes", "read write")];
    assert_eq!(headers, map(&[&identity[..], &ALWAYS].concat()));
}

#[test]
fn client_and_tenant_are_told_where_the_credential_names_them() {
    let claims = [("x-auth-client", "evil"), ("x-auth-tenant", "evil")];
    let facts = Facts { client: Some("app 1".into()), ..Facts::new(Method::Jwt, "alice") };
    let headers = forward(&claims, Some(&Identity::verified(facts)));
    assert_eq!(
        (&headers["x-auth-client"], headers.get("x-auth-tenant")),
        (&HeaderValue::from_static("app%201"), None)
    );
    let facts = Facts { tenant: Some("acme".into()), ..Facts::new(Method::Jwt, "alice") };
    let headers = forward(&claims, Some(&Identity::verified(facts)));
    assert_eq!(
        (headers.get("x-auth-client"), &headers["x-auth-tenant"]),
        (None, &HeaderValue::from_static("acme"))
    );
}

#[test]
fn the_issuer_of_a_token_is_told_by_its_name_in_the_configuration_and_a_key_has_none() {
    let claims = [("x-auth-issuer", "evil"), ("X_Auth_Issuer", "evil")];
    let facts = Facts { issuer: Some("corp".into()), ..Facts::new(Method::Jwt, "alice") };
    let headers = forward(&claims, Some(&Identity::verified(facts)));
    assert_eq!(headers["x-auth-issuer"], "corp");
    let headers = forward(&claims, Some(&Identity::verified(Facts::new(Method::ApiKey, "ci"))));
    assert!(headers.keys().all(|name| !name.as_str().contains("issuer")), "{headers:?}");
}

#[test]
fn connection_nominates_only_what_the_client_sent() {
    let fields = [
        ("connection", "close, X-Auth-Subject, x-forwarded-for , host"),
        ("connection", "x-drop-me, via, bad name, ,x-auth-method"),
        ("x-drop-me", "1"),
        ("x-keep-me", "1"),
    ];
    let headers = forward(&fields, Some(&alice()));
    let identity = [("x-auth-method", "jwt"), ("x-auth-subject", "alice"), ("x-auth-scopes", "read write")];
    assert_eq!(headers, map(&[&[("x-keep-me", "1")][..], &identity, &ALWAYS].concat()));
}

#[test]
fn te_keeps_trailers_and_via_is_appended() {
    let headers = forward(&[("te", "gzip, Trailers;q=1"), ("te", "trailers"), ("via", "1.1 edge")], None);
    assert_eq!(headers.get_all("te").iter().collect::<Vec<_>>(), ["trailers"]);
    assert_eq!(headers.get_all("via").iter().collect::<Vec<_>>(), ["1.1 edge", "1.1 auth-agent"]);
}

#[test]
fn a_route_changes_fields_in_every_spelling_whatever_the_client_nominates() {
    let name = HeaderName::from_static;
    let changes = HeaderChanges {
        remove: vec![name("x-debug"), name("x-absent")],
        set: vec![(name("x-edge"), HeaderValue::from_static("1"))],
    };
    let route = Route {
        request_headers: changes.clone(),
        response_headers: changes,
        ..Route::under("/", Auth::None, &[], 0)
    };
    let permit = Permit::of(&route, None);
    let sent = [
        ("connection", "x-edge"),
        ("x_edge", "0"),
        ("x-edge", "0"),
        ("x.debug", "1"),
        ("x-debug", "1"),
        ("accept", "*/*"),
    ];
    let (mut headers, source) = (map(&sent), IpAddr::from([192, 0, 2, 9]));
    rules().to_upstream(
        &mut headers,
        Version::HTTP_11,
        &target(),
        (source, &RequestId::parse("id-1").unwrap()),
        &permit,
    );
    let mut expected = map(&ALWAYS);
    expected.extend(map(&[("accept", "*/*"), ("x-edge", "1")]));
    assert_eq!(headers, expected);

    let mut headers =
        map(&[("connection", "close, x-gone"), ("x-gone", "1"), ("x-debug", "1"), ("server", "s")]);
    rules().to_client(&mut headers, Version::HTTP_2, &permit);
    assert_eq!(headers, map(&[("server", "s"), ("via", "2 auth-agent"), ("x-edge", "1")]));
}

#[test]
fn the_way_of_a_request_is_told_in_the_fields_that_are_wanted() {
    let x = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    let all = ["forwarded", x[0], x[1], x[2]];
    for (send, expected) in [
        ("[]", &[][..]),
        ("[\"x-forwarded\"]", &x),
        ("[\"forwarded\"]", &all[..1]),
        ("[\"forwarded\", \"x-forwarded\"]", &all),
    ] {
        let config = format!("{MINIMAL}[proxies]\nsend = {send}\n");
        let rules = Rules::new(&Config::parse(&config, Path::new("edge.toml")).unwrap());
        let route = Route::under("/", Auth::None, &[], 0);
        let mut headers = map(&[("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "1.1.1.1")]);
        let source = "2001:db8::9".parse().unwrap();
        rules.to_upstream(
            &mut headers,
            Version::HTTP_11,
            &target(),
            (source, &RequestId::parse("id-1").unwrap()),
            &Permit::of(&route, None),
        );
        let mut names: Vec<_> =
            headers.keys().map(HeaderName::as_str).filter(|name| name.contains("forwarded")).collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{send}");
        let told = headers.get("forwarded").map(|value| value.to_str().unwrap().to_owned());
        let wanted = "for=\"[2001:db8::9]\";by=_auth-agent;host=api.example;proto=https";
        assert_eq!(told.as_deref(), send.contains("\"forwarded").then_some(wanted));
        assert!(headers.get("x-forwarded-for").is_none_or(|value| value == "2001:db8::9"));
    }
}

#[test]
fn split_cookies_are_joined() {
    let headers = forward(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], None);
    assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
}

#[test]
fn an_identity_that_is_no_header_value_is_escaped() {
    for (subject, expected) in [
        ("auth0|123", "auth0|123"),
        ("a b", "a%20b"),
        ("a%20b", "a%2520b"),
        (" a\r\nx-admin: 1", "%20a%0D%0Ax-admin:%201"),
        ("zoë\0", "zo%C3%AB%00"),
        ("", ""),
    ] {
        let identity = someone(Method::ApiKey, subject, &["a b", "c"]);
        let headers = forward(&[], Some(&identity));
        assert_eq!(headers["x-auth-subject"], expected);
        assert_eq!(headers["x-auth-scopes"], "a%20b c");
        assert_eq!(headers["x-auth-method"], "api-key");
    }
}

proptest! {
    #[test]
    fn no_two_subjects_look_the_same(one in any::<String>(), other in any::<String>()) {
        let of = |text: &str| encoded(std::iter::once(text));
        prop_assert_eq!(of(&one) == of(&other), one == other);
        prop_assert!(of(&one).as_bytes().iter().all(u8::is_ascii_graphic));
    }
}
