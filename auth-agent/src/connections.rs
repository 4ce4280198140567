//! The connections that are open: who is at the other end of each, and a way to end it from outside.
//!
//! A connection enters the register when it is accepted and leaves it with its [`Entry`]. A request touches nothing
//! but the entry of its own connection.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::oneshot;

use crate::clock::UnixTime;
use crate::edge::Flow;
use crate::identity::Principal;

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
            end: Mutex::new(Some(end)),
            id,
            local: canonical(local),
            open: AtomicU64::new(0),
            peer: canonical(peer),
            principal: Mutex::new(None),
            protocol: OnceLock::new(),
            requests: AtomicU64::new(0),
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

    /// Ends the connections that are wanted; says how many.
    pub fn end(&self, wanted: impl Fn(&Connection) -> bool, why: End) -> usize {
        self.list(wanted).iter().filter(|connection| connection.end(why)).count()
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.shards[id as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// IPv4 as IPv4, whatever socket it came by.
fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// Why a connection is ended from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Its source was banned.
    Banned,
    /// The operator said so.
    Operator,
}

impl End {
    /// The name that it is counted under.
    pub fn name(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Operator => "ended",
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
    /// Taken by whoever ends it.
    end: Mutex<Option<oneshot::Sender<End>>>,
    open: AtomicU64,
    principal: Mutex<Option<Principal>>,
    protocol: OnceLock<Protocol>,
    requests: AtomicU64,
}

impl Connection {
    /// Notes a request; it is open until the guard goes.
    pub fn begin(self: &Arc<Self>) -> OpenRequest {
        self.requests.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        OpenRequest(Arc::clone(self))
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

    /// Notes who sent the last request that said so.
    pub fn identified(&self, principal: Principal) {
        *self.principal.lock().unwrap_or_else(PoisonError::into_inner) = Some(principal);
    }

    /// Requests that are open.
    pub fn open_requests(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Who sent the last request that said so.
    pub fn principal(&self) -> Option<Principal> {
        self.principal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol.get().copied().unwrap_or(Protocol::Handshake)
    }

    /// Requests in all.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Notes what the handshake came to.
    pub fn speaks(&self, protocol: Protocol) {
        // It is negotiated once.
        let _ = self.protocol.set(protocol);
    }
}

/// A request that is not over.
#[derive(Debug)]
pub struct OpenRequest(Arc<Connection>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
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
