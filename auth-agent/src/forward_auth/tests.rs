mod desk;
mod proxies;

use http::HeaderMap;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};

use self::desk::{Desk, GOOD};
use super::grpc::tests as grpc;
use crate::limits::tests::{Charged, Fake};

const CLIENT: &str = "198.51.100.7";

/// How each dialect asks about a request: path and fields, besides what the client sent.
fn question(dialect: &str, method: &str, target: &str) -> (String, String, Vec<(String, String)>) {
    let (method_field, uri_field, host_field, client_field) = match dialect {
        "nginx" => ("x-original-method", "x-original-uri", "x-original-host", "x-real-ip"),
        _ => ("x-forwarded-method", "x-forwarded-uri", "x-forwarded-host", "x-forwarded-for"),
    };
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    if dialect == "envoy" {
        let fields = vec![field("host", "api.example"), field("x-real-ip", CLIENT)];
        return (method.to_owned(), format!("/verify/envoy{target}"), fields);
    }
    let fields = vec![
        field("host", "agent.internal"),
        field(method_field, method),
        field(uri_field, target),
        field(host_field, "api.example"),
        field(client_field, CLIENT),
    ];
    ("GET".to_owned(), format!("/verify/{dialect}"), fields)
}

const DIALECTS: [&str; 4] = ["caddy", "envoy", "nginx", "traefik"];

/// Those, and what is asked in a message of its own.
const ALL: [&str; 5] = ["caddy", "envoy", GRPC, "nginx", "traefik"];
const GRPC: &str = "envoy-grpc";

async fn ask(
    desk: &Desk,
    dialect: &str,
    (method, target): (&str, &str),
    sent: &[(&str, &str)],
) -> (u16, HeaderMap, String) {
    let sent = sent.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    if dialect == GRPC {
        let sent: Vec<_> = sent.collect();
        let (status, headers, body, _) = check(desk, (method, target), &sent).await;
        return (status, headers, body);
    }
    let (method, path, mut fields) = question(dialect, method, target);
    fields.extend(sent);
    desk.ask(&method, &path, &fields).await
}

/// The same by gRPC, with what is taken off the request.
async fn check(
    desk: &Desk,
    request: (&str, &str),
    sent: &[(String, String)],
) -> (u16, HeaderMap, String, Vec<String>) {
    let call = grpc::call((CLIENT, "api.example"), request, sent);
    grpc::answer(&desk.call(CHECK, call).await.1)
}

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

#[tokio::test]
async fn by_grpc_the_credential_and_what_only_we_may_say_is_taken_off_in_every_spelling() {
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    let sent = [
        GOOD,
        ("x-auth-subject", "root"),
        ("x_auth_subject", "root"),
        ("x_api.key", "ak"),
        ("x-auth-tenant", "t"),
        ("x-http-method-override", "PUT"),
        ("x-forwarded-for", "198.51.100.7"),
        ("x_forwarded_for", "192.0.2.1"),
        ("x-forwarded-user", "root"),
        ("remote-user", "root"),
        ("x-mine", "1"),
    ];
    let sent = sent.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (status, headers, _, mut removed) = check(&desk, ("GET", "/x"), &sent).await;
    assert_eq!((status, &headers["x-auth-subject"]), (200, &"alice".parse().unwrap()));
    let expected = [
        "authorization",
        "remote-user",
        "x-auth-client",
        "x-auth-issuer",
        "x-auth-tenant",
        "x-forwarded-user",
        "x-http-method-override",
        "x_api.key",
        "x_auth_subject",
        "x_forwarded_for",
    ];
    removed.sort();
    assert_eq!(removed, expected);
    let (_, headers, _, removed) = check(&desk, ("GET", "/open"), &sent[1..]).await;
    assert!(!headers.contains_key("x-auth-subject") && removed.contains(&"x-auth-subject".to_owned()));
}

#[tokio::test]
async fn by_grpc_two_fields_are_not_one() {
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    for (name, value) in [GOOD, ("x-api-key", "ak_good")] {
        let (status, _, _) = ask(&desk, GRPC, ("GET", "/x"), &[(name, value)]).await;
        assert_eq!(status, 200, "{name}");
        let (status, _, body) = ask(&desk, GRPC, ("GET", "/x"), &[(name, value), (name, value)]).await;
        assert!(status == 401 && body.contains("credential-ambiguous"), "{name}: {status} {body}");
    }
}

#[tokio::test]
async fn what_is_no_call_of_check_is_answered_404_and_one_that_can_not_be_read_denies() {
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    let good = grpc::call((CLIENT, "api.example"), ("GET", "/open"), &[]);
    for path in
        ["/envoy.service.auth.v2.Authorization/Check", "/envoy.service.auth.v3.Authorization/check", "/"]
    {
        assert_eq!(desk.call(path, good.clone()).await.0, 404, "{path}");
    }
    // Over HTTP/1.1, where there are no trailers.
    let kind =
        vec![("host".to_owned(), "a".to_owned()), ("content-type".to_owned(), "application/grpc".to_owned())];
    assert_eq!(desk.ask("POST", CHECK, &kind).await.0, 404);
    let (status, answer) = desk.call(CHECK, good[..9].to_vec()).await;
    let (refused, _, body, _) = grpc::answer(&answer);
    assert!((status, refused) == (200, 400) && body.contains("question-invalid"), "{body}");
    assert!(desk.debts.charged.lock().unwrap().is_empty(), "nobody is charged for what nobody sent");
    assert_eq!(grpc::answer(&desk.call(CHECK, good).await.1).0, 200);
}

/// By no connection of ours: that is the proxy's.
#[tokio::test]
async fn who_walks_through_the_objects_of_others_is_slowed_and_goes_on_from_its_own_address() {
    for dialect in ALL {
        let desk = Desk::start(Fake { foreign_budget: 1, ..Fake::new(1000, 1000) }).await;
        // nginx knows no more of a verdict than yes, 401 and no.
        let slowed = if dialect == "nginx" { 403 } else { 429 };
        for (target, status) in
            [("/own/alice", 200), ("/own/bob", 403), ("/own/carol", slowed), ("/own/alice", slowed)]
        {
            assert_eq!(ask(&desk, dialect, ("GET", target), &[GOOD]).await.0, status, "{dialect} {target}");
        }
        let going_on = (CLIENT.parse().unwrap(), "alice".to_owned(), false);
        assert_eq!(*desk.debts.going_on.lock().unwrap(), [going_on.clone(), going_on], "{dialect}");
        desk.stop().await;
    }
}

#[tokio::test]
async fn each_proxy_gets_the_verdict_that_the_gateway_would_have_given() {
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    let bad = ("authorization", "Bearer bad");
    for dialect in ALL {
        for (method, target, sent, status, reason) in [
            ("GET", "/x?q=1", &[GOOD][..], 200, ""),
            ("DELETE", "/x", &[GOOD], 200, ""),
            ("GET", "/open", &[], 200, ""),
            ("GET", "/x", &[], 401, "credential-missing"),
            ("GET", "/x", &[bad], 401, "token-expired"),
            ("GET", "/x", &[("x-api-key", "ak_unknown")], 401, "api-key-invalid"),
            ("GET", "/x", &[GOOD, ("x-api-key", "ak_unknown")], 401, "credential-ambiguous"),
            ("GET", "/x?access_token=good", &[], 401, "credential-malformed"),
            ("GET", "/x", &[("authorization", "Bearer revoked")], 401, "credential-revoked"),
            ("GET", "/admin", &[GOOD], 403, "scope-missing"),
            ("GET", "/%61dmin", &[GOOD], 403, "scope-missing"),
            ("GET", "/open/../x", &[GOOD], 400, "path-invalid"),
            ("GET", "/open/..%2fx", &[GOOD], 400, "path-invalid"),
            ("GET", "//x", &[GOOD], 400, "path-invalid"),
            ("POST", "/users/7", &[GOOD], 405, "method-not-allowed"),
        ] {
            let (found, headers, body) = ask(&desk, dialect, (method, target), sent).await;
            let id = headers["x-request-id"].to_str().unwrap();
            assert!(status == 200 || body.contains(&format!("\"request_id\":\"{id}\"")), "{body}");
            let expected = if dialect == "nginx" && ![200, 401].contains(&status) { 403 } else { status };
            assert_eq!(found, expected, "{dialect} {method} {target} {sent:?}: {body}");
            assert_eq!(headers.contains_key("www-authenticate"), status == 401 || reason == "scope-missing");
            assert!(status == 200 && body.is_empty() || body.contains(&format!("\"{reason}\"")), "{body}");
            let told = (headers.get("x-auth-status"), headers.get("x-auth-reason"));
            match told {
                (Some(told), Some(why)) => {
                    assert_eq!(
                        (told.to_str().unwrap(), why.to_str().unwrap()),
                        (&*status.to_string(), reason)
                    );
                }
                _ => assert!(dialect != "nginx" || status == 200, "{told:?}"),
            }
        }
    }
    assert_eq!(desk.debts.of(CLIENT.parse().unwrap()).requests, 5 * 15);
    assert!(!desk.debts.charged.lock().unwrap().contains_key(&"127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn who_the_client_is_comes_with_the_verdict() {
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    let claims = [GOOD, ("x-auth-subject", "root"), ("x-auth-tenant", "t"), ("x_auth_subject", "root")];
    for dialect in DIALECTS {
        let (_, headers, _) = ask(&desk, dialect, ("GET", "/users/7"), &claims).await;
        for (name, expected) in [("subject", "alice"), ("method", "jwt"), ("scopes", "read")] {
            assert_eq!(headers[format!("x-auth-{name}").as_str()], expected, "{dialect}");
        }
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(subject_of(&desk, headers["x-auth-token"].to_str().unwrap()).await, "alice", "{dialect}");
        // What stays of the client's where nothing takes its place, something has to.
        let (absent, (_, open, _)) =
            (headers.get("x-auth-tenant"), ask(&desk, dialect, ("GET", "/open"), &claims[1..]).await);
        assert_eq!(absent.map(|value| value.as_bytes()), (dialect != "nginx").then_some(&b""[..]));
        let subject = open.get("x-auth-subject").map(|value| value.as_bytes());
        assert_eq!(subject, (dialect != "nginx").then_some(&b""[..]), "{dialect}");
        assert_eq!(open.get("x-auth-token").map(|value| value.as_bytes()), subject);
    }
}

#[tokio::test]
async fn the_query_that_caddy_leaves_where_it_asks_is_not_looked_at() {
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    let (_, _, mut fields) = question("caddy", "GET", "/admin?q=1");
    fields.push((GOOD.0.to_owned(), GOOD.1.to_owned()));
    assert_eq!(desk.ask("GET", "/verify/caddy?q=1", &fields).await.0, 403);
    fields[2].1 = "/users/7?q=1".to_owned();
    assert_eq!(desk.ask("GET", "/verify/caddy?q=1&/admin", &fields).await.0, 200);
}

/// What an upstream reads from a token with the keys that it finds at this listener.
async fn subject_of(desk: &Desk, token: &str) -> String {
    let host = vec![("host".to_owned(), "agent.internal".to_owned())];
    let (status, headers, body) = desk.ask("GET", "/.well-known/jwks.json", &host).await;
    assert_eq!((status, &headers["cache-control"]), (200, &"public, max-age=300".parse().unwrap()));
    let keys: JwkSet = serde_json::from_str(&body).unwrap();
    let header = decode_header(token).unwrap();
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&["app"]);
    let claims = decode::<serde_json::Value>(token, &key, &validation).unwrap().claims;
    claims["sub"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_over_its_budget_is_told_when_to_come_back_and_others_are_not() {
    let desk = Desk::start(Fake::new(2, 1000)).await;
    for (dialect, status, retry) in
        [("traefik", 200, None), (GRPC, 200, None), ("traefik", 429, Some("2")), (GRPC, 429, Some("2"))]
    {
        let (found, headers, _) = ask(&desk, dialect, ("GET", "/open"), &[]).await;
        assert_eq!((found, headers.get("retry-after").map(|value| value.to_str().unwrap())), (status, retry));
    }
    let (status, headers, _) = ask(&desk, "nginx", ("GET", "/open"), &[]).await;
    assert_eq!(
        (status, &headers["x-auth-status"], &headers["retry-after"]),
        (403, &"429".parse().unwrap(), &"2".parse().unwrap())
    );
    let (_, path, mut fields) = question("nginx", "GET", "/open");
    fields.last_mut().unwrap().1 = "2001:db8::1".to_owned();
    assert_eq!(desk.ask("GET", &path, &fields).await.0, 200);
}

#[tokio::test]
async fn failures_are_charged_to_the_client_and_not_to_the_proxy() {
    let desk = Desk::start(Fake::new(1000, 1)).await;
    let bad = [("authorization", "Bearer bad")];
    for (dialect, status) in [("caddy", 401), (GRPC, 429), ("caddy", 429)] {
        assert_eq!(ask(&desk, dialect, ("GET", "/x"), &bad).await.0, status);
    }
    let charged = desk.debts.of(CLIENT.parse().unwrap());
    assert_eq!(charged, Charged { auth_failures: 1, known: false, requests: 3 });
}

#[tokio::test]
async fn a_question_that_does_not_say_everything_once_is_answered_400() {
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    for dialect in DIALECTS {
        let (method, path, whole) = question(dialect, "GET", "/open");
        // The host of the question itself says nothing, but for Envoy.
        let counted = whole.iter().filter(|(name, _)| name != "host" || dialect == "envoy");
        for (name, value) in counted {
            let mut without = whole.clone();
            without.retain(|(other, _)| other != name);
            let mut twice = whole.clone();
            twice.push((name.clone(), value.clone()));
            for fields in [without, twice] {
                let (status, _, body) = desk.ask(&method, &path, &fields).await;
                assert_eq!(status, 400, "{dialect} {name}");
                // A request without a host, or with two, is no request.
                assert!(body.contains("question-invalid") || name == "host", "{dialect} {name}: {body}");
            }
        }
        for address in ["", "unknown", "198.51.100.7, 10.0.0.1", "localhost", "_x"] {
            let mut fields = whole.clone();
            fields.last_mut().unwrap().1 = address.to_owned();
            let (status, _, body) = desk.ask(&method, &path, &fields).await;
            assert!(status == 400 && body.contains("client-address-invalid"), "{address}: {status} {body}");
        }
    }
    for path in [
        "/",
        "/verify",
        "/verify/",
        "/verify/nginx/",
        "/verify/nginx?x",
        "/verify/envoy",
        "/verify/envoyx/open",
    ] {
        let (_, _, fields) = question("nginx", "GET", "/open");
        assert_eq!(desk.ask("GET", path, &fields).await.0, 404, "{path}");
    }
    assert!(desk.debts.charged.lock().unwrap().is_empty(), "nobody is charged for what nobody sent");
}

#[tokio::test]
async fn a_host_that_is_none_or_unlike_the_target_is_refused() {
    let desk = Desk::start(Fake::new(1000, 1000)).await;
    for (host, target, status) in [
        ("api.example:8443", "/open", 200),
        ("other.example", "/open", 200),
        ("", "/open", 400),
        ("a b", "/open", 400),
        ("api.example", "https://api.example/open", 200),
        ("api.example", "https://other.example/open", 400),
        ("api.example", "*", 400),
        ("api.example", "open", 400),
    ] {
        let (_, path, mut fields) = question("traefik", "GET", target);
        fields[3].1 = host.to_owned();
        assert_eq!(desk.ask("GET", &path, &fields).await.0, status, "{host} {target}");
    }
}

#[tokio::test]
async fn a_unix_socket_is_there_while_the_agent_is_and_takes_the_place_of_a_stale_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forward-auth.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let desk = Desk::at(Some(&path), Fake::new(1000, 1000)).await;
    assert_eq!(ask(&desk, "nginx", ("GET", "/open"), &[]).await.0, 200);
    desk.stop().await;
    assert!(!path.exists());

    std::fs::write(&path, "not a socket").unwrap();
    let refused = Desk::bind(Some(&path)).await.err().unwrap().to_string();
    assert!(refused.contains("forward-auth.sock: Address already in use"), "{refused}");
    assert!(path.exists(), "what is no socket stays");
}
