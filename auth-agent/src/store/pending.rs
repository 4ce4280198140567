//! Changes that have to be confirmed: with each, in its own transaction, goes what was there before.
//!
//! Of several changes of one network, the last that was confirmed, or that needed no confirmation, is final: what
//! came before it can no longer be undone. An undone change that a later one builds on hands over what it would
//! have put back.

#[cfg(test)]
mod tests;

use ipnet::IpNet;
use rusqlite::{OptionalExtension as _, Transaction};
use serde_json::json;

use super::changes::Kind;
use super::values::network;
use super::{Problem, Store, StoreError, offenders};
use crate::clock::UnixTime;

/// When a change is made, and until when it has to be confirmed.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// The first second in which it is undone; `None`: it stays.
    pub confirm_by: Option<UnixTime>,
    /// Now.
    pub now: UnixTime,
}

impl From<UnixTime> for When {
    fn from(now: UnixTime) -> Self {
        Self { confirm_by: None, now }
    }
}

/// A change that nobody has confirmed yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pending {
    /// When it was made.
    pub created: UnixTime,
    /// The first second in which it is undone.
    pub deadline: UnixTime,
    /// Its number.
    pub id: i64,
    /// What it did, as the log calls it.
    pub kind: String,
    /// A network that it changed.
    pub network: IpNet,
    /// How many networks it changed.
    pub networks: u32,
}

/// A table by network, and how its rows are put away and put back.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// The columns besides the network.
    columns: &'static [&'static str],
    table: &'static str,
}

pub(super) const ALLOWS: List = List { columns: &["reason", "created"], table: "allows" };
pub(super) const BANS: List =
    List { columns: &["until", "reason", "created", "offence", "times"], table: "bans" };
pub(super) const LIMITS: List = List { columns: &["limits", "reason", "created"], table: "limits" };
const LISTS: [List; 3] = [ALLOWS, BANS, LIMITS];

impl List {
    /// A row as JSON.
    fn row(self) -> String {
        let fields: Vec<_> = self.columns.iter().map(|column| format!("'{column}', {column}")).collect();
        format!("json_object({})", fields.join(", "))
    }

    /// Puts back what `pending` number ?1 found.
    fn restore(self) -> String {
        let Self { columns, table } = self;
        let fields: Vec<_> = columns.iter().map(|column| format!("previous ->> '{column}'")).collect();
        let (columns, fields) = (columns.join(", "), fields.join(", "));
        format!(
            "INSERT OR REPLACE INTO {table} (network, {columns})
             SELECT network, {fields} FROM undo WHERE pending = ?1 AND list = '{table}' AND previous IS NOT NULL"
        )
    }

    /// Removes what `pending` number ?1 put where nothing was.
    fn remove(self) -> String {
        let table = self.table;
        format!(
            "DELETE FROM {table} WHERE network IN
             (SELECT network FROM undo WHERE pending = ?1 AND list = '{table}' AND previous IS NULL)"
        )
    }
}

/// Hands what change ?1 would put back to the next later change of the same network.
const HAND_OVER: &str = "
    UPDATE undo SET previous = earlier.previous FROM undo AS earlier
    WHERE earlier.pending = ?1 AND earlier.list = undo.list AND earlier.network = undo.network
      AND undo.pending = (SELECT min(later.pending) FROM undo AS later
                          WHERE later.list = undo.list AND later.network = undo.network AND later.pending > ?1)";
const HANDED_OVER: &str = "
    DELETE FROM undo WHERE pending = ?1 AND EXISTS
      (SELECT 1 FROM undo AS later
       WHERE later.list = undo.list AND later.network = undo.network AND later.pending > ?1)";
/// Forgets what changes before ?1 would put back of the same networks.
const FINAL: &str = "
    DELETE FROM undo WHERE pending < ?1 AND EXISTS
      (SELECT 1 FROM undo AS own
       WHERE own.list = undo.list AND own.network = undo.network AND own.pending = ?1)";
const WITHOUT_EFFECT: &str =
    "DELETE FROM pending WHERE NOT EXISTS (SELECT 1 FROM undo WHERE undo.pending = pending.id)";

impl Store {
    /// Changes that wait to be confirmed, oldest first.
    pub fn pending(&self) -> Result<Vec<Pending>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT min(network), id, kind, created, deadline, count(*) FROM pending JOIN undo ON pending = id
                 GROUP BY id ORDER BY id",
            )?;
            let rows = query.query_map([], |row| {
                Ok(Pending {
                    network: network(row, 0)?,
                    id: row.get(1)?,
                    kind: row.get(2)?,
                    created: row.get(3)?,
                    deadline: row.get(4)?,
                    networks: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Makes a change final; false: there is none of this number, or its time is over.
    pub fn confirm(&self, id: i64, now: UnixTime) -> Result<bool, StoreError> {
        self.write(|transaction| {
            let kind: Option<String> = transaction
                .prepare_cached("SELECT kind FROM pending WHERE id = ?1 AND deadline > ?2")?
                .query_row((id, now), |row| row.get(0))
                .optional()?;
            let Some(kind) = kind else { return Ok(false) };
            if kind == Kind::BanRemove.name() {
                offenders::forgive_of(transaction, id)?;
            }
            transaction.execute(FINAL, [id])?;
            transaction.execute("DELETE FROM pending WHERE id = ?1", [id])?;
            transaction.execute(WITHOUT_EFFECT, [])?;
            self.record(transaction, now, Kind::ChangeConfirm, &json!({ "id": id }), None)?;
            Ok(true)
        })
    }

    /// Undoes every change that nobody confirmed in time, and returns them.
    pub fn undo_unconfirmed(&self, now: UnixTime) -> Result<Vec<Pending>, StoreError> {
        let mut overdue = self.pending()?;
        overdue.retain(|pending| pending.deadline <= now);
        if overdue.is_empty() {
            return Ok(overdue);
        }
        self.write(|transaction| {
            for Pending { id, .. } in &overdue {
                transaction.execute(HAND_OVER, [id])?;
                transaction.execute(HANDED_OVER, [id])?;
                for list in LISTS {
                    transaction.execute(&list.restore(), [id])?;
                    transaction.execute(&list.remove(), [id])?;
                }
                transaction.execute("DELETE FROM pending WHERE id = ?1", [id])?;
                self.record(transaction, now, Kind::ChangeUndo, &json!({ "id": id }), None)?;
            }
            Ok(())
        })?;
        Ok(overdue)
    }
}

/// Notes what is there before a change of `networks`: to be put back, if the change has to be confirmed; else what
/// earlier changes would put back is forgotten.
pub(super) fn note(
    transaction: &Transaction<'_>,
    kind: Kind,
    list: List,
    networks: &[String],
    when: When,
) -> Result<(), Problem> {
    let List { table, .. } = list;
    let Some(deadline) = when.confirm_by else {
        if transaction.prepare_cached("SELECT 1 FROM undo LIMIT 1")?.exists([])? {
            let mut forget =
                transaction.prepare_cached("DELETE FROM undo WHERE list = ?1 AND network = ?2")?;
            for network in networks {
                forget.execute((table, network))?;
            }
            transaction.execute(WITHOUT_EFFECT, [])?;
        }
        return Ok(());
    };
    transaction.execute(
        "INSERT INTO pending (kind, created, deadline) VALUES (?1, ?2, ?3)",
        (kind.name(), when.now, deadline),
    )?;
    let id = transaction.last_insert_rowid();
    let mut note = transaction.prepare(&format!(
        "INSERT OR IGNORE INTO undo (list, network, pending, previous)
         VALUES ('{table}', ?1, ?2, (SELECT {} FROM {table} WHERE network = ?1))",
        list.row()
    ))?;
    for network in networks {
        note.execute((network, id))?;
    }
    Ok(())
}
