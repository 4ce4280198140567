//! Whose request it is behind a proxy.

use std::net::IpAddr;

use http::Version;

use super::edge::{Edge, GOOD, SOURCE, request};
use crate::config::Forwarding;
use crate::limits::tests::{Charged, Fake};

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
const CLIENT: &str = "198.51.100.7";

async fn behind_a_proxy(debts: Fake) -> Edge {
    Edge::with(debts, |config| {
        config.proxies.trusted = vec!["127.0.0.1/32".parse().unwrap()];
        config.proxies.send = vec![Forwarding::Forwarded, Forwarding::XForwarded];
    })
    .await
}

#[tokio::test]
async fn a_client_behind_a_trusted_proxy_is_charged_and_told_to_the_upstream() {
    let edge = behind_a_proxy(Fake::new(1000, 1000)).await;
    let client: IpAddr = CLIENT.parse().unwrap();
    for version in VERSIONS {
        let chain = format!("203.0.113.1, {CLIENT}");
        let bad = [("authorization", "Bearer bad"), ("x-forwarded-for", &chain)];
        assert_eq!(edge.send(version, request(version, "GET", "/api", &bad, "")).await.status(), 401);
        let good = [GOOD, ("x-forwarded-for", &chain), ("forwarded", "for=192.0.2.66")];
        assert_eq!(edge.send(version, request(version, "GET", "/api", &good, "")).await.status(), 200);
        let seen = edge.upstream.take().pop().unwrap();
        assert_eq!(seen.headers["x-forwarded-for"], CLIENT);
        let forwarded = format!("for={CLIENT};by=_auth-agent;host=localhost;proto=https");
        assert_eq!(seen.headers["forwarded"], forwarded);
    }
    assert_eq!(edge.debts.of(client), Charged { auth_failures: 2, known: true, requests: 4 });
    assert_eq!(edge.debts.of(SOURCE), Charged::default());
}

#[tokio::test]
async fn clients_behind_one_proxy_have_budgets_of_their_own() {
    let edge = behind_a_proxy(Fake::new(2, 1000)).await;
    let version = Version::HTTP_11;
    for (client, status) in [
        ("198.51.100.1", 200),
        ("198.51.100.1", 200),
        ("198.51.100.1", 429),
        ("198.51.100.2", 200),
        ("2001:db8::1", 200),
    ] {
        let fields = [GOOD, ("x-forwarded-for", client)];
        let response = edge.send(version, request(version, "GET", "/api", &fields, "")).await;
        assert_eq!(response.status(), status, "{client}");
    }
}

#[tokio::test]
async fn a_proxy_that_names_no_address_gets_nothing_through_and_pays_for_it() {
    let edge = behind_a_proxy(Fake::new(2, 1000)).await;
    let version = Version::HTTP_11;
    for (field, status) in [("unknown", 400), ("198.51.100.1, x", 400), ("unknown", 429)] {
        let fields = [GOOD, ("x-forwarded-for", field)];
        let response = edge.send(version, request(version, "GET", "/api", &fields, "")).await;
        assert_eq!(response.status(), status, "{field}");
    }
    assert_eq!(edge.counts().refusals["client-address-invalid"], 2);
    assert!(edge.upstream.take().is_empty());
}

/// ATTACKS.md, 19.
#[tokio::test]
async fn whoever_is_no_trusted_proxy_speaks_for_himself() {
    let edge = Edge::with(Fake::new(1000, 1000), |config| {
        config.proxies.trusted = vec!["192.0.2.0/24".parse().unwrap()];
        config.proxies.send = vec![Forwarding::Forwarded, Forwarding::XForwarded];
    })
    .await;
    for version in VERSIONS {
        for name in ["x-forwarded-for", "X_Forwarded_For", "forwarded", "x-real-ip", "true-client-ip"] {
            let value = if name == "forwarded" { format!("for={CLIENT}") } else { CLIENT.to_owned() };
            let fields = [GOOD, (name, value.as_str()), (name, value.as_str())];
            assert_eq!(edge.send(version, request(version, "GET", "/api", &fields, "")).await.status(), 200);
            let seen = edge.upstream.take().pop().unwrap();
            let told = format!("{:?}", seen.headers);
            assert!(!told.contains(CLIENT), "{name}: {told}");
            assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
        }
    }
    assert_eq!(edge.debts.of(SOURCE).requests, 10);
}

/// What a proxy that only passes bytes on says of a connection from this client.
fn header(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let ours = if client.contains(':') { "::1" } else { "127.0.0.1" };
    format!("PROXY {family} {client} {ours} 4711 443\r\n").into_bytes()
}

async fn proxied(connections: usize, trusted: &str) -> Edge {
    Edge::with(Fake::new(1000, 1000), |config| {
        config.proxies.trusted = vec![trusted.parse().unwrap()];
        config.listeners[0].proxy_protocol = true;
        config.sizes.connections_per_source = connections.try_into().unwrap();
    })
    .await
}

#[tokio::test]
async fn the_client_that_a_proxy_names_before_tls_is_charged_and_told_to_the_upstream() {
    let mut edge = proxied(100, "127.0.0.1/32").await;
    for client in [CLIENT, "2001:db8::7"] {
        for version in VERSIONS {
            edge.prelude = header(client);
            // The client can't speak for itself: it is no proxy.
            let fields = [GOOD, ("x-forwarded-for", "203.0.113.9")];
            assert_eq!(edge.send(version, request(version, "GET", "/api", &fields, "")).await.status(), 200);
            assert_eq!(edge.upstream.take()[0].headers["x-forwarded-for"], client);
        }
        assert_eq!(edge.debts.of(client.parse().unwrap()).requests, 2);
    }
    assert_eq!(edge.debts.of(SOURCE), Charged::default());
    // LOCAL: the proxy looks after us.
    edge.prelude = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec();
    let version = Version::HTTP_11;
    assert_eq!(edge.send(version, request(version, "GET", "/api", &[GOOD], "")).await.status(), 200);
    assert_eq!(edge.debts.of(SOURCE).requests, 1);
}

#[tokio::test]
async fn a_client_behind_a_proxy_has_its_own_few_connections() {
    let mut edge = proxied(1, "127.0.0.1/32").await;
    edge.prelude = header("198.51.100.1");
    let _first = edge.connect(Some("localhost"), &[]).await.unwrap();
    assert!(edge.connect(Some("localhost"), &[]).await.is_err());
    edge.closed("connections-per-source", 1).await;
    edge.prelude = header("198.51.100.2");
    let _second = edge.connect(Some("localhost"), &[]).await.unwrap();
}

/// ATTACKS.md, 19.
#[tokio::test]
async fn a_header_counts_only_where_it_is_expected_and_from_whom() {
    let mut edge = proxied(100, "127.0.0.1/32").await;
    for (count, prelude) in (1..).zip([&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 x y 1 2\r\n"]) {
        edge.prelude = prelude.to_vec();
        assert!(edge.connect(Some("localhost"), &[]).await.is_err(), "{prelude:?}");
        edge.closed("proxy-header-invalid", count).await;
    }
    let mut untrusting = proxied(100, "192.0.2.1/32").await;
    untrusting.prelude = header(CLIENT);
    assert!(untrusting.connect(Some("localhost"), &[]).await.is_err());
    untrusting.closed("proxy-untrusted", 1).await;
    let mut plain = behind_a_proxy(Fake::new(1000, 1000)).await;
    plain.prelude = header(CLIENT);
    assert!(plain.connect(Some("localhost"), &[]).await.is_err());
    plain.closed("handshake-failed", 1).await;
}
