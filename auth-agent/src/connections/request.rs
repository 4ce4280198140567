//! A request that is not over.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use super::cut::Cut;
use super::{Connection, End};
use crate::identity::Identity;
use crate::tls::ClientCertificate;

/// A request from its arrival until the last byte of its response, or of what it was upgraded to.
#[derive(Debug)]
pub struct OpenRequest {
    connection: Arc<Connection>,
    cut: Arc<Cut>,
    number: u64,
}

impl OpenRequest {
    pub(super) fn new(connection: Arc<Connection>, number: u64) -> Self {
        Self { connection, cut: Arc::default(), number }
    }

    /// Notes who sent it. Whoever revokes their credential from now on cuts the request off; to miss nobody, look once
    /// more afterwards whether it is revoked.
    pub fn identified(&self, identity: &Arc<Identity>) {
        self.connection.users().add(self.number, identity, &self.cut);
    }

    /// Notes that a proxy passed it on for this client. A ban of them from now on cuts the request off; to miss nobody,
    /// look afterwards whether they are banned.
    pub fn comes_from(&self, client: IpAddr) {
        self.connection.users().add_behind(self.number, client, &self.cut);
    }

    /// Notes that they were not revoked when that was looked for: they are a user of the connection.
    pub fn accepted(&self, identity: &Arc<Identity>) {
        self.connection.users().accept(identity);
    }

    /// The connection that it came by.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What the client showed in the handshake of its connection.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.connection.certificate()
    }

    /// Comes when the request is to end at once.
    pub async fn cut_off(&self) -> End {
        poll_fn(|context| self.poll_cut_off(context)).await
    }

    /// Whether the request is to end at once; if not, the task is woken when it is.
    pub fn poll_cut_off(&self, context: &mut Context<'_>) -> Poll<End> {
        self.cut.poll(context)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.connection.open.fetch_sub(1, Relaxed);
        self.connection.users().remove(self.number);
    }
}
