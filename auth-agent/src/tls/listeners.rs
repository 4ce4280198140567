//! The TLS side of all listeners, and the watch over their files.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::TlsError;
use super::acme::Challenges;
use super::client::ClientCertificate;
use super::handshake::Places;
use super::listener::{Shared, TlsListener};
use super::status::{CertificateStatus, TrustStatus};
use crate::clock::UnixTime;
use crate::config::{Config, Listener};
use crate::connections::{Connections, End};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// All listeners, in the order of the configuration. Another configuration puts others in their place.
#[derive(Debug, Default)]
pub struct TlsListeners {
    challenges: Arc<Challenges>,
    current: ArcSwap<Vec<Arc<TlsListener>>>,
}

impl TlsListeners {
    /// Reads every file that a configuration names; nothing changes yet. Blocks.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn prepare(&self, config: &Config, now: UnixTime) -> Result<Vec<Arc<TlsListener>>, TlsError> {
        let earlier = self.all();
        let (handshakes, same) = (config.sizes.handshakes.get(), earlier.first().map(|first| first.places()));
        let places = match same.filter(|places| places.places == handshakes) {
            Some(places) => Arc::clone(places),
            None => Arc::new(Places::new(handshakes)),
        };
        let shared = Shared { acme: config.acme.clone(), challenges: Arc::clone(&self.challenges), places };
        let open = |listener: &Listener| {
            let earlier = earlier.iter().find(|earlier| earlier.address() == listener.address);
            TlsListener::open(listener, earlier.map(|earlier| &**earlier), &shared, now).map(Arc::new)
        };
        config.listeners.iter().map(open).collect()
    }

    /// Puts these in place of what there was.
    pub fn replace(&self, listeners: Vec<Arc<TlsListener>>) {
        for earlier in self.all().iter() {
            let next = listeners.iter().find(|next| next.address() == earlier.address());
            next.into_iter().for_each(|next| next.succeed(earlier));
        }
        self.current.store(Arc::new(listeners));
    }

    /// Each of them.
    pub fn all(&self) -> Arc<Vec<Arc<TlsListener>>> {
        self.current.load_full()
    }

    /// The challenges that they answer.
    pub fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.challenges)
    }

    /// Every certificate, by listener.
    pub fn status(&self) -> Vec<CertificateStatus> {
        self.all().iter().flat_map(|listener| listener.status()).collect()
    }

    /// Whose client certificates are believed, by listener.
    pub fn trust_status(&self) -> Vec<TrustStatus> {
        self.all().iter().filter_map(|listener| listener.trust_status()).collect()
    }

    /// Whether a client certificate may be a credential anywhere.
    pub fn authenticate(&self) -> bool {
        self.all().iter().any(|listener| listener.authenticates())
    }

    /// Reads what changed, and ends the connections whose client certificate is no longer accepted. Blocks.
    pub fn look(&self, connections: &Connections, now: UnixTime) {
        let changes: Vec<_> = self.all().iter().map(|listener| listener.look(now)).collect();
        if changes.contains(&true) {
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
