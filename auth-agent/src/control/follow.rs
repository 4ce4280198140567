//! Following what another agent on the same store changes, while both live: what is revoked, banned or made at one holds
//! at the other within moments (promise P8).

#[cfg(test)]
mod tests;

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;
use tokio::time::{interval, sleep};

use super::Control;
use super::messages::WhoseDebts;
use super::problem::Problem;
use crate::api_key::KeyId;
use crate::clock::UnixTime;
use crate::config::BudgetText;
use crate::revocation::{Revocation, Target};
use crate::store::{Change, Store, StoreError};

/// A revocation is to reach whatever goes on within 50 ms.
const LOOKS: Duration = Duration::from_millis(20);

/// After a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// Changes that are read at once.
const AT_ONCE: u32 = 1_000;

/// How far a store's log has been followed.
#[derive(Clone, Debug)]
pub struct Followed {
    /// What failed, or is still to be done.
    due: Due,
    seq: i64,
    writes: i64,
}

/// What changes came to. Each stays until it is done.
#[derive(Clone, Debug, Default)]
struct Due {
    banned: Vec<IpNet>,
    /// Credentials may be over.
    cut: bool,
    rules: bool,
    signing: bool,
}

#[derive(Deserialize)]
struct Revoked {
    #[serde(default)]
    before: Option<UnixTime>,
    target: Target,
    #[serde(default)]
    until: Option<UnixTime>,
}

#[derive(Deserialize)]
struct Budget {
    #[serde(default)]
    budget: Option<BudgetText>,
    #[serde(default)]
    durable: bool,
    name: String,
}

#[derive(Deserialize)]
struct ResetDebts {
    /// The process id of the agent that forgot them.
    #[serde(default)]
    agent: Option<u32>,
    name: String,
    whom: WhoseDebts,
}

#[derive(Deserialize)]
struct Key {
    id: KeyId,
    #[serde(default)]
    replaces: Option<KeyId>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(default)]
    network: Option<String>,
    #[serde(default)]
    networks: Vec<String>,
}

impl Control {
    /// Where to follow from. To be asked before what is followed is read.
    ///
    /// # Errors
    /// The store's.
    pub fn followed(&self) -> Result<Followed, StoreError> {
        Followed::to_now(&self.store)
    }

    /// Goes by what others have changed since. Blocks; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The first thing that failed. All else is done, and what failed is tried again with the next call.
    pub fn follow(&self, followed: &mut Followed, now: UnixTime) -> Result<(), Problem> {
        let writes = self.store.foreign_writes()?;
        if writes == followed.writes {
            return Ok(());
        }
        // A change of our own is seen as a whole: in the store and in memory.
        let _changing = self.changing();
        self.follow_locked(followed, now)?;
        followed.writes = writes;
        Ok(())
    }

    pub(super) fn follow_locked(&self, followed: &mut Followed, now: UnixTime) -> Result<(), Problem> {
        let read = self.take_changes(followed, now);
        let due = &mut followed.due;
        // The kernel comes before connections: who is cut off does not come back.
        let ruled = self.follow_rules(due, now);
        let banned = self.follow_bans(due, now);
        if take(&mut due.cut) {
            self.end_revoked(now);
        }
        read.and(ruled).and(banned).and(self.follow_signing(due))
    }

    fn follow_rules(&self, due: &mut Due, now: UnixTime) -> Result<(), Problem> {
        if due.rules {
            self.apply_rules_locked(now)?;
            due.rules = false;
        }
        Ok(())
    }

    fn follow_bans(&self, due: &mut Due, now: UnixTime) -> Result<(), Problem> {
        if !due.banned.is_empty() {
            let holding = self.store.bans(now)?;
            let mut banned = take(&mut due.banned);
            banned.retain(|network| holding.iter().any(|ban| ban.network == *network));
            self.end_banned(&banned);
        }
        Ok(())
    }

    fn follow_signing(&self, due: &mut Due) -> Result<(), Problem> {
        if due.signing {
            let issuer = self.issuer.as_ref().map_or(Ok(()), |issuer| issuer.keys.read_again());
            let internal = self.internal_keys.as_ref().map_or(Ok(()), |keys| keys.read_again());
            issuer.and(internal)?;
            due.signing = false;
        }
        Ok(())
    }

    fn take_changes(&self, followed: &mut Followed, now: UnixTime) -> Result<(), Problem> {
        loop {
            let changes = self.store.changes(followed.seq, AT_ONCE)?;
            for change in &changes {
                self.take_change(change, now, &mut followed.due)?;
                followed.seq = change.seq;
            }
            if changes.len() < AT_ONCE as usize {
                return Ok(());
            }
        }
    }

    fn take_change(&self, change: &Change, now: UnixTime, due: &mut Due) -> Result<(), Problem> {
        match change.kind.split_once('.').unwrap_or_default() {
            ("revocation", "remove") => {
                let Some(Revoked { target, .. }) = payload(change) else { return Ok(()) };
                self.revocations.restore(&target);
            }
            ("revocation", _) | ("key" | "token", "revoke") => {
                let Some(Revoked { before, target, until }) = payload(change) else { return Ok(()) };
                self.revocations.revoke(&target, Revocation { before, until }, now);
                if let (Target::Key { key }, None) = (&target, before) {
                    self.keys.revoke(*key);
                }
                due.cut = true;
            }
            ("key", _) => {
                let Some(Key { id, replaces }) = payload(change) else { return Ok(()) };
                for id in [Some(id), replaces].into_iter().flatten() {
                    if let Some(key) = self.store.key(id)? {
                        self.keys.insert(&key);
                    }
                }
                due.cut = true;
            }
            ("ban", verb) => {
                due.rules = true;
                if let Some(Banned { network, networks }) = payload(change).filter(|_| verb != "remove") {
                    let networks = network.into_iter().chain(networks);
                    due.banned.extend(networks.filter_map(|network| network.parse::<IpNet>().ok()));
                }
            }
            ("allow" | "change" | "limit", _) => due.rules = true,
            ("budget", verb) => {
                let Some(Budget { budget, durable, name }) = payload(change) else { return Ok(()) };
                self.follow_budget(&name, budget.filter(|_| verb != "remove"), durable);
            }
            ("debt", "reset") => {
                let Some(ResetDebts { agent, name, whom }) = payload(change) else { return Ok(()) };
                // What this agent forgot itself was owed before: all else that it wrote says how things are to be, and
                // may be read again.
                if agent != Some(std::process::id()) {
                    self.follow_reset(&name, &whom)?;
                }
            }
            ("signing-key", _) => due.signing = true,
            _ => {}
        }
        Ok(())
    }
}

impl Followed {
    /// Everything that is in a store at this moment.
    ///
    /// # Errors
    /// The store's.
    pub fn to_now(store: &Store) -> Result<Self, StoreError> {
        // In this order: what comes between the two is looked at again.
        let writes = store.foreign_writes()?;
        Ok(Self { due: Due::default(), seq: store.last_change()?, writes })
    }
}

/// What a change says, where this version understands it: a later one's may say something else.
fn payload<T: DeserializeOwned>(change: &Change) -> Option<T> {
    let read = T::deserialize(&change.payload);
    read.inspect_err(|error| tracing::error!(kind = change.kind, seq = change.seq, %error, "a change that can't be followed"))
        .ok()
}

/// Follows until it is dropped.
pub async fn follow(control: Arc<Control>, mut followed: Followed) {
    let mut looks = interval(LOOKS);
    loop {
        looks.tick().await;
        let (control, mut further) = (Arc::clone(&control), followed.clone());
        let look = move || {
            let done = control.follow(&mut further, UnixTime::now());
            (further, done)
        };
        match spawn_blocking(look).await {
            Ok((further, done)) => {
                followed = further;
                if let Err(error) = done {
                    tracing::error!(%error, "following the other agent; it is tried again");
                    sleep(PAUSE).await;
                }
            }
            Err(error) => tracing::error!(%error, "following the other agent broke off; it is tried again"),
        }
    }
}
