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
