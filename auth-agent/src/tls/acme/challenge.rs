//! Answers to an ACME server that connects to see whether a name is ours (TLS-ALPN-01, RFC 8737).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, version};

/// What such a client, and nobody else, offers to speak.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// The challenges that are open, by name.
#[derive(Debug, Default)]
pub struct Challenges(Mutex<HashMap<String, Arc<ServerConfig>>>);

/// Why a challenge can't be answered.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// No certificate for it.
    #[error("can't make the challenge's certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take it.
    #[error("can't show the challenge's certificate: {0}")]
    Tls(#[from] rustls::Error),
}

impl Challenges {
    /// Whether a client asks for nothing but such an answer.
    pub(in crate::tls) fn asks(hello: &ClientHello<'_>) -> bool {
        hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == PROTOCOL))
    }

    /// The answer for a name, while its challenge is open.
    pub(in crate::tls) fn find(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.open().get(name).cloned()
    }

    /// Answers for `name` until the guard is gone. `digest` is SHA-256 of the key authorization.
    ///
    /// # Errors
    /// Without a certificate to show.
    pub fn answer(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Answering, ChallengeError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let chain = vec![params.self_signed(&key)?.der().clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(aws_lc_rs::default_provider());
        // Not held against each other: the verifier knows nothing of the extension, which is critical.
        let certified = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        self.open().insert(name.to_owned(), Arc::new(config));
        Ok(Answering { challenges: Arc::clone(self), name: name.to_owned() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<ServerConfig>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A challenge that is open.
#[derive(Debug)]
pub struct Answering {
    challenges: Arc<Challenges>,
    name: String,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.challenges.open().remove(&self.name);
    }
}
