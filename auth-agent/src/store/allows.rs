//! The part of the allowlist that was added while the agent ran.

use ipnet::IpNet;
use serde_json::json;

use super::changes::Kind;
use super::pending::{ALLOWS, When, note};
use super::values::network;
use super::{Problem, Store, StoreError};
use crate::clock::UnixTime;

/// Most allowed networks: an allowlist is written by people.
pub const MAX_ALLOWS: usize = 10_000;

/// An allowed network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Allow {
    /// When it was added, or added anew.
    pub created: UnixTime,
    /// Who is allowed.
    pub network: IpNet,
    /// The operator's remark.
    pub reason: Option<String>,
}

impl Store {
    /// Allows a network. Allowing it again replaces the reason.
    pub fn add_allow(
        &self,
        network: IpNet,
        reason: Option<&str>,
        when: impl Into<When>,
    ) -> Result<Allow, StoreError> {
        let (network, when) = (network.trunc(), when.into());
        let (now, text) = (when.now, network.to_string());
        self.write(|transaction| {
            note(transaction, Kind::AllowAdd, ALLOWS, std::slice::from_ref(&text), when)?;
            transaction.execute(
                "INSERT INTO allows (network, reason, created) VALUES (?1, ?2, ?3)
                 ON CONFLICT (network) DO UPDATE SET reason = excluded.reason, created = excluded.created",
                (&text, reason, now),
            )?;
            let count: i64 = transaction.query_row("SELECT count(*) FROM allows", [], |row| row.get(0))?;
            if usize::try_from(count).is_ok_and(|count| count > MAX_ALLOWS) {
                return Err(Problem::TooMany { most: MAX_ALLOWS, what: "allowed networks" });
            }
            self.record(transaction, now, Kind::AllowAdd, &json!({ "network": text, "reason": reason }), None)
        })?;
        Ok(Allow { created: now, network, reason: reason.map(str::to_owned) })
    }

    /// Takes a network off the allowlist; false: it was not on it.
    pub fn remove_allow(&self, network: IpNet, when: impl Into<When>) -> Result<bool, StoreError> {
        let (text, when) = (network.trunc().to_string(), when.into());
        self.write(|transaction| {
            if !transaction.prepare_cached("SELECT 1 FROM allows WHERE network = ?1")?.exists([&text])? {
                return Ok(false);
            }
            note(transaction, Kind::AllowRemove, ALLOWS, std::slice::from_ref(&text), when)?;
            transaction.execute("DELETE FROM allows WHERE network = ?1", [&text])?;
            self.record(transaction, when.now, Kind::AllowRemove, &json!({ "network": text }), None)?;
            Ok(true)
        })
    }

    /// The networks that were added, in order.
    pub fn allows(&self) -> Result<Vec<Allow>, StoreError> {
        let mut allows: Vec<Allow> = self.read(|connection| {
            let mut query = connection.prepare_cached("SELECT network, reason, created FROM allows")?;
            let rows = query.query_map([], |row| {
                Ok(Allow { network: network(row, 0)?, reason: row.get(1)?, created: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        allows.sort_by_key(|allow| allow.network);
        Ok(allows)
    }
}
