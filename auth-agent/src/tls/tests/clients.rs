//! Certificates of clients: who is let in, whom they stand for, and until when.

use std::fs;
use std::sync::Arc;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::HandshakeKind;

use super::authority::{Authority, ClientIdentity, NOW, Shown, listener};
use crate::clock::UnixTime;
use crate::config::{CertificateIdentity, CertificateName, ClientCertificates};
use crate::identity::Method;
use crate::refusal::Refusal;
use crate::thumbprint::Thumbprint;
use crate::tls::{Failure, TrustStatus};

/// A listener that asks for certificates of this authority, and one whose certificates it shows itself.
async fn asking(authority: &Authority, change: impl FnOnce(&mut ClientCertificates)) -> Shown {
    let folder = tempfile::tempdir().unwrap();
    let files = authority.write(folder.path(), "edge", &["a.example"], &PKCS_ECDSA_P256_SHA256);
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let mut wanted = ClientCertificates { authenticates: None, ca, crl: Vec::new(), required: true };
    change(&mut wanted);
    for list in &wanted.crl {
        // What matters of its place is that it is in the folder.
        fs::copy(list, folder.path().join(list.file_name().unwrap())).unwrap();
    }
    wanted.crl = wanted.crl.iter().map(|list| folder.path().join(list.file_name().unwrap())).collect();
    let mut listener = listener(vec![files]);
    listener.client_certificates = Some(wanted);
    Shown::new(folder, &listener).await
}

fn uri(name: &'static str) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())]
}

#[tokio::test]
async fn only_certificates_of_the_bundle_for_clients_and_in_time_are_let_in() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.issue(uri("spiffe://a/b"));
    let foreign = other.issue(|_| ());
    let expired = authority.issue(|params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let early = authority.issue(|params| params.not_before = date_time_ymd(2095, 1, 1));
    let server =
        authority.issue(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    for required in [true, false] {
        let shown = asking(&authority, |wanted| wanted.required = required).await;
        for (identity, accepted, words) in [
            (Some(&good), true, ""),
            (Some(&foreign), false, "DecryptError"),
            (Some(&expired), false, "CertificateExpired"),
            (Some(&early), false, "Certificate"),
            (Some(&server), false, "Certificate"),
            (None, !required, "CertificateRequired"),
        ] {
            let client = match identity {
                Some(identity) => authority.client_showing(identity),
                None => authority.client(),
            };
            let met = shown.meet(&Arc::new(client), "a.example").await;
            assert_eq!(met.client.is_ok(), accepted, "{required} {words} {:?}", met.client.err());
            if accepted {
                let thumbprint = met.certificate.map(|certificate| certificate.thumbprint());
                assert_eq!(thumbprint, identity.map(|identity| Thumbprint::of(&identity.chain[0])));
            } else {
                let refusal = met.refusal();
                assert!(refusal.contains(words) || refusal.contains("UnknownCA"), "{words}: {refusal}");
                assert!(matches!(met.server, Err(Failure::Failed(_))));
            }
        }
    }
}

/// A list in a file of its own.
fn list_file(folder: &std::path::Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

async fn is_let_in(shown: &Shown, authority: &Authority, identity: &ClientIdentity) -> bool {
    shown.meet(&Arc::new(authority.client_showing(identity)), "a.example").await.client.is_ok()
}

#[tokio::test]
async fn what_is_revoked_or_can_not_be_known_to_be_unrevoked_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let (seven, eight) =
        (authority.issue(|_| ()), authority.issue(|params| params.serial_number = Some(8.into())));
    let list = |revoked: &[u64], year| authority.list(revoked, year).der().to_vec();
    let pem = authority.list(&[7], 2090).pem().unwrap().into_bytes();
    for (name, bytes, expected) in [
        ("der", list(&[7], 2090), (false, true)),
        ("pem", pem, (false, true)),
        ("empty", list(&[], 2090), (true, true)),
        ("both", list(&[7, 8], 2090), (false, false)),
        ("overdue", list(&[7], 2021), (false, false)),
        ("of another", other.list(&[], 2090).der().to_vec(), (false, false)),
    ] {
        let path = list_file(folder.path(), name, &bytes);
        let shown = asking(&authority, |wanted| wanted.crl = vec![path]).await;
        let outcome =
            (is_let_in(&shown, &authority, &seven).await, is_let_in(&shown, &authority, &eight).await);
        assert_eq!(outcome, expected, "{name}");
    }
}

#[tokio::test]
async fn a_new_list_counts_for_connections_that_are_open_and_sessions_that_are_resumed() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = list_file(folder.path(), "list", authority.list(&[], 2090).der());
    let shown = asking(&authority, |wanted| wanted.crl = vec![path]).await;
    let client = Arc::new(authority.client_showing(&authority.issue(|_| ())));

    let first = shown.meet(&client, "a.example").await;
    let second = shown.meet(&client, "a.example").await;
    assert_eq!(second.server.as_ref().unwrap().get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let certificates = [first.certificate.unwrap(), second.certificate.unwrap()];
    for certificate in &certificates {
        assert_eq!(certificate.check(NOW), Ok(()));
    }

    let list = shown.folder.path().join("list");
    fs::write(&list, authority.list(&[7], 2090).der().as_ref()).unwrap();
    assert!(shown.tls.look(NOW));
    for certificate in &certificates {
        assert_eq!(certificate.check(NOW), Err(Refusal::CertificateInvalid));
    }
    let third = shown.meet(&client, "a.example").await;
    assert!(matches!(third.server, Err(Failure::Certificate)), "{:?}", third.server);

    fs::write(&list, authority.list(&[], 2090).der().as_ref()).unwrap();
    assert!(shown.tls.look(NOW));
    assert_eq!(certificates[0].check(NOW), Ok(()));
    assert!(!shown.tls.look(NOW), "nothing changed");
}

#[tokio::test]
async fn a_certificate_ends_on_its_last_second_whatever_connection_is_open() {
    let authority = Authority::new();
    let shown = asking(&authority, |_| ()).await;
    let end = 3_786_912_000;
    let identity = authority.issue(|params| params.not_after = date_time_ymd(2090, 1, 1));
    let met = shown.meet(&Arc::new(authority.client_showing(&identity)), "a.example").await;
    let certificate = met.certificate.unwrap();
    assert_eq!(certificate.check(UnixTime(end)), Ok(()));
    assert_eq!(certificate.check(UnixTime(end + 1)), Err(Refusal::CertificateInvalid));
}

#[tokio::test]
async fn a_certificate_ends_with_those_between_it_and_its_authority() {
    let authority = Authority::new();
    let taken = CertificateIdentity { allow_browsers: false, name: CertificateName::SanUri, scopes: vec![] };
    let shown = asking(&authority, |wanted| wanted.authenticates = Some(taken)).await;
    let end = 3_786_912_000;
    let identity = authority.issue_by_another(2090);
    let client = Arc::new(authority.client_showing(&identity));
    // The second one is resumed.
    for _ in 0..2 {
        let certificate = shown.meet(&client, "a.example").await.certificate.unwrap();
        for (now, expected) in [(end, Ok(())), (end + 1, Err(Refusal::CertificateInvalid)), (end, Ok(()))] {
            assert_eq!(certificate.check(UnixTime(now)), expected, "{now}");
        }
        let known = certificate.identity(false).unwrap();
        assert_eq!(known.facts().expires, Some(UnixTime(end + 1)), "for what goes on");
    }
}

#[tokio::test]
async fn authorities_and_lists_that_can_not_be_used_change_nothing_and_are_said() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = list_file(folder.path(), "list", authority.list(&[], 2090).der());
    let shown = asking(&authority, |wanted| wanted.crl = vec![path]).await;
    let identity = authority.issue(|_| ());
    let status = || -> TrustStatus { shown.tls.trust_status().unwrap() };
    assert_eq!((status().authorities, status().lists.len(), status().error), (1, 1, None));
    let (ca, list) = (shown.folder.path().join("ca.pem"), shown.folder.path().join("list"));
    for (path, bytes, words) in [
        (&ca, &b""[..], "ca.pem holds no certificate"),
        (&ca, b"-----BEGIN CERTIFICATE-----\n", "ca.pem is not valid PEM"),
        (&list, b"", "list holds no revocation list"),
        (&list, b"\x30\x03abc", "the revocation list in"),
        (&list, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "the revocation list in"),
    ] {
        let before = fs::read(path).unwrap();
        fs::write(path, bytes).unwrap();
        assert!(!shown.tls.look(NOW));
        let error = status().error.unwrap_or_default();
        assert!(error.contains(words), "{words}: {error}");
        assert!(is_let_in(&shown, &authority, &identity).await, "{words}");
        fs::write(path, before).unwrap();
        shown.tls.look(NOW);
        assert_eq!(status().error, None, "{words}");
    }
    assert_eq!(status().warnings(NOW), Vec::<String>::new());
    let overdue = status().warnings(UnixTime(4_000_000_000));
    assert!(overdue[0].contains("list is overdue"), "{overdue:?}");
}

async fn stands_for(
    name: CertificateName,
    change: impl FnOnce(&mut CertificateParams),
) -> Result<String, Refusal> {
    let authority = Authority::new();
    let scopes = vec!["read".to_owned()];
    let taken = CertificateIdentity { allow_browsers: false, name, scopes };
    let shown = asking(&authority, |wanted| wanted.authenticates = Some(taken)).await;
    let client = Arc::new(authority.client_showing(&authority.issue(change)));
    let certificate = shown.meet(&client, "a.example").await.certificate.unwrap();
    assert_eq!(certificate.identity(true).err(), Some(Refusal::CertificateBrowser));
    certificate.identity(false).map(|identity| {
        assert_eq!(identity.method(), Method::Certificate);
        assert_eq!(identity.facts().certificate, Some(certificate.thumbprint()));
        assert_eq!(identity.scopes().iter().map(|scope| &**scope).collect::<Vec<_>>(), ["read"]);
        identity.subject().to_owned()
    })
}

#[tokio::test]
async fn a_certificate_stands_for_its_only_name_of_the_kind_that_counts() {
    use CertificateName::{SanDns, SanEmail, SanUri, Subject};
    let all = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![
            SanType::DnsName("svc.example".try_into().unwrap()),
            SanType::Rfc822Name("ops@example".try_into().unwrap()),
            SanType::URI("spiffe://example/svc".try_into().unwrap()),
        ];
        params.distinguished_name.push(DnType::CommonName, "The Service");
    };
    for (name, expected) in [
        (SanDns, "svc.example"),
        (SanEmail, "ops@example"),
        (SanUri, "spiffe://example/svc"),
        (Subject, "The Service"),
    ] {
        assert_eq!(stands_for(name, all).await.as_deref(), Ok(expected));
    }
    let two = |params: &mut CertificateParams| {
        params.subject_alt_names =
            ["a.example", "b.example"].map(|name| SanType::DnsName(name.try_into().unwrap())).into();
    };
    assert_eq!(stands_for(SanDns, two).await, Err(Refusal::CertificateNameless));
    assert_eq!(stands_for(SanUri, two).await, Err(Refusal::CertificateNameless));
    for odd in ["", " spaced", "line\nfeed"] {
        let named = |params: &mut CertificateParams| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, odd);
        };
        assert_eq!(stands_for(Subject, named).await, Err(Refusal::CertificateNameless), "{odd:?}");
    }
}
