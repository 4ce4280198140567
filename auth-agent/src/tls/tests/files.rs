//! What can be wrong with the files, and what a certificate says.

use std::fs;

use rcgen::{CertificateParams, KeyPair};

use crate::clock::UnixTime;
use crate::config::CertificateFiles;
use crate::tls::{Leaf, Pair, Validity};

struct Text {
    certificate: String,
    key: String,
}

fn pair() -> Text {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    Text { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// The error for these file contents; a file that is `None` is not there.
fn error(certificate: Option<&str>, key: Option<&str>) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: Option<&str>| {
        let path = directory.path().join(name);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        path
    };
    let files = CertificateFiles { certificate: file("cert.pem", certificate), key: file("key.pem", key) };
    let error = Pair::read(&files).err()?.to_string();
    assert!(!error.contains("PRIVATE KEY"));
    Some(error.replace(directory.path().to_str().unwrap(), "DIR"))
}

#[test]
fn each_bad_file_is_named_with_its_cure() {
    let (one, other) = (pair(), pair());
    let pkcs8_encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let legacy_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let not_a_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cut = &one.certificate[..one.certificate.len() / 2];
    for (certificate, key, expected) in [
        (Some(one.certificate.as_str()), Some(one.key.as_str()), None),
        (
            None,
            Some(&one.key),
            Some("can't read DIR/cert.pem: No such file or directory (os error 2); check the path"),
        ),
        (Some(&one.certificate), None, Some("can't read DIR/key.pem: No such file")),
        (Some(""), Some(&one.key), Some("DIR/cert.pem holds no certificate; it must be PEM")),
        (Some(&one.key), Some(&one.key), Some("DIR/cert.pem holds no certificate")),
        (Some(cut), Some(&one.key), Some("DIR/cert.pem is not valid PEM")),
        (Some(not_x509), Some(&one.key), Some("the certificate in DIR/cert.pem can't be used")),
        (Some(&one.certificate), Some(""), Some("DIR/key.pem holds no private key; it must be PEM")),
        (Some(&one.certificate), Some(&one.certificate), Some("DIR/key.pem holds no private key")),
        (Some(&one.certificate), Some(not_a_key), Some("the private key in DIR/key.pem can't be used")),
        (
            Some(&one.certificate),
            Some(&pkcs8_encrypted),
            Some(
                "the private key in DIR/key.pem is encrypted; decrypt it with `openssl pkey -in DIR/key.pem",
            ),
        ),
        (Some(&one.certificate), Some(legacy_encrypted), Some("the private key in DIR/key.pem is encrypted")),
        (
            Some(&one.certificate),
            Some(&other.key),
            Some("the private key in DIR/key.pem does not belong to the certificate in DIR/cert.pem"),
        ),
    ] {
        let error = error(certificate, key);
        match expected {
            None => assert_eq!(error, None),
            Some(expected) => assert!(
                error.as_deref().is_some_and(|error| error.starts_with(expected)),
                "{expected}: {error:?}"
            ),
        }
    }
}

fn leaf(change: impl FnOnce(&mut CertificateParams), names: &[&str]) -> Pair {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let pair = KeyPair::generate().unwrap();
    fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    Pair::read(&CertificateFiles { certificate, key }).unwrap()
}

#[test]
fn a_certificate_outside_its_validity_is_noticed_to_the_second() {
    let of_2020 = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    };
    let pair = leaf(of_2020, &["api.example"]);
    let (not_before, not_after) = (UnixTime(1_577_836_800), UnixTime(2_524_521_600));
    assert_eq!(pair.leaf.validity, Validity { not_after, not_before });
    for (now, expected) in [
        (not_before.0 - 1, Some("the certificate is not valid yet")),
        (not_before.0, None),
        (not_after.0, None),
        (not_after.0 + 1, Some("the certificate has expired")),
    ] {
        assert_eq!(pair.problem(UnixTime(now)), expected);
    }
}

#[test]
fn a_certificate_says_which_names_and_addresses_it_is_for() {
    let now = UnixTime(1_800_000_000);
    for (names, expected) in [
        (&[][..], Some("the certificate has no subjectAltName")),
        (&["API.example", "*.example"], None),
        (&["192.0.2.1", "2001:db8::1"], None),
    ] {
        assert_eq!(leaf(|_| (), names).problem(now), expected, "{names:?}");
    }
    let Leaf { addresses, names, .. } =
        leaf(|_| (), &["API.example", "*.example", "192.0.2.1", "2001:db8::1"]).leaf;
    assert_eq!(names, ["api.example", "*.example"]);
    assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1", "2001:db8::1"]);
}
