//! The public side: sockets, TLS and HTTP connections, from `bind` to the end of the drain.
//!
//! Invariants: every connection is its own task, bounded in number and in time; no connection outlives the
//! drain; nothing is read as HTTP that has not come through TLS.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use crate::allowlist::Allowlist;
use crate::clock::UnixTime;
use crate::config::{Config, Sizes, Timeouts};
use crate::connections::{Connections, End};
use crate::gateway::Gateway;
use crate::tls::{TlsError, TlsListener, TlsListeners};

mod accept;
mod activity;
mod admission;
mod connection;
mod descriptors;
mod front;
mod http1;
mod http2;
mod listen;
mod proxied;
mod session;
mod socket;
mod sockets;
mod tunnel;
mod workers;

use admission::Admission;
use connection::reason_of;
pub use descriptors::needed as descriptors_needed;
pub(crate) use http2::guarded;
pub use listen::BindError;
use proxied::Proxied;
pub use sockets::{SocketProblem, Sockets};
use workers::{Places, Workers};

/// Why the public listeners can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system gives no threads.
    #[error("can't start the threads that serve: {0}; see sizes.workers, and `ulimit -u`")]
    Workers(io::Error),
}

/// Listeners that are open, with certificates that work; nothing is accepted before [`Server::start`].
pub struct Server {
    connections: Arc<Connections>,
    listeners: Vec<Open>,
    tls: Arc<TlsListeners>,
    workers: Workers,
}

/// One listener.
struct Open {
    /// As configured.
    address: SocketAddr,
    /// The same socket, for the agent that comes after this one.
    heirloom: TcpListener,
    socket: TcpListener,
    tls: Arc<TlsListener>,
}

impl Open {
    fn new(tls: &Arc<TlsListener>, socket: TcpListener) -> Result<Self, BindError> {
        let address = tls.address();
        let heirloom = socket.try_clone().map_err(|source| BindError::Other { address, source })?;
        Ok(Self { address, heirloom, socket, tls: Arc::clone(tls) })
    }

    /// Certificates come first: an address is not taken for what can't be served. What is in `sockets` is not opened; what
    /// is left there may be on the port of what is.
    fn all(tls: &[Arc<TlsListener>], sockets: &mut Sockets) -> Result<Vec<Self>, BindError> {
        let taken: Vec<_> = tls.iter().map(|tls| (tls, sockets.take(tls.address()))).collect();
        let opened = taken.into_iter().map(|(tls, socket)| {
            let socket = socket.map_or_else(|| listen::bind(tls.address(), &sockets.all()), Ok)?;
            Self::new(tls, socket)
        });
        opened.collect()
    }
}

impl Server {
    /// Opens every listener, and starts the threads that will serve.
    ///
    /// # Errors
    /// Of the first that can't be opened.
    pub fn bind(config: &Config) -> Result<Self, ServeError> {
        Self::bind_or_take(config, &mut Sockets::default())
    }

    /// The same, but for the listeners that are in `sockets`: those are taken out of there.
    ///
    /// # Errors
    /// Of the first that can't be opened.
    pub fn bind_or_take(config: &Config, sockets: &mut Sockets) -> Result<Self, ServeError> {
        let tls = TlsListeners::default();
        tls.replace(tls.prepare(config, UnixTime::now())?);
        let listeners = Open::all(&tls.all(), sockets)?;
        let workers =
            config.sizes.workers.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let workers = Workers::start(workers).map_err(ServeError::Workers)?;
        Ok(Self { connections: Arc::default(), listeners, tls: Arc::new(tls), workers })
    }

    /// The connections that will be open.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    /// The TLS side of the listeners.
    pub fn tls(&self) -> Arc<TlsListeners> {
        Arc::clone(&self.tls)
    }

    /// The addresses that are listened on; with port 0 configured, the port that the system chose.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(|listener| listener.socket.local_addr()).collect()
    }

    /// Serves from now on. Must be called within a tokio runtime.
    pub fn start(self, config: &Config, gateway: Arc<Gateway>, allowlist: Arc<Allowlist>) -> Serving {
        let limit = descriptors::make_room(config);
        let shared = Arc::new(Shared {
            admission: Arc::new(Admission::new(config, allowlist, limit)),
            connections: self.connections,
            gateway,
            places: self.workers.places(),
            settings: ArcSwap::from_pointee(Settings::new(config)),
        });
        let expiry = tokio::spawn(cut_expired(Arc::clone(&shared)));
        let (listening, phase) = (Mutex::default(), watch::Sender::new(Phase::Serving));
        let serving = Serving { expiry, listening, phase, shared, tls: self.tls, _workers: self.workers };
        for open in self.listeners {
            serving.listen(open);
        }
        serving
    }
}

/// A server at work. It ends with [`Serving::drain`].
pub struct Serving {
    expiry: JoinHandle<()>,
    /// By the address as configured.
    listening: Mutex<HashMap<SocketAddr, Listening>>,
    phase: watch::Sender<Phase>,
    shared: Arc<Shared>,
    tls: Arc<TlsListeners>,
    /// Dropped, they end.
    _workers: Workers,
}

struct Listening {
    heirloom: TcpListener,
    /// Dropped, it stops; told, once it has taken what waits for it.
    stop: oneshot::Sender<()>,
    tls: Arc<ArcSwap<TlsListener>>,
}

/// What a change of the configuration needs of the system, and has got.
pub struct Prepared {
    /// Connections that there are descriptors for.
    limit: usize,
    new: Vec<Open>,
    settings: Settings,
    tls: Vec<Arc<TlsListener>>,
}

impl Serving {
    /// Opens what is new in `config`; nothing changes yet.
    ///
    /// # Errors
    /// If a listener can't be opened.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, ServeError> {
        let tls = self.tls.prepare(config, UnixTime::now())?;
        let listening = self.lock();
        let is_new = |tls: &&Arc<TlsListener>| !listening.contains_key(&tls.address());
        let leaving = |address| tls.iter().all(|tls| tls.address() != address);
        let leaving = listening.iter().filter(|(address, _)| leaving(**address));
        let leaving: Vec<_> = leaving.map(|(_, listening)| &listening.heirloom).collect();
        let new = tls.iter().filter(is_new).map(|tls| Open::new(tls, listen::bind(tls.address(), &leaving)?));
        let new = new.collect::<Result<_, BindError>>()?;
        drop(listening);
        Ok(Prepared { limit: descriptors::make_room(config), new, settings: Settings::new(config), tls })
    }

    /// Changes over. Connections stay as they are, those of listeners that are gone, too.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { limit, new, settings, tls } = prepared;
        self.shared.admission.set_limits(limit, settings.sizes.connections_per_source.get());
        self.shared.settings.store(Arc::new(settings));
        self.tls.replace(tls.clone());
        let tls: HashMap<_, _> = tls.into_iter().map(|tls| (tls.address(), tls)).collect();
        let mut listening = self.lock();
        let (stay, leave) = std::mem::take(&mut *listening)
            .into_iter()
            .partition::<HashMap<_, _>, _>(|(address, _)| tls.contains_key(address));
        *listening = stay;
        for (address, listening) in &*listening {
            listening.tls.store(Arc::clone(&tls[address]));
        }
        drop(listening);
        for Listening { stop, .. } in leave.into_values() {
            // It may be gone already.
            let _ = stop.send(());
        }
        for open in new {
            self.listen(open);
        }
    }

    fn listen(&self, open: Open) {
        let Open { address, heirloom, socket, tls } = open;
        let Some(seat) = self.shared.places.seat() else { return };
        let (stop, stopped) = oneshot::channel();
        let tls = Arc::new(ArcSwap::new(tls));
        seat.spawn(accept::run(
            socket,
            Arc::clone(&tls),
            Arc::clone(&self.shared),
            self.phase.subscribe(),
            stopped,
        ));
        self.lock().insert(address, Listening { heirloom, stop, tls });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Listening>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `each` with every listening socket and its address as configured.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub fn each_socket(
        &self,
        mut each: impl FnMut(SocketAddr, &TcpListener) -> io::Result<()>,
    ) -> io::Result<()> {
        self.lock().iter().try_for_each(|(address, listening)| each(*address, &listening.heirloom))
    }

    /// Ends the connections whose clients showed a certificate.
    pub fn end_certified(&self) {
        self.shared.connections.end(|connection| connection.certificate().is_some(), End::Revoked);
    }

    /// Stops accepting, lets open requests finish for `limit`, and ends what is left.
    pub async fn drain(&self, limit: Duration) {
        // With the last copy of a socket, the kernel refuses newcomers.
        self.lock().clear();
        drain(&self.phase, limit).await;
        self.expiry.abort();
    }
}

/// What connections go by from their start to their end.
struct Settings {
    proxied: Proxied,
    sizes: Sizes,
    timeouts: Timeouts,
}

impl Settings {
    fn new(config: &Config) -> Self {
        Self { proxied: Proxied::new(config), sizes: config.sizes, timeouts: config.timeouts }
    }
}

/// How often it is looked for requests whose credential is over: a second is what they are counted in.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

async fn cut_expired(shared: Arc<Shared>) {
    let mut ticks = interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        let grace = shared.settings.load().timeouts.credential_grace;
        let then = UnixTime(UnixTime::now().0.saturating_sub(grace.as_secs()));
        shared.connections.cut_expired(|identity| shared.gateway.is_over(identity, then));
    }
}

/// What a connection may still do. Every accept loop and connection holds a receiver, so that the sender
/// knows when the last is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Finish what is open.
    Draining,
    /// Nothing.
    Ended,
    /// Anything.
    Serving,
}

/// What connections share.
struct Shared {
    admission: Arc<Admission>,
    connections: Arc<Connections>,
    gateway: Arc<Gateway>,
    places: Places,
    settings: ArcSwap<Settings>,
}

/// What a client that was told to go may take at least to do so.
const GOODBYE: Duration = Duration::from_secs(2);

/// Comes when nothing new is to be begun.
async fn draining(phase: &mut watch::Receiver<Phase>) {
    // Without a sender, the server is gone altogether.
    drop(phase.wait_for(|phase| *phase != Phase::Serving).await);
}

/// Connections need no time to end once they are told to; this only keeps a bug from hanging the process.
const END_GRACE: Duration = Duration::from_secs(1);

async fn drain(phase: &watch::Sender<Phase>, limit: Duration) {
    phase.send_replace(Phase::Draining);
    if timeout(limit, phase.closed()).await.is_ok() {
        info!("every connection has ended");
        return;
    }
    warn!(connections = phase.receiver_count(), "ending the connections that are left after timeouts.drain");
    phase.send_replace(Phase::Ended);
    let _ = timeout(END_GRACE, phase.closed()).await;
}

#[cfg(test)]
mod tests;
