//! What is kept, and what a failure changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::api_key::Pepper;
use crate::authorization_server::Sealer;
use crate::https_url::HttpsUrl;
use crate::tls::Validity;

fn vault(folder: &Path) -> Vault {
    let pepper = Pepper::open(folder, false).unwrap();
    Vault::new(folder, Sealer::for_acme(&pepper).unwrap())
}

#[test]
fn what_is_kept_is_sealed_whole_and_for_its_owner_alone() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kept = vault(folder.path());
    let name = Vault::name("account", &["https://acme.example/directory"]);
    assert_eq!(kept.read::<String>(&name).unwrap(), None);
    for secret in ["first secret", "second secret"] {
        kept.write(&name, &secret).unwrap();
        assert_eq!(kept.read::<String>(&name).unwrap().as_deref(), Some(secret));
    }
    let path = folder.path().join("acme").join(&name);
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(folder.path().join("acme").metadata().unwrap().mode() & 0o777, 0o700);
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"secret"));
    assert_eq!(fs::read_dir(folder.path().join("acme")).unwrap().count(), 1, "nothing unfinished is left");

    // Of another host, under another name, cut short: of no use, and said so.
    fs::create_dir(other.path().join("acme")).unwrap();
    fs::copy(&path, other.path().join("acme").join(&name)).unwrap();
    let error = vault(other.path()).read::<String>(&name).unwrap_err().to_string();
    assert!(error.contains("can't be opened with this host's secret; remove the file"), "{error}");
    fs::copy(&path, folder.path().join("acme/account-other")).unwrap();
    assert!(kept.read::<String>("account-other").is_err());
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(kept.read::<String>(&name).is_err());
}

#[test]
fn names_of_files_tell_apart_what_they_are_about() {
    let names = [&["a", "b"][..], &["ab"], &["a", "", "b"], &["b", "a"]];
    let names = names.map(|about| Vault::name("certificate", about));
    for (at, name) in names.iter().enumerate() {
        assert!(names[..at].iter().all(|other| other != name));
    }
}

fn pair() -> Pair {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    Pair::parse(&params.self_signed(&key).unwrap().pem(), key.serialize_der()).unwrap()
}

#[test]
fn a_failure_leaves_the_certificate_that_is_there_and_waits_longer_each_time() {
    let directory = HttpsUrl::parse("https://acme.example/directory").unwrap();
    let renew_before = Duration::from_secs(86_400);
    let settings = config::Acme { ca: None, contact: Vec::new(), directory, renew_before };
    let wanted = Wanted { names: vec!["a.example".to_owned()], settings };
    let now = UnixTime(1_800_000_000);
    let shown = Arc::new(pair());
    let mut state = State { due: now, error: None, failures: 0, pair: Some(Arc::clone(&shown)) };
    for (failures, least, most) in [(1, 60, 75), (2, 240, 300), (3, 960, 1_200)] {
        let failed = AcmeError::NoChallenge { name: "a.example".to_owned() };
        state = after(state, Err(failed), &wanted, now);
        assert!(Arc::ptr_eq(state.pair.as_ref().unwrap(), &shown));
        assert_eq!(state.failures, failures);
        assert!(state.error.as_ref().unwrap().starts_with("the server offers no tls-alpn-01"));
        assert!((now.0 + least..=now.0 + most).contains(&state.due.0), "{:?}", state.due);
    }
    let new = pair();
    let Validity { not_after, .. } = new.leaf.validity;
    state = after(state, Ok(new), &wanted, now);
    assert_eq!((state.failures, &state.error), (0, &None));
    assert!(!Arc::ptr_eq(state.pair.as_ref().unwrap(), &shown));
    assert!(state.due < not_after && state.due.0 >= not_after.0 - 86_400 - 8_640);
}
