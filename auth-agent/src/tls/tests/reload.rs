//! Files that change while they are in use.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authority::{Authority, NOW, Shown, listener};
use crate::clock::UnixTime;
use crate::config::tests::MINIMAL;
use crate::config::{ClientCertificates, Config, UnknownName};
use crate::refusal::Refusal;
use crate::tls::{CertificateStatus, TlsListeners};

/// A listener with two certificates.
async fn shown() -> (Authority, Shown) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let write = |name: &str| {
        authority.write(folder.path(), name, &[&format!("{name}.example")], &PKCS_ECDSA_P256_SHA256)
    };
    let listener = listener(vec![write("a"), write("b")]);
    let shown = Shown::new(folder, &listener).await;
    (authority, shown)
}

/// What is in the certificate's file and in the key's, if that is there, and what is said of it.
type Broken<'b> = (&'b [u8], Option<&'b [u8]>, &'static str);

fn statuses(shown: &Shown) -> [CertificateStatus; 2] {
    shown.tls.status().try_into().unwrap()
}

#[tokio::test]
async fn a_changed_pair_is_shown_to_the_next_client_and_open_connections_go_on() {
    let (authority, shown) = shown().await;
    let client = Arc::new(authority.client());
    let before = shown.meet(&client, "b.example").await;
    authority.write(shown.folder.path(), "b", &["b.example", "new.example"], &PKCS_ECDSA_P256_SHA256);
    shown.tls.look(UnixTime(NOW.0 + 1));
    for name in ["b.example", "new.example"] {
        assert_ne!(shown.meet(&client, name).await.shown(), before.shown());
    }
    let [a, b] = statuses(&shown);
    assert_eq!((a.loaded, b.loaded), (Some(NOW), Some(UnixTime(NOW.0 + 1))));
    assert_eq!(b.names, ["b.example", "new.example"]);

    let (mut client, mut server) = (before.client.unwrap(), before.server.unwrap());
    client.write_all(b"on").await.unwrap();
    let mut bytes = [0; 2];
    server.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"on");
}

#[tokio::test]
async fn a_pair_that_can_not_be_used_changes_nothing_and_is_said_until_it_can() {
    let (authority, shown) = shown().await;
    let client = Arc::new(authority.client());
    let before = shown.meet(&client, "b.example").await.shown().to_vec();
    let (certificate, key) = (shown.folder.path().join("b.pem"), shown.folder.path().join("b.key"));
    let old_key = fs::read(&key).unwrap();
    authority.write(shown.folder.path(), "b", &["b.example"], &PKCS_ECDSA_P256_SHA256);
    let (new, new_key) = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());

    let broken: [Broken<'_>; 5] = [
        (&new, Some(&old_key), "does not belong to the certificate"),
        (&new[..new.len() / 2], Some(&new_key), "not valid PEM"),
        (b"", Some(&new_key), "holds no certificate"),
        (&new, Some(b""), "holds no private key"),
        (&new, None, "No such file"),
    ];
    for (text, key_text, words) in broken {
        fs::write(&certificate, text).unwrap();
        match key_text {
            Some(text) => fs::write(&key, text).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        // However often it is looked at.
        shown.tls.look(NOW);
        shown.tls.look(NOW);
        let [a, b] = statuses(&shown);
        assert_eq!(a.error, None);
        assert!(b.error.as_ref().is_some_and(|error| error.contains(words)), "{words}: {:?}", b.error);
        assert!(b.warning(b.not_before).unwrap().ends_with("; the last good certificate stays in use"));
        assert_eq!(shown.meet(&client, "b.example").await.shown(), before, "{words}");
    }
    fs::write(&key, &new_key).unwrap();
    shown.tls.look(NOW);
    assert_eq!(statuses(&shown)[1].error, None);
    assert_ne!(shown.meet(&client, "b.example").await.shown(), before);
}

#[tokio::test]
async fn another_configuration_keeps_the_tickets_and_what_is_believed_of_open_connections() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.write(folder.path(), "a", &["a.example"], &PKCS_ECDSA_P256_SHA256);
    let (ca, list) = (folder.path().join("ca.pem"), folder.path().join("list"));
    fs::write(&ca, authority.pem()).unwrap();
    fs::write(&list, authority.list(&[], 2090).der()).unwrap();
    let mut config = Config::parse(MINIMAL, Path::new("/edge.toml")).unwrap();
    config.listeners = vec![listener(vec![files])];
    let wanted = ClientCertificates { authenticates: None, ca, crl: vec![list.clone()], required: true };
    config.listeners[0].client_certificates = Some(wanted.clone());

    let listeners = TlsListeners::default();
    listeners.replace(listeners.prepare(&config, NOW).unwrap());
    let mut shown = Shown::new(folder, &config.listeners[0]).await;
    shown.tls = Arc::clone(&listeners.all()[0]);
    let client = Arc::new(authority.client_showing(&authority.issue(|_| ())));
    let open = shown.meet(&client, "a.example").await.certificate.unwrap();

    config.listeners[0].unknown_name = UnknownName::Default;
    listeners.replace(listeners.prepare(&config, NOW).unwrap());
    shown.tls = Arc::clone(&listeners.all()[0]);
    let resumed = shown.meet(&client, "a.example").await.server.unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));

    // Others are asked for: nobody resumes, and the list goes on counting for who is connected.
    config.listeners[0].client_certificates = Some(ClientCertificates { required: false, ..wanted });
    listeners.replace(listeners.prepare(&config, NOW).unwrap());
    shown.tls = Arc::clone(&listeners.all()[0]);
    let again = shown.meet(&client, "a.example").await.server.unwrap();
    assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(open.check(NOW), Ok(()));
    fs::write(&list, authority.list(&[7], 2090).der()).unwrap();
    listeners.look(&Arc::default(), NOW);
    assert_eq!(open.check(NOW), Err(Refusal::CertificateInvalid));
}

#[tokio::test]
async fn what_is_about_to_end_is_warned_of_two_weeks_ahead() {
    const DAY: u64 = 86_400;
    let (_, shown) = shown().await;
    let [status, _] = statuses(&shown);
    let end = status.not_after.0;
    for (now, expected) in [
        (status.not_before.0 - DAY, Some("is not valid before 1d from now")),
        (end - 14 * DAY, None),
        (end - 14 * DAY + 1, Some("expires in 13d")),
        (end, Some("expires in 0s")),
        (end + DAY, Some("expired 1d ago: clients refuse it")),
    ] {
        let warning = status.warning(UnixTime(now));
        assert_eq!(warning.is_some(), expected.is_some(), "{warning:?}");
        assert!(warning.unwrap_or_default().contains(expected.unwrap_or_default()), "{now}");
    }
}
