//! Key files that change while they are in use.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::json;
use tempfile::TempDir;

use super::super::{IssuerStatus, Issuers, MissingKey, RefreshError};
use crate::clock::{Monotonic, UnixTime};
use crate::token::tests::mint::{MAX_BYTES, Signer, claims, issuer, refusal};
use crate::token::{TokenError, Verifier};

struct Host {
    directory: TempDir,
    issuers: Issuers,
    path: PathBuf,
    tokens: Arc<Verifier>,
}

impl Host {
    fn new(lay: impl FnOnce(&Path) -> PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = lay(directory.path());
        let config = [issuer(&[Algorithm::ES256], &path)];
        let tokens = Arc::new(Verifier::load(&config, MAX_BYTES).unwrap());
        let issuers = Issuers::open(&config, directory.path(), Arc::clone(&tokens), UnixTime::now()).unwrap();
        Self { directory, issuers, path, tokens }
    }

    fn status(&self) -> IssuerStatus {
        self.issuers.list(Monotonic::now(), UnixTime::now()).remove(0)
    }
}

/// Waits until the file that is being watched shows.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("in vain: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_counts_however_it_is_changed_and_a_broken_one_changes_nothing() {
    let signers = [Signer::of(Algorithm::ES256), Signer::stranger(), Signer::stranger(), Signer::stranger()];
    let host = Host::new(|folder| {
        let path = folder.join("keys");
        fs::write(&path, &signers[0].pem).unwrap();
        path
    });
    host.issuers.keep();
    let is_key = |wanted: usize| {
        signers.iter().enumerate().all(|(index, signer)| {
            let expected = if index == wanted { None } else { Some(TokenError::Signature) };
            refusal(&host.tokens, &signer.token(&claims())) == expected
        })
    };
    assert!(is_key(0));
    fs::write(&host.path, &signers[1].pem).unwrap();
    until("written in place", || is_key(1)).await;
    fs::write(host.directory.path().join("new"), signers[2].jwk().to_string()).unwrap();
    fs::rename(host.directory.path().join("new"), &host.path).unwrap();
    until("renamed over it", || is_key(2)).await;

    for (text, words) in [("", "not a PEM public key"), ("-----BEGIN", "not a PEM"), ("{", "one JSON object")]
    {
        fs::write(&host.path, text).unwrap();
        until(words, || host.status().error.is_some_and(|error| error.contains(words))).await;
        assert!(is_key(2), "{words}");
    }
    fs::remove_file(&host.path).unwrap();
    until("the file is gone", || host.status().error.is_some_and(|error| error.contains("can't be read")))
        .await;
    assert!(is_key(2));
    fs::write(&host.path, &signers[3].pem).unwrap();
    until("it is back", || is_key(3)).await;
    until("no error is left", || host.status().error.is_none()).await;
}

/// As a mounted volume of a container does it: the file is a link through a folder that is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_swapped_above_the_file_counts() {
    let (old, new) = (Signer::of(Algorithm::ES256), Signer::stranger());
    let host = Host::new(|folder| {
        for (version, signer) in [("v1", &old), ("v2", &new)] {
            fs::create_dir(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("keys"), &signer.pem).unwrap();
        }
        symlink("v1", folder.join("data")).unwrap();
        symlink("data/keys", folder.join("keys")).unwrap();
        folder.join("keys")
    });
    host.issuers.keep();
    assert_eq!(refusal(&host.tokens, &old.token(&claims())), None);
    symlink("v2", host.directory.path().join("swap")).unwrap();
    fs::rename(host.directory.path().join("swap"), host.directory.path().join("data")).unwrap();
    until("the link's end", || refusal(&host.tokens, &new.token(&claims())).is_none()).await;
    assert_eq!(refusal(&host.tokens, &old.token(&claims())), Some(TokenError::Signature));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_has_a_file_read_at_once_and_sees_what_is_not_used() {
    let (signer, new) = (Signer::of(Algorithm::ES256), Signer::stranger());
    let host = Host::new(|folder| {
        fs::write(folder.join("keys"), &signer.pem).unwrap();
        folder.join("keys")
    });
    let other = Signer::of(Algorithm::RS256).jwk_with(json!({"kid": "rsa"}));
    let keys = json!({"keys": [new.jwk_with(json!({"kid": "new"})), other]});
    fs::write(&host.path, keys.to_string()).unwrap();
    host.issuers.refresh("main").await.unwrap();
    let status = host.status();
    assert_eq!((status.keys.len(), status.keys[0].id.as_deref()), (1, Some("new")));
    assert!(status.skipped[0].contains("key \"rsa\" is for RS256"), "{:?}", status.skipped);
    fs::write(&host.path, "x").unwrap();
    let error = host.issuers.refresh("main").await.unwrap_err();
    assert!(matches!(error, RefreshError::Failed { .. }), "{error}");
    assert!(matches!(host.issuers.refresh("other").await, Err(RefreshError::Missing(_))));
    assert!(
        matches!(host.issuers.missing_key(&new.token(&claims()), Monotonic::now()), MissingKey::Absent),
        "nothing is fetched"
    );
}
