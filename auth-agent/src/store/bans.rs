//! Bans in the store.

use ipnet::IpNet;
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::changes::{KEPT_AFTER_EXPIRY_SECONDS, Kind, PURGED_AT_ONCE};
use super::pending::{BANS, When, note};
use super::values::network;
use super::{Problem, Store, StoreError, offenders};
use crate::clock::UnixTime;

/// Most bans at a time: the kernel's rule table has room for these and the allowlist.
pub const MAX_BANS: usize = 120_000;

/// Why a ban was made that nobody made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Automatic {
    /// The offence that was one too many.
    pub offence: String,
    /// The how manieth ban of its source it is.
    pub times: u32,
}

/// A banned network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ban {
    /// Absent: an operator made it.
    pub automatic: Option<Automatic>,
    /// When it was made, or made anew.
    pub created: UnixTime,
    /// Who is banned.
    pub network: IpNet,
    /// The operator's remark.
    pub reason: Option<String>,
    /// The first second in which it no longer holds; `None`: until it is removed.
    pub until: Option<UnixTime>,
}

impl Store {
    /// Bans a network. Banning it again replaces the deadline and the reason.
    pub fn add_ban(
        &self,
        network: IpNet,
        until: Option<UnixTime>,
        reason: Option<&str>,
        when: impl Into<When>,
    ) -> Result<Ban, StoreError> {
        let (network, when) = (network.trunc(), when.into());
        let (now, text) = (when.now, network.to_string());
        self.write(|transaction| {
            note(transaction, Kind::BanAdd, BANS, std::slice::from_ref(&text), when)?;
            insert(transaction, std::slice::from_ref(&text), until, reason, now)?;
            let payload = json!({ "network": text, "until": until, "reason": reason });
            self.record(transaction, now, Kind::BanAdd, &payload, until)
        })?;
        Ok(Ban { automatic: None, created: now, network, reason: reason.map(str::to_owned), until })
    }

    /// Bans many networks, all of them or none.
    pub fn import_bans(
        &self,
        networks: &[IpNet],
        until: Option<UnixTime>,
        reason: Option<&str>,
        when: impl Into<When>,
    ) -> Result<(), StoreError> {
        let when = when.into();
        let now = when.now;
        let texts: Vec<_> = networks.iter().map(|network| network.trunc().to_string()).collect();
        self.write(|transaction| {
            note(transaction, Kind::BanImport, BANS, &texts, when)?;
            insert(transaction, &texts, until, reason, now)?;
            let payload = json!({ "networks": texts, "until": until, "reason": reason });
            self.record(transaction, now, Kind::BanImport, &payload, until)
        })
    }

    /// Ends a ban, and, once that is final, forgets how often its source was banned before; false: there is none on exactly
    /// this network.
    pub fn remove_ban(&self, network: IpNet, when: impl Into<When>) -> Result<bool, StoreError> {
        let (text, when) = (network.trunc().to_string(), when.into());
        let now = when.now;
        self.write(|transaction| {
            let until: Option<Option<UnixTime>> = transaction
                .query_row(
                    "SELECT until FROM bans WHERE network = ?1 AND (until IS NULL OR until > ?2)",
                    (&text, now),
                    |row| row.get(0),
                )
                .optional()?;
            match until {
                None => Ok(false),
                Some(until) => {
                    note(transaction, Kind::BanRemove, BANS, std::slice::from_ref(&text), when)?;
                    transaction.execute("DELETE FROM bans WHERE network = ?1", [&text])?;
                    if when.confirm_by.is_none() {
                        offenders::forgive(transaction, &text)?;
                    }
                    self.record(transaction, now, Kind::BanRemove, &json!({ "network": text }), until)?;
                    Ok(true)
                }
            }
        })
    }

    /// The bans that hold now.
    pub fn bans(&self, now: UnixTime) -> Result<Vec<Ban>, StoreError> {
        let mut bans: Vec<Ban> = self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT network, until, reason, created, offence, times FROM bans WHERE until IS NULL OR until > ?1",
            )?;
            Ok(query.query_map([now], read_ban)?.collect::<Result<_, _>>()?)
        })?;
        bans.sort_by_key(|ban| ban.network);
        Ok(bans)
    }

    /// Removes bans that are over and the names of sources that count as new, for good, and log entries that have had no
    /// effect for a long time. Returns how many bans were over.
    pub fn purge_expired(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.write(|transaction| {
            let bans = transaction.execute("DELETE FROM bans WHERE until <= ?1", [now])?;
            offenders::purge(transaction, now)?;
            let kept_from = UnixTime(now.0.saturating_sub(KEPT_AFTER_EXPIRY_SECONDS));
            let old =
                "DELETE FROM changes WHERE seq IN (SELECT seq FROM changes WHERE expires < ?1 LIMIT ?2)";
            transaction.execute(old, (kept_from, PURGED_AT_ONCE))?;
            Ok(bans)
        })
    }

    /// Removes those of the bans that are over that are too many to keep, for as long as it is doubtful whether they are.
    pub fn purge_surplus(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.write(|transaction| {
            let surplus = "SELECT network FROM bans WHERE until <= ?1 ORDER BY until DESC LIMIT -1 OFFSET ?2";
            let purge = format!("DELETE FROM bans WHERE network IN ({surplus})");
            Ok(transaction.execute(&purge, (now, MAX_BANS as i64))?)
        })
    }
}

fn insert(
    transaction: &Transaction<'_>,
    networks: &[String],
    until: Option<UnixTime>,
    reason: Option<&str>,
    now: UnixTime,
) -> Result<(), Problem> {
    let mut insert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO bans (network, until, reason, created) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for network in networks {
        insert.execute((network, until, reason, now))?;
    }
    if count(transaction, now)? > MAX_BANS {
        return Err(Problem::TooMany { most: MAX_BANS, what: "bans" });
    }
    Ok(())
}

/// The bans that hold now.
pub(super) fn count(transaction: &Transaction<'_>, now: UnixTime) -> Result<usize, Problem> {
    let count: i64 = transaction.query_row(
        "SELECT count(*) FROM bans WHERE until IS NULL OR until > ?1",
        [now],
        |row| row.get(0),
    )?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn read_ban(row: &Row<'_>) -> rusqlite::Result<Ban> {
    let (offence, times): (Option<String>, Option<u32>) = (row.get(4)?, row.get(5)?);
    Ok(Ban {
        automatic: offence.map(|offence| Automatic { offence, times: times.unwrap_or(1) }),
        created: row.get(3)?,
        network: network(row, 0)?,
        reason: row.get(2)?,
        until: row.get(1)?,
    })
}
