//! Client certificates as credentials, and as what tokens are bound to.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use http::Version;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, SanType};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::edge::{Client, Edge, GOOD, get, request};
use crate::clock::UnixTime;
use crate::config::{CertificateIdentity, CertificateName, ClientCertificates};
use crate::limits::tests::Fake;
use crate::revocation::{Revocation, Target};
use crate::thumbprint::Thumbprint;
use crate::tls::tests::authority::{Authority, ClientIdentity};

struct Guarded {
    authority: Authority,
    edge: Edge,
    _folder: TempDir,
}

async fn guarded(authenticates: bool) -> Guarded {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let identity = CertificateIdentity {
        allow_browsers: false,
        name: CertificateName::SanUri,
        scopes: vec!["read".to_owned()],
    };
    let wanted = ClientCertificates {
        authenticates: authenticates.then_some(identity),
        ca,
        crl: Vec::new(),
        required: false,
    };
    let edge = Edge::with(Fake::new(1_000_000, 1_000_000), |config| {
        config.listeners[0].client_certificates = Some(wanted);
    });
    Guarded { authority, edge: edge.await, _folder: folder }
}

fn named(name: &'static str) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())]
}

impl Guarded {
    async fn client(&self, identity: Option<&ClientIdentity>, version: Version) -> Client<Full<Bytes>> {
        let roots = self.edge.roots();
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols =
            vec![if version == Version::HTTP_2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(self.edge.address).await.unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        if version == Version::HTTP_2 {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            Client::Http2(sender)
        } else {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            Client::Http1(sender)
        }
    }

    /// Status of one request to a route, with these fields.
    async fn asks(
        &self,
        identity: Option<&ClientIdentity>,
        version: Version,
        path: &str,
        headers: &[(&str, &str)],
    ) -> u16 {
        let mut client = self.client(identity, version).await;
        client.send(request(version, "GET", path, headers, "")).await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_certificate_is_the_credential_of_a_request_that_has_no_other() {
    let guarded = guarded(true).await;
    let service = guarded.authority.issue(named("spiffe://example/svc"));
    let nameless = guarded.authority.issue(|_| ());
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for (identity, path, headers, expected) in [
            (Some(&service), "/api", &[][..], 200),
            (Some(&service), "/api", &[GOOD], 200),
            (Some(&service), "/api", &[("authorization", "Bearer bad")], 401),
            (Some(&service), "/api", &[("x-api-key", "ak_expired")], 401),
            (Some(&service), "/admin", &[], 403),
            (Some(&service), "/admin", &[("authorization", "Bearer admin")], 200),
            (Some(&service), "/api", &[("origin", "https://a.example")], 403),
            (Some(&service), "/api", &[("sec-fetch-site", "cross-site")], 403),
            (Some(&service), "/open", &[], 200),
            (Some(&nameless), "/api", &[], 401),
            (Some(&nameless), "/api", &[GOOD], 200),
            (None, "/api", &[], 401),
            (None, "/api", &[GOOD], 200),
        ] {
            let status = guarded.asks(identity, version, path, headers).await;
            assert_eq!(status, expected, "{path} {headers:?}");
        }
        let requests = guarded.edge.upstream.take();
        let first = requests.first().unwrap();
        assert_eq!(first.headers["x-auth-method"], "certificate");
        assert_eq!(first.headers["x-auth-subject"], "spiffe://example/svc");
        assert_eq!(first.headers["x-auth-scopes"], "read");
        assert_eq!(requests[1].headers["x-auth-method"], "jwt");
    }
    let refusals = guarded.edge.counts().refusals;
    assert_eq!((refusals["certificate-nameless"], refusals["certificate-browser"]), (2, 4));
}

#[tokio::test]
async fn a_certificate_is_no_credential_where_it_is_not_said_to_be() {
    let guarded = guarded(false).await;
    let service = guarded.authority.issue(named("spiffe://example/svc"));
    assert_eq!(guarded.asks(Some(&service), Version::HTTP_11, "/api", &[]).await, 401);
    assert_eq!(guarded.edge.counts().refusals["credential-missing"], 1);
}

#[tokio::test]
async fn a_bound_token_is_good_only_with_its_certificate() {
    let guarded = guarded(false).await;
    let (own, other) = (guarded.authority.issue(|_| ()), guarded.authority.issue(|_| ()));
    let token = format!("Bearer bound-{}", Thumbprint::of(&own.chain[0]));
    for (identity, expected) in [(Some(&own), 200), (Some(&other), 401), (None, 401), (Some(&own), 200)] {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let status = guarded.asks(identity, version, "/api", &[("authorization", &token)]).await;
            assert_eq!(status, expected);
        }
    }
    assert_eq!(guarded.edge.counts().refusals["token-unbound"], 4);
    assert_eq!(
        guarded.edge.debts.of(super::edge::SOURCE).auth_failures,
        4,
        "a stolen token is a failed authentication"
    );
}

#[tokio::test]
async fn revoking_the_subject_of_a_certificate_refuses_its_next_request() {
    let guarded = guarded(true).await;
    let service = guarded.authority.issue(named("spiffe://example/svc"));
    let mut client = guarded.client(Some(&service), Version::HTTP_2).await;
    assert_eq!(client.send(request(Version::HTTP_2, "GET", "/api", &[], "")).await.unwrap().status(), 200);
    let target = Target::Subject { issuer: None, subject: "spiffe://example/svc".into() };
    let revocation = Revocation { before: None, until: None };
    guarded.edge.revocations.revoke(&target, revocation, UnixTime::now());
    assert_eq!(client.send(request(Version::HTTP_2, "GET", "/api", &[], "")).await.unwrap().status(), 401);
    assert_eq!(guarded.edge.counts().refusals["credential-revoked"], 1);
    // Whoever else uses the connection is somebody else.
    assert_eq!(client.send(get(Version::HTTP_2, "/api")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_host_is_the_name_of_the_handshake_also_under_a_wildcard() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let wild = authority.write(folder.path(), "wild", &["*.api.example"], &rcgen::PKCS_ECDSA_P256_SHA256);
    let edge =
        Edge::with(Fake::new(1_000, 1_000), |config| config.listeners[0].certificates.push(wild)).await;
    for (host, expected) in
        [("a.api.example", 200), ("A.api.example:443", 200), ("b.api.example", 421), ("localhost", 421)]
    {
        let name = ServerName::try_from("a.api.example").unwrap();
        let stream = TcpStream::connect(edge.address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(authority.client()));
        let stream = connector.connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = get(Version::HTTP_11, "/api");
        request.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(sender.send_request(request).await.unwrap().status().as_u16(), expected, "{host}");
    }
}
