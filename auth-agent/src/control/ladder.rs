//! `/v1/offenders`, and the bans that nobody made: sources that go on whatever they are told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use ipnet::IpNet;

use super::messages::{LadderStatus, OffenderEntry, Offenders};
use super::problem::Problem;
use super::succession::Standing;
use super::{Control, blocking};
use crate::clock::{Monotonic, UnixTime};
use crate::config::Ladder;
use crate::connections::{Connection, End};
use crate::ladder::{Offence, Offender};
use crate::store::{Ban, Sentence, Sentenced};

/// Who owes least is of least interest.
const SHOWN: usize = 1_000;

/// For what a client still sends by a connection that was ended; its port may be another's before long.
const FLOWS_DROPPED_FOR: Duration = Duration::from_secs(60);

/// What is logged one by one: a flood brings many at once, and each is in the store's log.
const LOGGED: usize = 20;

impl Control {
    /// Bans sources that went on whatever they were told, and writes down who was dropped at the network card. Returns
    /// those that are banned now, or were before. Blocks.
    ///
    /// # Errors
    /// What is stored and not enforced yet is tried again by [`Control::upkeep`].
    pub fn punish(
        &self,
        sentences: &[Sentence],
        dropped: &[IpNet],
        terms: &Ladder,
        now: UnixTime,
    ) -> Result<Vec<IpNet>, Problem> {
        let _changing = self.changing();
        // Another agent has taken over, and sees for itself.
        if self.standing() != Standing::Acting {
            return Ok(Vec::new());
        }
        if !dropped.is_empty()
            && let Err(error) = self.store.note_drops(dropped, now)
        {
            tracing::error!(%error, "which sources were dropped is not in the log of changes");
        }
        // The request path asked the allowlist before the charge, and it may have grown since.
        let is_allowed = |network: IpNet| self.allowlist.contains(network.addr());
        let sentences: Vec<_> =
            sentences.iter().filter(|sentence| !is_allowed(sentence.network)).cloned().collect();
        if sentences.is_empty() {
            return Ok(Vec::new());
        }
        let Sentenced { bans, left, standing } = self.store.ban_offenders(&sentences, terms, now)?;
        self.ladder.note_lost(left);
        // What stands is enforced already, unless that failed.
        let unchanged = bans.is_empty() && self.rules_error().is_none();
        let applied = if unchanged { Ok(()) } else { self.apply_rules_locked(now) };
        let made: Vec<_> = bans.iter().map(|ban| ban.network).collect();
        self.end_banned(&made);
        tell(&bans);
        applied.map(|()| [made, standing].concat())
    }

    /// Ends the connections of these numbers, and has the kernel drop what still comes by them. Blocks.
    pub fn end_offending(&self, numbers: &BTreeSet<u64>) {
        if numbers.is_empty() {
            return;
        }
        let found = self.connections.numbered(numbers);
        let flows: Vec<_> = found.iter().map(|connection| connection.flow()).collect();
        let until = Monotonic(Monotonic::now().0.saturating_add(FLOWS_DROPPED_FOR.as_nanos() as u64));
        if let Err(error) = self.edge.revoke_flows(&flows, until) {
            tracing::warn!(%error, "connections are ended, and what still comes by them is not dropped");
        }
        let user = |connection: Arc<Connection>| {
            let subject = connection.principal().map(|principal| principal.subject.to_string());
            connection.end(End::Offence).then(|| (connection.peer.ip(), subject))
        };
        let ended: Vec<_> = found.into_iter().filter_map(user).collect();
        for (source, subject) in ended.iter().take(LOGGED) {
            tracing::warn!(%source, ?subject, "ended a connection: its user goes on asking for objects of others");
        }
        if !ended.is_empty()
            && let Err(error) = self.store.note_ends(&ended, Offence::Enumeration.name(), UnixTime::now())
        {
            tracing::error!(%error, "that connections were ended is not in the log of changes");
        }
    }

    /// What `status` says of it.
    pub(super) fn ladder_status(&self, now: UnixTime) -> Result<LadderStatus, Problem> {
        let (foreign_objects, slowed) = self.enumeration.counts();
        let counts = self.ladder.counts();
        let offences =
            Offence::ALL.iter().zip(counts).map(|(offence, count)| (offence.name().to_owned(), count));
        Ok(LadderStatus {
            banned: self.store.bans(now)?.iter().filter(|ban| ban.automatic.is_some()).count(),
            foreign_objects,
            lost: self.ladder.lost(),
            offences: offences.collect(),
            on: self.ladder.terms().on,
            slowed,
        })
    }
}

/// A flood brings many at once.
fn tell(bans: &[Ban]) {
    for ban in bans.iter().take(LOGGED) {
        let (times, offence) = ban.automatic.as_ref().map(|why| (why.times, &*why.offence)).unzip();
        tracing::warn!(network = %ban.network, offence, times, until = ban.until.map(|until| until.0), "banned");
    }
    if bans.len() > LOGGED {
        tracing::warn!(more = bans.len() - LOGGED, "banned");
    }
}

pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<Offenders>, Problem> {
    blocking(control, |control| {
        let (now, unix) = (Monotonic::now(), UnixTime::now());
        let burst = control.ladder.terms().rate.burst.get();
        let mut offenders = control.ladder.offenders(now);
        let more = offenders.len().saturating_sub(SHOWN);
        offenders.truncate(SHOWN);
        let entry = |offender: Offender| {
            let network = control.ladder.network(offender.key);
            Ok(OffenderEntry {
                banned_times: control.store.times_banned(network, unix)?,
                network,
                offence: offender.offence.name().to_owned(),
                points: offender.points,
            })
        };
        let offenders = offenders.into_iter().map(entry).collect::<Result<_, Problem>>()?;
        let slowed = control.enumeration.slowed();
        Ok(Json(Offenders { banned_at: burst, more, offenders, slowed }))
    })
    .await
}
