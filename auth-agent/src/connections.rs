//! The connections that are open: who is at the other end of each, what they are doing there, and a way to end that
//! from outside.
//!
//! A connection enters the register when it is accepted and leaves it with its [`Entry`]. A request touches nothing
//! but the entry of its own connection.

mod cut;
mod request;
#[cfg(test)]
mod tests;
mod users;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::clock::UnixTime;
use crate::edge::Flow;
use crate::identity::{Identity, Principal};
use crate::tls::ClientCertificate;

pub use self::cut::CutOff;
pub use self::request::OpenRequest;
use self::users::{Fate, Users};

/// So many connections can come and go at once; a power of two, so that ids spread over them.
const SHARDS: usize = 16;

/// Every open connection.
#[derive(Debug, Default)]
pub struct Connections {
    entered: AtomicU64,
    shards: [Mutex<HashMap<u64, Arc<Connection>>>; SHARDS],
}

impl Connections {
    /// Enters a connection that was accepted at `now`.
    pub fn enter(self: &Arc<Self>, local: SocketAddr, peer: SocketAddr, now: UnixTime) -> Entry {
        let id = self.entered.fetch_add(1, Relaxed) + 1;
        let (end, ended) = oneshot::channel();
        let connection = Arc::new(Connection {
            accepted: now,
            certificate: OnceLock::new(),
            client: OnceLock::new(),
            end: Mutex::new(Some(end)),
            id,
            local: canonical(local),
            open: AtomicU64::new(0),
            peer: canonical(peer),
            plaintext: AtomicBool::new(false),
            protocol: OnceLock::new(),
            bodies: AtomicU64::new(0),
            condemned: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            resting: AtomicBool::new(false),
            users: Mutex::default(),
        });
        self.shard(id).insert(id, Arc::clone(&connection));
        Entry { connection, connections: Arc::clone(self), ended }
    }

    /// The connections that are wanted and not ended, oldest first.
    pub fn list(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Arc<Connection>> {
        let shards = (0..SHARDS as u64).map(|shard| self.shard(shard));
        let mut found: Vec<_> = shards
            .flat_map(|shard| {
                let open = shard.values().filter(|connection| wanted(connection) && !connection.is_ended());
                open.cloned().collect::<Vec<_>>()
            })
            .collect();
        found.sort_unstable_by_key(|connection| connection.id);
        found
    }

    /// Those of these numbers that are open and not ended.
    pub fn numbered(&self, numbers: &BTreeSet<u64>) -> Vec<Arc<Connection>> {
        let found = numbers.iter().filter_map(|number| self.shard(*number).get(number).cloned());
        found.filter(|connection| !connection.is_ended()).collect()
    }

    /// Ends the connections that are wanted; says how many.
    pub fn end(&self, wanted: impl Fn(&Connection) -> bool, why: End) -> usize {
        self.list(wanted).iter().filter(|connection| connection.end(why)).count()
    }

    /// Cuts off every request whose credential is revoked, and finds the connections that nobody else uses: those are
    /// for the caller to end, once the kernel knows.
    pub fn cut_revoked(&self, is_revoked: impl Fn(&Identity) -> bool) -> CutOffs {
        let mut cut_offs = CutOffs::default();
        for connection in self.list(|_| true) {
            let open = usize::try_from(connection.open_requests()).unwrap_or(usize::MAX);
            let fate = connection.users().revoke(&is_revoked, connection.protocol(), open);
            match fate {
                Fate::Condemned => cut_offs.condemned.push(connection),
                Fate::CutOff(requests) if requests > 0 => {
                    cut_offs.requests += requests;
                    cut_offs.shared.push(connection);
                }
                Fate::CutOff(_) => {}
                Fate::Ended => cut_offs.ended += usize::from(connection.end(End::Revoked)),
            }
        }
        cut_offs
    }

    /// Ends the connections of who is banned, and cuts off the requests that proxies passed on for them; says how many
    /// connections ended.
    pub fn end_banned(&self, is_banned: impl Fn(IpAddr) -> bool) -> usize {
        let open = self.list(|_| true).into_iter();
        let ended = open.filter(|connection| {
            let ends = connection.ends_at(&is_banned)
                || connection.users().ban(&is_banned, connection.protocol()) == Fate::Ended;
            ends && connection.end(End::Banned)
        });
        ended.count()
    }

    /// Cuts off every request whose credential is over, and ends connections on which what was cut off a while ago has
    /// stalled. To be called every second or so.
    pub fn cut_expired(&self, is_over: impl Fn(&Identity) -> bool) {
        for connection in self.list(|connection| connection.open_requests() > 0) {
            let stalled = connection.users().has_stalled(STALLED_AFTER);
            let fate = connection.users().expire(&is_over, connection.protocol());
            if stalled || !matches!(fate, Fate::CutOff(_)) {
                connection.end(End::Expired);
            }
        }
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.shards[id as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a request that was cut off may take to be gone. Longer than a round trip: HTTP/2 resets a stream once its
/// client has taken what is on its way.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// What [`Connections::cut_revoked`] did and found.
#[derive(Debug, Default)]
pub struct CutOffs {
    /// Connections whose every user is revoked.
    pub condemned: Vec<Arc<Connection>>,
    /// Connections that were ended, as they carry one request at a time.
    pub ended: usize,
    /// Requests that were cut off on connections that others use, too.
    pub requests: usize,
    /// Those connections.
    shared: Vec<Arc<Connection>>,
}

impl CutOffs {
    /// Ends the connections on which what was cut off is still open after a second: its client reads nothing,
    /// and would get what HTTP/2 holds for it whenever it did.
    pub async fn end_stalled(self) {
        if self.shared.is_empty() {
            return;
        }
        sleep(STALLED_AFTER).await;
        for connection in self.shared {
            if connection.users().has_stalled(STALLED_AFTER) {
                connection.end(End::Revoked);
            }
        }
    }
}

/// IPv4 as IPv4, whatever socket it came by.
fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// Why a connection, or a request on it, is ended from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Its source was banned.
    Banned,
    /// The credential of a request on it is no longer valid.
    Expired,
    /// Its user did not stop asking for objects of others.
    Offence,
    /// The operator said so.
    Operator,
    /// The credential that it was used with was revoked.
    Revoked,
}

impl End {
    /// The name that it is counted under.
    pub fn name(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Expired => "expired",
            Self::Offence => "offence",
            Self::Operator => "ended",
            Self::Revoked => "revoked",
        }
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Nothing yet but TLS.
    Handshake,
    /// HTTP/1.1, or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// Its name; HTTP by its ALPN id.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// When it was accepted.
    pub accepted: UnixTime,
    /// Its number since the agent started.
    pub id: u64,
    /// Our end.
    pub local: SocketAddr,
    /// The client's end.
    pub peer: SocketAddr,
    certificate: OnceLock<Arc<ClientCertificate>>,
    /// Whose it is, where the proxy at the other end said so.
    client: OnceLock<IpAddr>,
    /// Request bodies that have not come to their ends.
    bodies: AtomicU64,
    /// Its end is on its way.
    condemned: AtomicBool,
    /// Taken by whoever ends it.
    end: Mutex<Option<oneshot::Sender<End>>>,
    open: AtomicU64,
    plaintext: AtomicBool,
    protocol: OnceLock<Protocol>,
    requests: AtomicU64,
    resting: AtomicBool,
    users: Mutex<Users>,
}

impl Connection {
    /// Notes a request; it is open until it is dropped.
    pub fn begin(self: &Arc<Self>) -> OpenRequest {
        let number = self.requests.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        OpenRequest::new(Arc::clone(self), number)
    }

    /// What the client showed in its handshake.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.get().map(|certificate| &**certificate)
    }

    /// Notes what the client showed in its handshake.
    pub fn shows(&self, certificate: Arc<ClientCertificate>) {
        // There is one handshake.
        let _ = self.certificate.set(certificate);
    }

    /// Whose it is, where a proxy said so of the connection.
    pub fn client(&self) -> Option<IpAddr> {
        self.client.get().copied()
    }

    /// Notes whose it is, as the proxy at the other end says.
    pub fn is_for(&self, client: IpAddr) {
        // It is said once, at the start.
        let _ = self.client.set(client);
    }

    /// Whether either end of the way to its client is such an address: that of the packets, or the one that a proxy said.
    pub fn ends_at(&self, is_wanted: impl Fn(IpAddr) -> bool) -> bool {
        is_wanted(self.peer.ip()) || self.client().is_some_and(is_wanted)
    }

    /// Ends it; says whether that was still to be done.
    pub fn end(&self, why: End) -> bool {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        end.is_some_and(|end| end.send(why).is_ok())
    }

    /// Whether it was ended from outside.
    pub fn is_ended(&self) -> bool {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// As its packets show it.
    pub fn flow(&self) -> Flow {
        Flow { local: self.local, peer: self.peer }
    }

    /// Requests that are open.
    pub fn open_requests(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Notes a request body that is read from now on.
    pub fn open_body(self: &Arc<Self>) -> OpenBody {
        self.bodies.fetch_add(1, Relaxed);
        OpenBody { connection: Arc::clone(self) }
    }

    /// Whether every request body was read to its end: what comes next is a request.
    pub fn has_read_bodies(&self) -> bool {
        self.bodies.load(Relaxed) == 0
    }

    /// Notes whether it waits for its client without buffers.
    pub fn rest(&self, resting: bool) {
        self.resting.store(resting, Relaxed);
    }

    /// Whether it waits for its client without buffers.
    pub fn rests(&self) -> bool {
        self.resting.load(Relaxed)
    }

    /// Who sent the last request that said so.
    pub fn principal(&self) -> Option<Principal> {
        self.users().last().map(|identity| identity.principal())
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol.get().copied().unwrap_or(Protocol::Handshake)
    }

    /// Notes that it began with what a web page can have a browser send in place of TLS.
    pub fn is_in_plaintext(&self) {
        self.plaintext.store(true, Relaxed);
    }

    /// Whether it began with what a web page can have a browser send in place of TLS.
    pub fn was_in_plaintext(&self) -> bool {
        self.plaintext.load(Relaxed)
    }

    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Notes that it is to end for what its user does.
    pub fn condemn(&self) {
        self.condemned.store(true, Relaxed);
    }

    /// Whether it is to end for what its user does: what still comes by it is no new offence.
    pub fn is_condemned(&self) -> bool {
        self.condemned.load(Relaxed)
    }

    /// Whether everybody who said who they are was the same.
    pub fn has_one_user(&self) -> bool {
        self.users().is_one()
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the handshake came to.
    pub fn speaks(&self, protocol: Protocol) {
        // It is negotiated once.
        let _ = self.protocol.set(protocol);
    }
}

/// A request body that has not come to its end. One that never does is counted for ever: nobody knows where the next
/// request of its connection begins.
#[derive(Debug)]
pub struct OpenBody {
    connection: Arc<Connection>,
}

impl OpenBody {
    /// It came to its end.
    pub fn end(self) {
        self.connection.bodies.fetch_sub(1, Relaxed);
    }
}

/// A connection's place in the register.
#[derive(Debug)]
pub struct Entry {
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    ended: oneshot::Receiver<End>,
}

impl Entry {
    /// The connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Comes when the connection is to end at once.
    pub async fn ended(&mut self) -> End {
        match (&mut self.ended).await {
            Ok(why) => why,
            // The other end is in the connection itself, and goes only by being used.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.shard(self.connection.id).remove(&self.connection.id);
    }
}
