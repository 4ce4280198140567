//! The TLS side of all listeners, and the watch over their files.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::TlsError;
use super::client::ClientCertificate;
use super::handshake::Places;
use super::listener::TlsListener;
use super::status::{CertificateStatus, TrustStatus};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::connections::{Connections, End};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// All listeners, in the order of the configuration.
#[derive(Debug, Default)]
pub struct TlsListeners(Vec<Arc<TlsListener>>);

impl TlsListeners {
    /// Reads every file. Blocks.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn open(config: &Config, now: UnixTime) -> Result<Self, TlsError> {
        let places = Arc::new(Places::new(config.sizes.handshakes.get()));
        let open = |listener| TlsListener::open(listener, Arc::clone(&places), now).map(Arc::new);
        config.listeners.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TlsListener>> {
        self.0.iter()
    }

    /// Every certificate, by listener.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.0.iter().flat_map(|listener| listener.status()).collect()
    }

    /// Whose client certificates are believed, by listener.
    pub fn trust_status(&self) -> Vec<TrustStatus> {
        self.0.iter().filter_map(|listener| listener.trust_status()).collect()
    }

    /// Whether a client certificate may be a credential anywhere.
    pub fn authenticate(&self) -> bool {
        self.0.iter().any(|listener| listener.authenticates())
    }

    /// Reads what changed, and ends the connections whose client certificate is no longer accepted. Blocks.
    pub fn look(&self, connections: &Connections, now: UnixTime) {
        let changed = self.0.iter().fold(false, |changed, listener| listener.look(now) || changed);
        if changed {
            let refused = |certificate: &ClientCertificate| certificate.check(now).is_err();
            let ended = connections.end(|open| open.certificate().is_some_and(refused), End::Revoked);
            if ended > 0 {
                tracing::info!(ended, "connections whose client certificate is no longer accepted");
            }
        }
    }

    /// Looks at the files for as long as the agent runs.
    pub async fn watch(self: Arc<Self>, connections: Arc<Connections>) {
        loop {
            sleep(LOOK).await;
            let (listeners, connections) = (Arc::clone(&self), Arc::clone(&connections));
            let look = move || listeners.look(&connections, UnixTime::now());
            if let Err(error) = spawn_blocking(look).await {
                tracing::error!(%error, "looking at the certificates broke off; it is tried again");
            }
        }
    }
}
