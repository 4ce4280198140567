//! What `status` says of certificates.

use std::fmt::Display;
use std::net::SocketAddr;

use rustls::SignatureAlgorithm;
use serde::{Deserialize, Serialize};

use super::pair::Pair;
use crate::clock::UnixTime;

/// A certificate that ends within this time should have been replaced by now, seconds.
pub const SOON_SECONDS: u64 = 14 * 86_400;

/// One certificate of a listener.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CertificateStatus {
    /// The kind of its key: `ecdsa`, `ed25519` or `rsa`.
    pub algorithm: String,
    /// Why what is in its files now is not in use; absent: it is.
    pub error: Option<String>,
    /// The listener that shows it.
    pub listener: SocketAddr,
    /// When it was read.
    pub loaded: Option<UnixTime>,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// Its last second.
    pub not_after: UnixTime,
    /// Its first second.
    pub not_before: UnixTime,
    /// The certificate's file.
    pub source: String,
}

impl CertificateStatus {
    pub(super) fn new(pair: &Pair, listener: SocketAddr, source: impl Display) -> Self {
        let addresses = pair.leaf.addresses.iter().map(ToString::to_string);
        let algorithm = match pair.algorithm() {
            SignatureAlgorithm::ECDSA => "ecdsa",
            SignatureAlgorithm::ED25519 => "ed25519",
            SignatureAlgorithm::RSA => "rsa",
            _ => "other",
        };
        Self {
            algorithm: algorithm.to_owned(),
            error: None,
            listener,
            loaded: None,
            names: pair.leaf.names.iter().cloned().chain(addresses).collect(),
            not_after: pair.leaf.validity.not_after,
            not_before: pair.leaf.validity.not_before,
            source: source.to_string(),
        }
    }

    pub(super) fn read(self, loaded: UnixTime, error: Option<String>) -> Self {
        Self { error, loaded: Some(loaded), ..self }
    }

    /// What an operator should do something about.
    pub fn warning(&self, now: UnixTime) -> Option<String> {
        let source = &self.source;
        if let Some(error) = &self.error {
            return Some(format!("{error}; the last good certificate stays in use"));
        }
        let left = |seconds: u64| crate::duration::text(seconds);
        if now > self.not_after {
            Some(format!("{source} expired {} ago: clients refuse it", left(now.0 - self.not_after.0)))
        } else if now < self.not_before {
            Some(format!("{source} is not valid before {} from now", left(self.not_before.0 - now.0)))
        } else if self.not_after.0 - now.0 < SOON_SECONDS {
            Some(format!("{source} expires in {}", left(self.not_after.0 - now.0)))
        } else {
            None
        }
    }
}

/// Whose client certificates a listener believes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TrustStatus {
    /// How many authorities.
    pub authorities: usize,
    /// Why what is in the files now is not in use; absent: it is.
    pub error: Option<String>,
    /// Revocation lists.
    pub lists: Vec<ListStatus>,
    /// The listener that asks for them.
    pub listener: SocketAddr,
    /// When they were read.
    pub loaded: UnixTime,
    /// The bundle's file.
    pub source: String,
}

/// A revocation list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListStatus {
    /// By when there is a newer one; from then on, no certificate of its issuer is accepted.
    pub next_update: Option<UnixTime>,
    /// Its file.
    pub source: String,
}

impl TrustStatus {
    /// What an operator should do something about.
    pub fn warnings(&self, now: UnixTime) -> Vec<String> {
        let error = self.error.iter().map(|error| format!("{error}; the last good ones stay in use"));
        let overdue = self.lists.iter().filter(|list| list.next_update.is_some_and(|next| next < now));
        let overdue = overdue.map(|list| {
            format!("{} is overdue: no client certificate of its issuer is accepted; renew it", list.source)
        });
        error.chain(overdue).collect()
    }
}

/// A certificate that is got from an ACME server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AcmeStatus {
    /// The server's directory.
    pub directory: String,
    /// Why the last attempt brought none; absent: it did, or there was none.
    pub error: Option<String>,
    /// Attempts in a row that brought none.
    pub failures: u32,
    /// The listener that shows it.
    pub listener: SocketAddr,
    /// Names that it is for.
    pub names: Vec<String>,
    /// When it is got anew, or tried again.
    pub next: Option<UnixTime>,
    /// Its last second; absent: there is none yet.
    pub not_after: Option<UnixTime>,
}
