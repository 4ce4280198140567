use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use super::*;

struct Pair {
    certificate: String,
    key: String,
}

fn pair() -> Pair {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
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
    let listener = Listener {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        certificate: file("cert.pem", certificate),
        key: file("key.pem", key),
        proxy_protocol: false,
    };
    let error = server_config(&listener).err()?.to_string();
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

fn certified(names: &[&str]) -> (CertifiedKey, Arc<CryptoProvider>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let chain = vec![params.self_signed(&key).unwrap().der().clone()];
    let der = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (CertifiedKey::from_der(chain, der, &provider).unwrap(), provider)
}

#[test]
fn a_certificate_outside_its_validity_is_noticed() {
    let (certified, provider) = certified(&["api.example"]);
    let year =
        |years: u64| UnixTime::since_unix_epoch(Duration::from_secs(years * 365 * 86_400 + 20 * 86_400));
    for (now, expected) in [
        (year(49), Some("the certificate is not valid yet")),
        (year(50), None),
        (year(52), Some("the certificate has expired")),
    ] {
        assert_eq!(validity_problem(&certified, &provider, now), expected);
    }
}

#[test]
fn a_certificate_for_no_name_is_noticed() {
    for (names, expected) in [
        (&[][..], Some("the certificate has no subjectAltName")),
        (&["api.example"], None),
        (&["localhost"], None),
        (&["192.0.2.1"], None),
    ] {
        assert_eq!(name_problem(&certified(names).0), expected, "{names:?}");
    }
}

#[test]
fn the_validity_of_a_certificate_is_told_to_the_second() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cert.pem");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["api.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    let (not_before, not_after) =
        (crate::clock::UnixTime(1_577_836_800), crate::clock::UnixTime(2_524_521_600));
    assert_eq!(validity(&path).unwrap(), Some(Validity { not_after, not_before }));
    fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert_eq!(validity(&path).unwrap(), None);
}
