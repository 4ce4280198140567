//! Which certificate a client is shown: by the name that it asks for, and by what its signature schemes allow.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::pair::Pair;
use crate::config::UnknownName;

/// Certificates for one name, in the order in which they are tried.
type Choice = Vec<Arc<CertifiedKey>>;

/// A listener's certificates by name.
#[derive(Debug)]
pub(super) struct Table {
    default: Choice,
    exact: HashMap<Box<str>, Choice>,
    unknown_name: UnknownName,
    /// By what follows the first label.
    wildcard: HashMap<Box<str>, Choice>,
}

impl Table {
    /// The first pair is the default, with those of its names that have keys of another kind.
    pub fn new(pairs: &[Arc<Pair>], unknown_name: UnknownName) -> Self {
        let mut sorted: Vec<_> = pairs.iter().collect();
        // Stable: among equals, the order of the configuration decides.
        sorted.sort_by_key(|pair| preference(pair.algorithm()));
        let mut table =
            Self { default: Choice::new(), exact: HashMap::new(), unknown_name, wildcard: HashMap::new() };
        for pair in sorted {
            for name in &pair.leaf.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut table.wildcard, rest),
                    None => (&mut table.exact, name.as_str()),
                };
                // A wildcard is a whole label, the first, and there is one (RFC 9525 6.3).
                if !name.is_empty() && !name.contains('*') {
                    names.entry(name.into()).or_default().push(Arc::clone(&pair.certified));
                }
            }
        }
        table.default = table.default_of(pairs);
        table
    }

    fn default_of(&self, pairs: &[Arc<Pair>]) -> Choice {
        let Some(first) = pairs.first() else { return Choice::new() };
        let twins = first.leaf.names.first().map(|name| match name.strip_prefix("*.") {
            Some(rest) => self.wildcard.get(rest),
            None => self.exact.get(name.as_str()),
        });
        let is_twin = |other: &&Arc<CertifiedKey>| {
            other.key.algorithm() != first.algorithm() || Arc::ptr_eq(other, &first.certified)
        };
        match twins.flatten() {
            Some(twins) => twins.iter().filter(is_twin).cloned().collect(),
            None => vec![Arc::clone(&first.certified)],
        }
    }

    /// Whether there is something to show to a client that asks for this; the name is in lower case.
    pub fn knows(&self, name: Option<&str>) -> bool {
        self.choices(name).next().is_some()
    }

    /// The exact name comes first.
    fn choices(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let exact = name.and_then(|name| self.exact.get(name));
        let rest = name.and_then(|name| Some(name.split_once('.')?.1));
        let wildcard = rest.and_then(|rest| self.wildcard.get(rest));
        let shows_default = name.is_none() || self.unknown_name == UnknownName::Default;
        let default = (shows_default && exact.is_none() && wildcard.is_none()).then_some(&self.default);
        [exact, wildcard, default].into_iter().flatten().flatten()
    }

    pub fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let fitting = self.choices(name).find(|certified| certified.key.choose_scheme(schemes).is_some());
        // Where none fits, rustls has the alert for it.
        fitting.or_else(|| self.choices(name).next())
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name(), hello.signature_schemes()).cloned()
    }
}

/// An ECDSA signature costs a tenth of an RSA one; few clients know Ed25519, and those that do know ECDSA.
fn preference(algorithm: SignatureAlgorithm) -> u8 {
    match algorithm {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 => 1,
        _ => 2,
    }
}
