//! The TLS side of all listeners, and the watch over their files.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::TlsError;
use super::handshake::Places;
use super::listener::TlsListener;
use super::status::CertificateStatus;
use crate::clock::UnixTime;
use crate::config::Config;

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

    /// Reads what changed. Blocks.
    pub fn look(&self, now: UnixTime) {
        self.0.iter().for_each(|listener| listener.look(now));
    }

    /// Looks at the files for as long as the agent runs.
    pub async fn watch(self: Arc<Self>) {
        loop {
            sleep(LOOK).await;
            let listeners = Arc::clone(&self);
            if let Err(error) = spawn_blocking(move || listeners.look(UnixTime::now())).await {
                tracing::error!(%error, "looking at the certificates broke off; it is tried again");
            }
        }
    }
}
