//! Who did what, when, and what came of it.
//!
//! An entry of a change is in the change's own transaction: there is none without the other. Invariant: no secret is in
//! an entry, and no entry grows with what was changed.

use rusqlite::{Connection, Row, ToSql, Transaction};
use serde_json::{Map, Value, json};

use super::changes::PURGED_AT_ONCE;
use super::values::json as read_json;
use super::{Problem, Store, StoreError};
use crate::actor::Actor;
use crate::clock::UnixTime;

/// Elements of a list that are kept in an entry; of a longer one, it is said how long it was.
const MAX_ELEMENTS: usize = 16;
/// Bytes of a text that are kept.
const MAX_TEXT_BYTES: usize = 512;
/// What a change says that is not for people: the hash of a key is of no use to anyone but a guesser.
const LEFT_OUT: [&str; 2] = ["hash", "sealed"];

/// What is in excess, of those who use the control socket, and of the rest: clients and the agent by itself, which no
/// operator has in hand.
const TOO_MANY_OF_PEOPLE: &str = "SELECT seq FROM audit INDEXED BY audit_people
    WHERE actor IN ('operator', 'stranger') ORDER BY seq DESC LIMIT ?2 OFFSET ?1";
const TOO_MANY_OTHERS: &str = "SELECT seq FROM audit INDEXED BY audit_others
    WHERE actor NOT IN ('operator', 'stranger') ORDER BY seq DESC LIMIT ?2 OFFSET ?1";

/// What became of something that was done, or tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It went wrong.
    Failed,
    /// It was refused.
    Refused,
}

impl AuditOutcome {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// An entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditEntry {
    /// What was done: `ban.add`, `key.rotate` and so on.
    pub action: String,
    /// `agent`, `client`, `operator` or `stranger`.
    pub actor: String,
    /// What it was done to; its fields depend on the action.
    pub detail: Value,
    /// The peer's group, where it came over the control socket.
    pub gid: Option<u32>,
    /// `done`, `failed` or `refused`.
    pub outcome: String,
    /// The peer's process.
    pub pid: Option<i32>,
    /// Its number: they rise, and none is given twice.
    pub seq: i64,
    /// When.
    pub time: UnixTime,
    /// The peer's user.
    pub uid: Option<u32>,
}

/// Which entries are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditWanted {
    /// At most so many, the last ones.
    pub limit: u32,
    /// None before that.
    pub since: UnixTime,
}

impl Store {
    /// Writes down what was done to no list of the store, or what was refused.
    ///
    /// # Errors
    /// The store's.
    pub fn audit(
        &self,
        action: &str,
        detail: &Value,
        outcome: AuditOutcome,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.write(|transaction| insert(transaction, &Actor::current(), action, detail, outcome, now))
    }

    /// The last entries that are wanted, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub fn audit_entries(&self, wanted: AuditWanted) -> Result<Vec<AuditEntry>, StoreError> {
        let mut entries: Vec<AuditEntry> = self.read(|connection: &Connection| {
            let mut query = connection.prepare_cached(
                "SELECT seq, time, actor, uid, gid, pid, action, detail, outcome FROM audit WHERE time >= ?1
                 ORDER BY seq DESC LIMIT ?2",
            )?;
            Ok(query.query_map((wanted.since, wanted.limit), read_entry)?.collect::<Result<_, _>>()?)
        })?;
        entries.reverse();
        Ok(entries)
    }

    /// Forgets what is older than `before`, and all but the last `most` entries of those who use the control socket, and
    /// as many of the others; a number of them at a time.
    ///
    /// # Errors
    /// The store's.
    pub fn purge_audit(&self, before: UnixTime, most: u32) -> Result<usize, StoreError> {
        let too_old = "SELECT seq FROM audit WHERE time < ?1 LIMIT ?2";
        let bounds: [(&str, &dyn ToSql); 3] =
            [(too_old, &before), (TOO_MANY_OF_PEOPLE, &most), (TOO_MANY_OTHERS, &most)];
        let due = self.read(|connection| {
            for (query, bound) in bounds {
                if connection.prepare_cached(query)?.exists([bound, &1])? {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        // Nothing is written where there is nothing to forget.
        if !due {
            return Ok(0);
        }
        self.write(|transaction| {
            let mut removed = 0;
            for (query, bound) in bounds {
                let text = format!("DELETE FROM audit WHERE seq IN ({query})");
                removed += transaction.prepare_cached(&text)?.execute([bound, &PURGED_AT_ONCE])?;
            }
            Ok(removed)
        })
    }
}

/// Adds an entry to the transaction of what it tells of.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    actor: &Actor,
    action: &str,
    detail: &Value,
    outcome: AuditOutcome,
    now: UnixTime,
) -> Result<(), Problem> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO audit (time, actor, uid, gid, pid, action, detail, outcome)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let peer = actor.peer();
    let (uid, gid, pid) =
        (peer.map(|peer| peer.uid), peer.map(|peer| peer.gid), peer.and_then(|peer| peer.pid));
    let detail = shortened(detail).to_string();
    insert.execute((now, actor.name(), uid, gid, pid, action, detail, outcome.name()))?;
    actor.note_entry();
    Ok(())
}

fn read_entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        seq: row.get(0)?,
        time: row.get(1)?,
        actor: row.get(2)?,
        uid: row.get(3)?,
        gid: row.get(4)?,
        pid: row.get(5)?,
        action: row.get(6)?,
        detail: read_json(row, 7)?,
        outcome: row.get(8)?,
    })
}

/// As much of it as an entry has room for, without what is no one's business.
fn shortened(detail: &Value) -> Value {
    match detail {
        Value::Array(elements) if elements.len() > MAX_ELEMENTS => json!({ "count": elements.len() }),
        Value::Array(elements) => elements.iter().map(shortened).collect(),
        Value::Object(members) => {
            let kept =
                members.iter().filter(|(name, value)| !LEFT_OUT.contains(&&***name) && !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), shortened(value))).collect::<Map<_, _>>())
        }
        Value::String(text) => text[..text.floor_char_boundary(MAX_TEXT_BYTES)].into(),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::{self, Peer};

    const ALL: AuditWanted = AuditWanted { limit: 1000, since: UnixTime(0) };

    fn store() -> (Store, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        (Store::open(&path, UnixTime(1)).unwrap(), directory)
    }

    fn told(store: &Store, wanted: AuditWanted) -> Vec<String> {
        let entries = store.audit_entries(wanted).unwrap();
        let told = |entry: AuditEntry| {
            format!(
                "{} {} {:?} {} {} {}",
                entry.time.0, entry.actor, entry.uid, entry.action, entry.detail, entry.outcome
            )
        };
        entries.into_iter().map(told).collect()
    }

    #[test]
    fn a_change_and_who_made_it_are_one_transaction() {
        let (store, _directory) = store();
        let operator = Actor::operator(Peer { gid: 100, pid: Some(42), uid: 1000 });
        let network = "192.0.2.0/24".parse().unwrap();
        actor::run_as(&operator, || store.add_ban(network, None, Some("scraper"), UnixTime(5)).unwrap());
        assert!(operator.has_entry());
        store.remove_ban(network, UnixTime(6)).unwrap();
        assert_eq!(
            told(&store, ALL),
            [
                r#"5 operator Some(1000) ban.add {"network":"192.0.2.0/24","reason":"scraper"} done"#,
                r#"6 agent None ban.remove {"network":"192.0.2.0/24"} done"#,
            ]
        );
        let refused: Result<(), _> = store.write(|transaction| {
            insert(transaction, &operator, "x", &json!({}), AuditOutcome::Done, UnixTime(7))?;
            Err(Problem::TooMany { most: 1, what: "bans" })
        });
        assert!(refused.is_err());
        assert_eq!(told(&store, ALL).len(), 2, "what did not happen is not told");
    }

    #[test]
    fn entries_are_bounded_by_age_and_by_number_and_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = Store::open(&path, UnixTime(1)).unwrap();
        for time in 10..20 {
            store.audit("config.reload", &json!({ "n": time }), AuditOutcome::Done, UnixTime(time)).unwrap();
        }
        assert_eq!(store.purge_audit(UnixTime(12), 100).unwrap(), 2);
        assert_eq!(store.purge_audit(UnixTime(12), 5).unwrap(), 3);
        assert_eq!(store.purge_audit(UnixTime(12), 5).unwrap(), 0);
        drop(store);
        let store = Store::open(&path, UnixTime(30)).unwrap();
        let times = |wanted| {
            store.audit_entries(wanted).unwrap().iter().map(|entry| entry.time.0).collect::<Vec<_>>()
        };
        assert_eq!(times(ALL), [15, 16, 17, 18, 19]);
        assert_eq!(times(AuditWanted { limit: 2, ..ALL }), [18, 19]);
        assert_eq!(times(AuditWanted { since: UnixTime(17), ..ALL }), [17, 18, 19]);
    }

    #[test]
    fn what_comes_of_clients_pushes_out_nothing_that_operators_did() {
        let (store, _directory) = store();
        let operator = Actor::operator(Peer { gid: 100, pid: None, uid: 1000 });
        let add = |actor: &Actor, time| {
            actor::run_as(actor, || {
                store.audit("x", &json!({}), AuditOutcome::Done, UnixTime(time)).unwrap();
            });
        };
        for time in 10..13 {
            add(&operator, time);
        }
        for time in 20..30 {
            add(&[Actor::AGENT, Actor::CLIENT][time as usize % 2], time);
        }
        assert_eq!(store.purge_audit(UnixTime(0), 4).unwrap(), 6);
        let times =
            || -> Vec<_> { store.audit_entries(ALL).unwrap().iter().map(|entry| entry.time.0).collect() };
        assert_eq!(times(), [10, 11, 12, 26, 27, 28, 29]);
        for time in 30..33 {
            add(&Actor::stranger(Peer { gid: 1, pid: None, uid: 1 }), time);
        }
        assert_eq!(store.purge_audit(UnixTime(0), 4).unwrap(), 2);
        assert_eq!(times(), [12, 26, 27, 28, 29, 30, 31, 32]);
        assert_eq!(store.purge_audit(UnixTime(0), 4).unwrap(), 0);
    }

    #[test]
    fn what_is_long_or_secret_is_left_out() {
        let networks: Vec<_> = (0..20).map(|number| format!("192.0.2.{number}/32")).collect();
        let detail = json!({
            "hash": "c2VjcmV0", "id": "k1", "networks": networks, "note": "x".repeat(1000), "owner": null,
            "scopes": ["a", "b"], "nested": [{ "sealed": "s" }],
        });
        let expected = json!({
            "id": "k1", "networks": { "count": 20 }, "note": "x".repeat(MAX_TEXT_BYTES), "scopes": ["a", "b"],
            "nested": [{}],
        });
        assert_eq!(shortened(&detail), expected);
    }
}
