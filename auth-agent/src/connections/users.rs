//! Who uses a connection: the credentials of its open requests, and the latest of each principal.

use std::sync::Arc;
use std::time::Duration;

use super::cut::Cut;
use super::{End, Protocol};
use crate::identity::Identity;

/// Principals that a connection remembers. One with more is a proxy's, and is never condemned as a whole.
const REMEMBERED: usize = 8;

/// The users of one connection.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// There were more than are remembered.
    crowded: bool,
    /// The latest credential of each principal; who came last is last.
    latest: Vec<Arc<Identity>>,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    cut: Arc<Cut>,
    identity: Arc<Identity>,
    number: u64,
}

/// What is to become of a connection.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It is to end, and nobody else uses it.
    Condemned,
    /// So many of its requests were cut off.
    CutOff(usize),
    /// It is to end: HTTP/1 carries one request at a time, and that one is over.
    Ended,
}

impl Users {
    /// Notes who sent an open request.
    pub fn add(&mut self, number: u64, identity: &Arc<Identity>, cut: &Arc<Cut>) {
        self.open.push(Open { cut: Arc::clone(cut), identity: Arc::clone(identity), number });
    }

    /// Notes that this is who uses the connection.
    pub fn accept(&mut self, identity: &Arc<Identity>) {
        if self.latest.last().is_some_and(|last| Arc::ptr_eq(last, identity)) {
            return;
        }
        let same = |other: &Arc<Identity>| {
            let (one, other) = (identity.facts(), other.facts());
            (one.method, &one.issuer, &one.subject) == (other.method, &other.issuer, &other.subject)
        };
        if let Some(earlier) = self.latest.iter().position(same) {
            self.latest.remove(earlier);
        } else if self.latest.len() == REMEMBERED {
            self.latest.remove(0);
            self.crowded = true;
        }
        self.latest.push(Arc::clone(identity));
    }

    pub fn remove(&mut self, number: u64) {
        if let Some(at) = self.open.iter().position(|open| open.number == number) {
            self.open.swap_remove(at);
        }
    }

    pub fn is_one(&self) -> bool {
        !self.crowded && self.latest.len() == 1
    }

    pub fn last(&self) -> Option<&Arc<Identity>> {
        self.latest.last()
    }

    /// Whether something that was cut off so long ago is still open.
    pub fn has_stalled(&self, since: Duration) -> bool {
        self.open.iter().any(|open| open.cut.age().is_some_and(|age| age >= since))
    }

    /// Of those whose credential is revoked, on a connection with so many open requests. Whoever has not said yet who
    /// they are may be somebody else.
    pub fn revoke(
        &self,
        is_revoked: impl Fn(&Identity) -> bool,
        protocol: Protocol,
        requests: usize,
    ) -> Fate {
        let open = self.open.iter().map(|open| &open.identity);
        let mut users = self.latest.iter().chain(open);
        let known = !self.crowded && requests == self.open.len();
        if known && !self.latest.is_empty() && users.all(|user| is_revoked(user)) {
            return Fate::Condemned;
        }
        // The end of the last response may still be on its way.
        if protocol != Protocol::Http2 && self.latest.last().is_some_and(|last| is_revoked(last)) {
            return Fate::Ended;
        }
        self.cut_off(is_revoked, protocol, End::Revoked)
    }

    /// Of those whose credential is over.
    pub fn expire(&self, is_over: impl Fn(&Identity) -> bool, protocol: Protocol) -> Fate {
        self.cut_off(is_over, protocol, End::Expired)
    }

    fn cut_off(&self, is_over: impl Fn(&Identity) -> bool, protocol: Protocol, why: End) -> Fate {
        let over: Vec<_> = self.open.iter().filter(|open| is_over(&open.identity)).collect();
        if !over.is_empty() && protocol != Protocol::Http2 {
            return Fate::Ended;
        }
        over.iter().for_each(|open| open.cut.cut(why));
        Fate::CutOff(over.len())
    }
}
