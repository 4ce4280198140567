//! Who may change something while another agent takes over: nobody, and from then on the other one.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;
use ipnet::IpNet;

use super::problem::Problem;
use super::{Control, Followed};
use crate::clock::{Now, UnixTime};
use crate::connections::End;
use crate::handover::{Channel, Message, UpgradeError};
use crate::network::parse_network;
use crate::store::StoreError;

/// Whose the changes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Standing {
    /// This agent's.
    Acting,
    /// Another's.
    Replaced,
    /// Nobody's: this agent ends, and no other comes.
    Stopping,
    /// Nobody's: another agent is starting.
    Upgrading,
}

/// Keeps everything as it is in the store, until it is dropped. What was begun is done.
pub struct Held<'a> {
    _changing: MutexGuard<'a, ()>,
    control: &'a Control,
    followed: Followed,
    _tending: MutexGuard<'a, ()>,
}

impl Control {
    /// Lets what is under way come to its end, and nothing new begin. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub fn hold(&self) -> Result<Held<'_>, StoreError> {
        self.change_standing(Standing::Acting, Standing::Upgrading);
        let held = (|| {
            let _tending = self.tending();
            let _changing = self.changing();
            // The other agent reads it.
            self.store_uses()?;
            self.store_counts(Now::read())?;
            Ok(Held { _changing, control: self, followed: self.followed()?, _tending })
        })();
        if held.is_err() {
            self.change_standing(Standing::Upgrading, Standing::Acting);
        }
        held
    }

    /// Has nobody change anything any more: this agent ends. Its upkeep goes on until then.
    pub fn stop(&self) {
        self.set_standing(Standing::Stopping);
    }

    /// Whether this agent ends, and no other takes over.
    pub fn is_stopping(&self) -> bool {
        self.standing() == Standing::Stopping
    }

    /// Whether rules and store are this agent's to keep.
    pub(super) fn keeps_up(&self) -> bool {
        matches!(self.standing(), Standing::Acting | Standing::Stopping)
    }

    /// Sets, or forgets, the agent that this one took over from, while it finishes its requests.
    pub fn set_predecessor(&self, channel: Option<Arc<Channel>>) {
        self.predecessor.store(channel);
    }

    /// Has the agent before this one end its connections from there, too.
    pub(super) fn end_at_predecessor(&self, network: IpNet) {
        if let Some(channel) = &*self.predecessor.load()
            && let Err(error) = channel.send(&Message::End(network.to_string()))
        {
            tracing::debug!(%error, "the old agent is gone, with its connections");
        }
    }

    /// Ends the connections from a network, as its text; says how many.
    pub fn end_from(&self, network: &str) -> usize {
        let Ok(network) = parse_network(network) else { return 0 };
        self.connections.end(|connection| connection.ends_at(|ip| network.contains(&ip)), End::Operator)
    }

    pub(super) fn standing(&self) -> Standing {
        match self.standing.load(SeqCst) {
            standing if standing == Standing::Acting as u8 => Standing::Acting,
            standing if standing == Standing::Replaced as u8 => Standing::Replaced,
            standing if standing == Standing::Stopping as u8 => Standing::Stopping,
            _ => Standing::Upgrading,
        }
    }

    fn set_standing(&self, standing: Standing) {
        self.standing.store(standing as u8, SeqCst);
    }

    /// Another standing than `from` stays: what stops goes on stopping.
    fn change_standing(&self, from: Standing, to: Standing) {
        let _ = self.standing.compare_exchange(from as u8, to as u8, SeqCst, SeqCst);
    }

    pub(super) fn tending(&self) -> MutexGuard<'_, ()> {
        self.tending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held<'_> {
    /// The changes are another agent's from now on. Returns where to follow from.
    pub fn give_up(self) -> Followed {
        self.control.set_standing(Standing::Replaced);
        self.followed.clone()
    }

    /// Goes on as before, whatever another agent did: with what it changed in the store, and with the kernel's rules by
    /// that. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Control::apply_rules`]; what failed is tried again by the upkeep.
    pub fn go_on(mut self, now: UnixTime) -> Result<(), Problem> {
        let followed = self.control.follow_locked(&mut self.followed, now);
        followed.and(self.control.apply_rules_locked(now))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.control.change_standing(Standing::Upgrading, Standing::Acting);
    }
}

/// Looking is free at any time.
pub(super) async fn refuse_changes(
    State(control): State<Arc<Control>>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    match control.standing() {
        Standing::Acting => next.run(request).await,
        Standing::Replaced => Problem::Replaced.into_response(),
        Standing::Stopping => Problem::Stopping.into_response(),
        Standing::Upgrading => Problem::Upgrade(UpgradeError::UnderWay).into_response(),
    }
}
