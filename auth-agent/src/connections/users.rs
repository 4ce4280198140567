//! Who uses a connection: the credentials of its open requests, and the latest of each principal; behind a proxy, the
//! clients of those requests.

use std::net::IpAddr;
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
    /// Open requests that a proxy passed on.
    behind: Vec<Behind>,
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

#[derive(Debug)]
struct Behind {
    client: IpAddr,
    cut: Arc<Cut>,
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

    /// Notes whose an open request is that a proxy passed on.
    pub fn add_behind(&mut self, number: u64, client: IpAddr, cut: &Arc<Cut>) {
        self.behind.push(Behind { client, cut: Arc::clone(cut), number });
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
        if let Some(at) = self.behind.iter().position(|behind| behind.number == number) {
            self.behind.swap_remove(at);
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
        let behind = self.behind.iter().map(|behind| &behind.cut);
        let mut cuts = self.open.iter().map(|open| &open.cut).chain(behind);
        cuts.any(|cut| cut.age().is_some_and(|age| age >= since))
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
        cut_off(self.of(is_revoked), protocol, End::Revoked)
    }

    /// Of those whose credential is over.
    pub fn expire(&self, is_over: impl Fn(&Identity) -> bool, protocol: Protocol) -> Fate {
        cut_off(self.of(is_over), protocol, End::Expired)
    }

    /// Of clients behind a proxy that are banned.
    pub fn ban(&self, is_banned: impl Fn(IpAddr) -> bool, protocol: Protocol) -> Fate {
        let banned = self.behind.iter().filter(|behind| is_banned(behind.client));
        cut_off(banned.map(|behind| &*behind.cut), protocol, End::Banned)
    }

    /// The open requests of such credentials.
    fn of(&self, is_over: impl Fn(&Identity) -> bool) -> impl Iterator<Item = &Cut> {
        self.open.iter().filter(move |open| is_over(&open.identity)).map(|open| &*open.cut)
    }
}

fn cut_off<'c>(over: impl Iterator<Item = &'c Cut>, protocol: Protocol, why: End) -> Fate {
    let mut over = over.peekable();
    if over.peek().is_some() && protocol != Protocol::Http2 {
        return Fate::Ended;
    }
    Fate::CutOff(over.map(|cut| cut.cut(why)).count())
}
