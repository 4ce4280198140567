//! Bans that nobody made: sources that went on whatever they were told, and how often each of them was banned for it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::{OptionalExtension as _, Transaction};
use serde_json::json;

use super::bans::{self, MAX_BANS};
use super::changes::Kind;
use super::{Automatic, Ban, Problem, Store, StoreError};
use crate::clock::UnixTime;
use crate::config::Ladder;

/// Most bans of this kind at a time: operators are to find room for theirs.
pub const MAX_AUTOMATIC_BANS: usize = MAX_BANS / 2;

/// Most sources whose bans are counted. Those that would be forgotten first make room.
const MAX_OFFENDERS: i64 = 200_000;

/// What is named in one entry of the log; the rest is counted there.
const NAMED: usize = 100;

/// Who is to be banned, and for what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sentence {
    /// The source.
    pub network: IpNet,
    /// The offence that was one too many.
    pub offence: &'static str,
}

/// What became of sentences. Where an operator's change of a ban waits to be confirmed, nothing did.
#[derive(Debug, Default)]
pub struct Sentenced {
    /// Bans that were made.
    pub bans: Vec<Ban>,
    /// How many sources there was no room to ban.
    pub left: usize,
    /// Sources that were banned already.
    pub standing: Vec<IpNet>,
}

impl Store {
    /// Bans these sources, each for longer than the last time; those that are banned already, or whose ban waits to be
    /// confirmed, stay as they are.
    pub fn ban_offenders(
        &self,
        sentences: &[Sentence],
        terms: &Ladder,
        now: UnixTime,
    ) -> Result<Sentenced, StoreError> {
        self.write(|transaction| {
            let (mut sentenced, room) = (Sentenced::default(), room(transaction, now)?);
            for sentence in sentences {
                match state(transaction, &sentence.network.to_string(), now)? {
                    State::Banned => sentenced.standing.push(sentence.network),
                    State::Free if sentenced.bans.len() < room => {
                        sentenced.bans.push(self.ban_offender(transaction, sentence, terms, now)?);
                    }
                    State::Free => sentenced.left += 1,
                    State::Pending => {}
                }
            }
            forget_the_oldest(transaction)?;
            Ok(sentenced)
        })
    }

    fn ban_offender(
        &self,
        transaction: &Transaction<'_>,
        Sentence { network, offence }: &Sentence,
        terms: &Ladder,
        now: UnixTime,
    ) -> Result<Ban, Problem> {
        let text = network.to_string();
        let times = count(transaction, &text, terms, now)?;
        let until = UnixTime(now.0.saturating_add(lasts(times, terms).as_secs()));
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO bans (network, until, reason, created, offence, times)
                 VALUES (?1, ?2, NULL, ?3, ?4, ?5)",
            )?
            .execute((&text, until, now, offence, times))?;
        let payload = json!({ "network": text, "until": until, "offence": offence, "times": times });
        self.record(transaction, now, Kind::BanAutomatic, &payload, Some(until))?;
        let automatic = Some(Automatic { offence: (*offence).to_owned(), times });
        Ok(Ban { automatic, created: now, network: *network, reason: None, until: Some(until) })
    }

    /// Writes down which sources had to be dropped at the network card for what they owe.
    pub fn note_drops(&self, sources: &[IpNet], now: UnixTime) -> Result<(), StoreError> {
        let named: Vec<_> = sources.iter().take(NAMED).map(ToString::to_string).collect();
        let payload = json!({ "networks": named, "more": sources.len() - named.len() });
        self.write(|transaction| self.record(transaction, now, Kind::SourceDrop, &payload, Some(now)))
    }

    /// Writes down whose connections were ended for an offence: sources, and who used them.
    pub fn note_ends(
        &self,
        ended: &[(IpAddr, Option<String>)],
        offence: &str,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let entry =
            |(source, subject): &(IpAddr, Option<String>)| json!({ "source": source, "subject": subject });
        let named: Vec<_> = ended.iter().take(NAMED).map(entry).collect();
        let payload = json!({ "connections": named, "more": ended.len() - named.len(), "offence": offence });
        self.write(|transaction| self.record(transaction, now, Kind::ConnectionEnd, &payload, Some(now)))
    }

    /// How often a source was banned for what it did, as far as that is remembered.
    pub fn times_banned(&self, network: IpNet, now: UnixTime) -> Result<u32, StoreError> {
        let text = network.trunc().to_string();
        self.read(|connection| {
            let times = connection
                .prepare_cached("SELECT times FROM offenders WHERE network = ?1 AND forget > ?2")?
                .query_row((text, now), |row| row.get(0))
                .optional()?;
            Ok(times.unwrap_or(0))
        })
    }
}

/// A source starts over.
pub(super) fn forgive(transaction: &Transaction<'_>, network: &str) -> Result<(), Problem> {
    transaction.execute("DELETE FROM offenders WHERE network = ?1", [network])?;
    Ok(())
}

/// Those whose ban was removed by this change, which is final now, start over.
pub(super) fn forgive_of(transaction: &Transaction<'_>, pending: i64) -> Result<(), Problem> {
    let of = "SELECT network FROM undo WHERE pending = ?1 AND list = 'bans'";
    transaction.execute(&format!("DELETE FROM offenders WHERE network IN ({of})"), [pending])?;
    Ok(())
}

pub(super) fn purge(transaction: &Transaction<'_>, now: UnixTime) -> Result<(), Problem> {
    transaction.execute("DELETE FROM offenders WHERE forget <= ?1", [now])?;
    Ok(())
}

/// For so many more bans.
fn room(transaction: &Transaction<'_>, now: UnixTime) -> Result<usize, Problem> {
    let automatic: i64 = transaction
        .prepare_cached("SELECT count(*) FROM bans WHERE offence IS NOT NULL AND until > ?1")?
        .query_row([now], |row| row.get(0))?;
    let automatic = usize::try_from(automatic).unwrap_or(usize::MAX);
    let in_all = MAX_BANS.saturating_sub(bans::count(transaction, now)?);
    Ok(MAX_AUTOMATIC_BANS.saturating_sub(automatic).min(in_all))
}

fn forget_the_oldest(transaction: &Transaction<'_>) -> Result<(), Problem> {
    transaction
        .prepare_cached(
            "DELETE FROM offenders WHERE network IN
             (SELECT network FROM offenders ORDER BY forget
              LIMIT max(0, (SELECT count(*) FROM offenders) - ?1))",
        )?
        .execute([MAX_OFFENDERS])?;
    Ok(())
}

/// What there is of exactly one network.
enum State {
    Banned,
    Free,
    /// A ban that may come back.
    Pending,
}

fn state(transaction: &Transaction<'_>, network: &str, now: UnixTime) -> Result<State, Problem> {
    let is_banned = transaction
        .prepare_cached("SELECT 1 FROM bans WHERE network = ?1 AND (until IS NULL OR until > ?2)")?
        .exists((network, now))?;
    let is_pending = transaction
        .prepare_cached("SELECT 1 FROM undo WHERE list = 'bans' AND network = ?1")?
        .exists([network])?;
    Ok(match (is_banned, is_pending) {
        (true, _) => State::Banned,
        (false, true) => State::Pending,
        (false, false) => State::Free,
    })
}

/// The number of the ban that is to come, noted.
fn count(
    transaction: &Transaction<'_>,
    network: &str,
    terms: &Ladder,
    now: UnixTime,
) -> Result<u32, Problem> {
    let before: Option<u32> = transaction
        .prepare_cached("SELECT times FROM offenders WHERE network = ?1 AND forget > ?2")?
        .query_row((network, now), |row| row.get(0))
        .optional()?;
    let times = before.unwrap_or(0).saturating_add(1);
    let forget = lasts(times, terms).saturating_add(terms.forget_after).as_secs();
    transaction
        .prepare_cached("INSERT OR REPLACE INTO offenders (network, times, forget) VALUES (?1, ?2, ?3)")?
        .execute((network, times, UnixTime(now.0.saturating_add(forget))))?;
    Ok(times)
}

/// How long the ban of this number lasts.
fn lasts(times: u32, terms: &Ladder) -> Duration {
    let factor = terms.factor.get().checked_pow(times.saturating_sub(1)).unwrap_or(u32::MAX);
    terms.first.checked_mul(factor).unwrap_or(terms.longest).min(terms.longest)
}

#[cfg(test)]
mod tests;
