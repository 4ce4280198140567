//! Limits of networks that were set while the agent ran.

use ipnet::IpNet;
use serde_json::json;

use super::changes::Kind;
use super::pending::{LIMITS, When, note};
use super::values::{json, network};
use super::{Problem, Store, StoreError};
use crate::clock::UnixTime;
use crate::config::Overrides;

/// Most networks with limits of their own: they are written by people.
pub const MAX_LIMITS: usize = 10_000;

/// The limits of a network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limit {
    /// When they were set, or set anew.
    pub created: UnixTime,
    /// What was set; the rest is as configured for everyone.
    pub limits: Overrides,
    /// Whose limits they are.
    pub network: IpNet,
    /// The operator's remark.
    pub reason: Option<String>,
}

impl Store {
    /// Sets the limits of a network. Setting them again replaces all of them, and the reason.
    ///
    /// `confirm_by` is the first second in which that is undone, if nobody confirms it.
    pub fn set_limit(&self, limit: &Limit, confirm_by: Option<UnixTime>) -> Result<(), StoreError> {
        let Limit { created, limits, network, reason } = limit;
        let network = network.trunc().to_string();
        let when = When { confirm_by, now: *created };
        self.write(|transaction| {
            note(transaction, Kind::LimitSet, LIMITS, std::slice::from_ref(&network), when)?;
            transaction.execute(
                "INSERT INTO limits (network, limits, reason, created) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (network) DO UPDATE
                 SET limits = excluded.limits, reason = excluded.reason, created = excluded.created",
                (&network, json!(limits).to_string(), reason, created),
            )?;
            let count: i64 = transaction.query_row("SELECT count(*) FROM limits", [], |row| row.get(0))?;
            if usize::try_from(count).is_ok_and(|count| count > MAX_LIMITS) {
                return Err(Problem::TooMany { most: MAX_LIMITS, what: "networks with limits of their own" });
            }
            let payload = json!({ "network": network, "limits": limits, "reason": reason });
            self.record(transaction, *created, Kind::LimitSet, &payload, None)
        })
    }

    /// Forgets the limits of a network; false: none were set for exactly this one.
    pub fn remove_limit(&self, network: IpNet, when: impl Into<When>) -> Result<bool, StoreError> {
        let (text, when) = (network.trunc().to_string(), when.into());
        self.write(|transaction| {
            if !transaction.prepare_cached("SELECT 1 FROM limits WHERE network = ?1")?.exists([&text])? {
                return Ok(false);
            }
            note(transaction, Kind::LimitRemove, LIMITS, std::slice::from_ref(&text), when)?;
            transaction.execute("DELETE FROM limits WHERE network = ?1", [&text])?;
            self.record(transaction, when.now, Kind::LimitRemove, &json!({ "network": text }), None)?;
            Ok(true)
        })
    }

    /// The limits that were set, by network.
    pub fn limits(&self) -> Result<Vec<Limit>, StoreError> {
        let mut limits: Vec<Limit> = self.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT network, limits, reason, created FROM limits")?;
            let rows = query.query_map([], |row| {
                Ok(Limit {
                    network: network(row, 0)?,
                    limits: json(row, 1)?,
                    reason: row.get(2)?,
                    created: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        limits.sort_by_key(|limit| limit.network);
        Ok(limits)
    }
}
