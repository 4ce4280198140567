//! Upstreams behind TLS: whom they are taken for, what is shown to them, and what is spoken.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::edge::{PATIENCE, get};
use super::pool::{edge_before, reason};
use super::upstream::{empty, websocket};
use crate::config::{Address, Protocol, Upstream, UpstreamTls};
use crate::proxy::check_files;

struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self(Issuer::new(params, key), der, pem)
    }

    fn issue(&self, name: &str) -> (CertificateDer<'static>, KeyPair, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), key, certificate.pem())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.1.clone()).unwrap();
        Arc::new(roots)
    }
}

/// Says in a header what was spoken, which name was asked for, and whether a certificate was shown.
async fn start(authority: &Authority, name: &str, alpn: &'static [&'static [u8]], asks: bool) -> u16 {
    let (certificate, key, _) = authority.issue(name);
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if asks {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(authority.roots(), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let session = stream.get_ref().1;
                let is_http2 = session.alpn_protocol() == Some(b"h2");
                let said = format!(
                    "{} {} {}",
                    String::from_utf8_lossy(session.alpn_protocol().unwrap_or(b"-")),
                    session.server_name().unwrap_or("-"),
                    session.peer_certificates().is_some(),
                );
                let service = service_fn(move |request: Request<Incoming>| {
                    let said = said.clone();
                    async move {
                        if request.headers().contains_key("upgrade") {
                            return Ok::<_, Infallible>(websocket(request));
                        }
                        let mut response = Response::new(empty());
                        response.headers_mut().insert("said", said.parse().unwrap());
                        Ok(response)
                    }
                });
                // Either may end in an error, as the edge closes what it does not need.
                if is_http2 {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                } else {
                    let builder = http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                }
            });
        }
    });
    port
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];

#[tokio::test]
async fn an_upstream_must_be_who_it_is_taken_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca = write(folder.path(), "ca.pem", &authority.2);
    let others = write(folder.path(), "other.pem", &other.2);
    let by_name = start(&authority, "localhost", BOTH, false).await;
    let by_address = start(&authority, "127.0.0.1", BOTH, false).await;
    for (endpoint, ca, server_name, protocol, expected) in [
        (format!("https://localhost:{by_name}"), &ca, None, Protocol::Auto, Ok("h2 localhost false")),
        (format!("https://localhost:{by_name}"), &ca, None, Protocol::Http1, Ok("http/1.1 localhost false")),
        (
            format!("https://127.0.0.1:{by_name}"),
            &ca,
            Some("localhost"),
            Protocol::Http2,
            Ok("h2 localhost false"),
        ),
        (format!("https://127.0.0.1:{by_address}"), &ca, None, Protocol::Auto, Ok("h2 - false")),
        (format!("https://127.0.0.1:{by_name}"), &ca, None, Protocol::Auto, Err("not valid for name")),
        (
            format!("https://localhost:{by_name}"),
            &ca,
            Some("app.internal"),
            Protocol::Auto,
            Err("not valid for name"),
        ),
        (format!("https://localhost:{by_name}"), &others, None, Protocol::Auto, Err("")),
    ] {
        let edge = edge_before(vec![endpoint.parse().unwrap()], |config| {
            let upstream = &mut config.upstreams[0];
            upstream.protocol = protocol;
            upstream.tls = UpstreamTls {
                ca: Some(ca.clone()),
                certificate: None,
                server_name: server_name.map(Arc::from),
            };
        })
        .await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let response = edge.send(version, get(version, "/api")).await;
            match expected {
                Ok(said) => assert_eq!(response.headers()["said"], said, "{endpoint}"),
                Err(why) => {
                    assert_eq!(
                        (response.status().as_u16(), &*reason(&response)),
                        (502, "upstream-unreachable")
                    );
                    let error = edge.upstreams()[0].endpoints[0].last_error.clone().unwrap();
                    assert!(
                        error.contains("invalid peer certificate") && error.contains(why),
                        "{endpoint}: {error}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_is_shown_the_certificate_that_it_asks_for() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (_, key, certificate) = authority.issue("edge");
    let pair = (
        write(folder.path(), "edge.pem", &certificate),
        write(folder.path(), "edge.key", &key.serialize_pem()),
    );
    let ca = Some(write(folder.path(), "ca.pem", &authority.2));
    let port = start(&authority, "localhost", BOTH, true).await;
    let endpoint: Address = format!("https://localhost:{port}").parse().unwrap();
    for (certificate, expected) in [(Some(pair), Some("h2 localhost true")), (None, None)] {
        let edge = edge_before(vec![endpoint.clone()], |config| {
            config.upstreams[0].tls = UpstreamTls { ca: ca.clone(), certificate, server_name: None };
        })
        .await;
        let response = edge.send(Version::HTTP_11, get(Version::HTTP_11, "/api")).await;
        let said = response.headers().get("said").map(|said| said.to_str().unwrap());
        assert_eq!(said, expected);
        assert_eq!(response.status().as_u16(), if expected.is_some() { 200 } else { 502 });
    }
}

#[tokio::test]
async fn a_changed_bundle_counts_for_new_connections() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca = write(folder.path(), "ca.pem", &other.2);
    let port = start(&authority, "localhost", &[b"http/1.1"], false).await;
    let edge = edge_before(vec![format!("https://localhost:{port}").parse().unwrap()], |config| {
        config.upstreams[0].tls.ca = Some(ca.clone());
        config.upstreams[0].ejection.failures = 0;
    })
    .await;
    let status = async || edge.send(Version::HTTP_11, get(Version::HTTP_11, "/api")).await.status().as_u16();
    assert_eq!(status().await, 502);
    write(folder.path(), "ca.pem", &format!("{}{}", authority.2, other.2));
    let noticed = async {
        while status().await != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.expect("the bundle is not read again");
}

#[tokio::test]
async fn a_websocket_goes_over_http1_where_the_upstream_speaks_both() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = write(folder.path(), "ca.pem", &authority.2);
    let port = start(&authority, "localhost", BOTH, false).await;
    let edge = edge_before(vec![format!("https://localhost:{port}").parse().unwrap()], |config| {
        config.upstreams[0].tls.ca = Some(ca);
    })
    .await;
    let response = edge.send(Version::HTTP_11, get(Version::HTTP_11, "/api")).await;
    assert_eq!(response.headers()["said"], "h2 localhost false");
    super::upgrade::websocket(&edge, "alice").await;
}

#[test]
fn files_that_cannot_be_used_are_told_before_the_start() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (_, key, certificate) = authority.issue("edge");
    let (_, other, _) = authority.issue("edge");
    let ca = write(folder.path(), "ca.pem", &authority.2);
    let certificate = write(folder.path(), "edge.pem", &certificate);
    let key = write(folder.path(), "edge.key", &key.serialize_pem());
    let other = write(folder.path(), "other.key", &other.serialize_pem());
    let absent = folder.path().join("absent.pem");
    for (ca, pair, expected) in [
        (&ca, Some((&certificate, &key)), ""),
        (&ca, None, ""),
        (&absent, None, "absent.pem: No such file"),
        (&key, None, "edge.key holds no certificate"),
        (&ca, Some((&absent, &key)), "absent.pem: No such file"),
        (&ca, Some((&certificate, &absent)), "absent.pem: No such file"),
        (&ca, Some((&key, &key)), "edge.key can't be used: no items found; it must be PEM"),
        (&ca, Some((&certificate, &certificate)), "edge.pem can't be used: no items found; it must be PEM"),
        (&ca, Some((&certificate, &other)), "can't be used together"),
    ] {
        let mut upstream = Upstream::new("app", vec!["https://app:1".parse().unwrap()]);
        let certificate = pair.map(|(certificate, key)| (certificate.clone(), key.clone()));
        upstream.tls = UpstreamTls { ca: Some(ca.clone()), certificate, server_name: None };
        let problem = check_files(&upstream).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            problem.contains(expected) && problem.is_empty() == expected.is_empty(),
            "{expected}: {problem}"
        );
        upstream.endpoints = vec!["http://app:1".parse().unwrap()];
        assert!(check_files(&upstream).is_ok(), "nothing is read that is not needed");
    }
}
