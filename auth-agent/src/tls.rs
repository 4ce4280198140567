//! TLS 1.2 and 1.3 for the public listeners, and nothing older (promise P2).
//!
//! The provider is passed explicitly everywhere: a process-wide default could be set by a dependency. Its suites are
//! ECDHE with AEAD alone, and X25519MLKEM768 comes first among its groups. Early data stays off, since it can be
//! replayed. A change of the files counts for new handshakes; connections that are open never learn of it.

mod acme;
mod client;
mod error;
mod handshake;
mod leaf;
mod listener;
mod listeners;
mod pair;
mod status;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod trust;

pub use self::acme::{Acme, Challenges, Vault};
pub use self::client::ClientCertificate;
pub use self::error::TlsError;
pub use self::handshake::{Accepted, Failure};
pub use self::leaf::{Leaf, Validity};
pub use self::listener::TlsListener;
pub use self::listeners::TlsListeners;
pub use self::pair::Pair;
pub use self::status::{AcmeStatus, CertificateStatus, ListStatus, SOON_SECONDS, TrustStatus};
