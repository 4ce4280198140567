//! Which certificate is shown to whom.

use std::sync::Arc;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;

use super::authority::{Authority, NOW, Shown, listener};
use crate::config::{CertificateFiles, Listener, UnknownName};
use crate::tls::handshake::Places;
use crate::tls::listener::Shared;
use crate::tls::table::Table;
use crate::tls::{Failure, Pair, TlsListener};

/// The name of the file that a client is shown which asks for this.
fn shown(
    table: &Table,
    pairs: &[(Arc<Pair>, &'static str)],
    name: Option<&str>,
    schemes: &[SignatureScheme],
) -> Option<&'static str> {
    let certified = table.find(name, schemes)?;
    pairs.iter().find(|(pair, _)| Arc::ptr_eq(&pair.certified, certified)).map(|(_, name)| *name)
}

const ALL: [SignatureScheme; 4] = [
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
];
const RSA: [SignatureScheme; 1] = [SignatureScheme::RSA_PSS_SHA256];
const P384: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP384_SHA384];
const UNHEARD_OF: [SignatureScheme; 1] = [SignatureScheme::ED448];

#[test]
fn the_name_decides_and_then_the_signature_schemes() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let read = |file: &'static str, names: &[&str], key| {
        let files = authority.write(folder.path(), file, names, key);
        (Arc::new(Pair::read(&files).unwrap()), file)
    };
    let pairs = [
        read("first-rsa", &["a.example", "www.a.example"], &PKCS_RSA_SHA256),
        read("first", &["a.example"], &PKCS_ECDSA_P256_SHA256),
        read("first-ed25519", &["a.example"], &PKCS_ED25519),
        read("first-384", &["a.example"], &PKCS_ECDSA_P384_SHA384),
        read("wild", &["*.b.example", "b.example"], &PKCS_ECDSA_P256_SHA256),
        read("wild-rsa", &["*.b.example"], &PKCS_RSA_SHA256),
        read("exact", &["x.b.example"], &PKCS_ECDSA_P256_SHA256),
    ];
    let only: Vec<_> = pairs.iter().map(|(pair, _)| Arc::clone(pair)).collect();
    let refusing = Table::new(&only, UnknownName::Refuse);
    for (name, schemes, expected) in [
        (Some("a.example"), &ALL[..], Some("first")),
        (Some("a.example"), &RSA, Some("first-rsa")),
        (Some("a.example"), &P384, Some("first-384")),
        (Some("a.example"), &ALL[..2], Some("first-ed25519")),
        (Some("a.example"), &UNHEARD_OF, Some("first")),
        (Some("www.a.example"), &ALL, Some("first-rsa")),
        (Some("b.example"), &ALL, Some("wild")),
        (Some("y.b.example"), &ALL, Some("wild")),
        (Some("y.b.example"), &RSA, Some("wild-rsa")),
        (Some("x.b.example"), &ALL, Some("exact")),
        (Some("x.b.example"), &RSA, Some("wild-rsa")),
        (Some("x.y.b.example"), &ALL, None),
        (Some("xb.example"), &ALL, None),
        (Some(".b.example"), &ALL, Some("wild")),
        (Some("*.b.example"), &ALL, Some("wild")),
        (Some("example"), &ALL, None),
        (Some("c.example"), &ALL, None),
        (None, &ALL, Some("first")),
        (None, &RSA, Some("first-rsa")),
    ] {
        assert_eq!(shown(&refusing, &pairs, name, schemes), expected, "{name:?} {schemes:?}");
        assert_eq!(refusing.knows(name), expected.is_some(), "{name:?}");
    }
    let open = Table::new(&only, UnknownName::Default);
    assert_eq!(shown(&open, &pairs, Some("c.example"), &ALL), Some("first"));
    assert_eq!(shown(&open, &pairs, Some("c.example"), &RSA), Some("first-rsa"));
    assert_eq!(shown(&open, &pairs, Some("y.b.example"), &ALL), Some("wild"));
}

#[test]
fn a_wildcard_is_the_whole_first_label_and_no_more() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let names = ["a*.example", "*a.example", "x.*.example", "*.*.example", "*"];
    let files = authority.write(folder.path(), "odd", &names, &PKCS_ECDSA_P256_SHA256);
    let pairs = [Arc::new(Pair::read(&files).unwrap())];
    let table = Table::new(&pairs, UnknownName::Refuse);
    for name in ["ab.example", "ba.example", "x.y.example", "x.x.example", "example", "a*.example"] {
        assert!(!table.knows(Some(name)), "{name}");
    }
    assert!(table.knows(None));
}

async fn two_names(unknown_name: UnknownName) -> (Authority, Shown) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let write =
        |file: &str, names: &[&str]| authority.write(folder.path(), file, names, &PKCS_ECDSA_P256_SHA256);
    let certificates = vec![write("a", &["a.example"]), write("b", &["*.b.example"])];
    let listener = Listener { unknown_name, ..listener(certificates) };
    let shown = Shown::new(folder, &listener).await;
    (authority, shown)
}

/// The certificate that is in a file.
fn in_file(shown: &Shown, file: &str) -> Vec<u8> {
    let name = |ending| shown.folder.path().join(format!("{file}.{ending}"));
    let files = CertificateFiles { certificate: name("pem"), key: name("key") };
    Pair::read(&files).unwrap().certified.cert[0].to_vec()
}

#[tokio::test]
async fn each_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    let (authority, shown) = two_names(UnknownName::Refuse).await;
    let client = Arc::new(authority.client());
    for (name, file) in [("a.example", "a"), ("A.EXAMPLE", "a"), ("x.b.example", "b"), ("X.B.Example", "b")] {
        assert_eq!(shown.meet(&client, name).await.shown(), in_file(&shown, file), "{name}");
    }
    let mut silent = authority.client();
    silent.enable_sni = false;
    assert_eq!(shown.meet(&Arc::new(silent), "a.example").await.shown(), in_file(&shown, "a"));
}

#[tokio::test]
async fn an_unknown_name_is_refused_by_its_alert_or_shown_the_default() {
    let (authority, shown) = two_names(UnknownName::Refuse).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Arc::new(authority.client_with(aws_lc_rs::default_provider(), &[version]));
        for name in ["c.example", "b.example", "x.y.b.example"] {
            let met = shown.meet(&client, name).await;
            assert!(met.refusal().contains("UnrecognisedName"), "{name}: {}", met.refusal());
            assert!(matches!(met.server, Err(Failure::UnknownName)));
        }
    }
    let (authority, shown) = two_names(UnknownName::Default).await;
    let met = shown.meet(&Arc::new(authority.client()), "c.example").await;
    // It is shown one that is for another name, and says no.
    assert!(met.refusal().contains("not valid for name"), "{}", met.refusal());
}

#[test]
fn a_listener_needs_every_pair_that_it_names() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let good = authority.write(folder.path(), "a", &["a.example"], &PKCS_ECDSA_P256_SHA256);
    let bad = CertificateFiles { key: folder.path().join("none.key"), ..good.clone() };
    let shared = Shared { acme: None, challenges: Arc::default(), places: Arc::new(Places::new(1)) };
    let error = TlsListener::open(&listener(vec![good, bad]), None, &shared, NOW).unwrap_err();
    assert!(error.to_string().contains("none.key: No such file"), "{error}");
}
