//! Answers to an ACME server's challenges, as its client sees them (RFC 8737 3).

use std::sync::Arc;

use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Authority, Met, Shown, listener};
use crate::tls::Failure;

/// Believes what it is shown, as such a server has to.
#[derive(Debug)]
struct Anything(CryptoProvider);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 is offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // The library's own check stumbles over the critical extension.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn ask(shown: &Shown, name: &str) -> Met {
    let provider = aws_lc_rs::default_provider();
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(provider)))
        .with_no_client_auth();
    client.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    shown.look(&Arc::new(client), name).await
}

#[tokio::test]
async fn an_open_challenge_is_answered_with_its_digest_and_nothing_else_is() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.write(folder.path(), "edge", &["a.example"], &PKCS_ECDSA_P256_SHA256);
    let shown = Shown::new(folder, &listener(vec![files])).await;
    let digest = [7; 32];
    let answering = shown.challenges.answer("new.example", &digest).unwrap();

    let met = ask(&shown, "new.example").await;
    assert!(matches!(met.server, Err(Failure::AcmeChallenge)), "{:?}", met.server);
    let client = met.client.as_ref().unwrap().get_ref().1;
    assert_eq!(client.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let (_, certificate) = X509Certificate::from_der(met.shown()).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(names, 1);
    // id-pe-acmeIdentifier: an octet string of the digest, critical.
    let mut extensions = certificate.extensions().iter();
    let extension = extensions.find(|extension| extension.oid.to_string() == "1.3.6.1.5.5.7.1.31").unwrap();
    assert!(extension.critical);
    assert_eq!(extension.value, [&[4, 32], &digest[..]].concat());

    // For a name that is served, too, but only under its own protocol.
    for name in ["a.example", "other.example"] {
        assert!(matches!(ask(&shown, name).await.server, Err(Failure::UnknownName)), "{name}");
    }
    let ordinary = shown.meet(&Arc::new(authority.client()), "new.example").await;
    assert!(matches!(ordinary.server, Err(Failure::UnknownName)));
    drop(answering);
    assert!(matches!(ask(&shown, "new.example").await.server, Err(Failure::UnknownName)));
}
