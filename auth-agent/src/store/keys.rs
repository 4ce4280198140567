//! API keys in the store.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use serde_json::{Value, json};

use super::changes::Kind;
use super::values::{json as json_column, networks, rate};
use super::{Problem, Store, StoreError};
use crate::api_key::{KeyHash, KeyId, StoredKey};
use crate::clock::UnixTime;
use crate::config::Rate;

/// Most keys, revoked ones included.
pub const MAX_KEYS: usize = 1_000_000;

const COLUMNS: &str = "id, hash, name, note, scopes, networks, created, expires, revoked, last_used, owner, \
                       rate_events, rate_seconds, rate_burst, replaces, replaced_by";

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// When it was made, where that is not now.
    pub created: Option<UnixTime>,
    /// The first second in which it is no longer valid.
    pub expires: Option<UnixTime>,
    /// Keyed hash of the whole text.
    pub hash: KeyHash,
    /// The public part.
    pub id: KeyId,
    /// The subject that the upstream sees. Several keys may share it: so a key is rotated.
    pub name: String,
    /// Client networks it may be used from; empty: any.
    pub networks: Vec<IpNet>,
    /// The operator's remark.
    pub note: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// How many requests it may be used for.
    pub rate: Option<Rate>,
    /// What it may do.
    pub scopes: Vec<String>,
}

impl NewKey {
    fn stored(self, replaces: Option<KeyId>, now: UnixTime) -> StoredKey {
        StoredKey {
            created: self.created.unwrap_or(now),
            expires: self.expires,
            hash: self.hash,
            id: self.id,
            last_used: None,
            name: self.name,
            networks: self.networks,
            note: self.note,
            owner: self.owner,
            rate: self.rate,
            replaced_by: None,
            replaces,
            revoked: None,
            scopes: self.scopes,
        }
    }
}

impl Store {
    /// Stores a new key.
    pub fn create_key(&self, key: NewKey, now: UnixTime) -> Result<StoredKey, StoreError> {
        let key = key.stored(None, now);
        self.write(|transaction| {
            insert(transaction, &key)?;
            check_count(transaction)?;
            self.record(transaction, now, Kind::KeyCreate, &payload(&key), key.expires)
        })?;
        Ok(key)
    }

    /// Stores keys that were made elsewhere, all of them or none.
    pub fn import_keys(&self, keys: Vec<NewKey>, now: UnixTime) -> Result<Vec<StoredKey>, StoreError> {
        let keys: Vec<_> = keys.into_iter().map(|key| key.stored(None, now)).collect();
        self.write(|transaction| {
            for key in &keys {
                if is_known(transaction, key)? {
                    return Err(Problem::KeyKnown(key.id));
                }
                insert(transaction, key)?;
                self.record(transaction, now, Kind::KeyImport, &payload(key), key.expires)?;
            }
            check_count(transaction)
        })?;
        Ok(keys)
    }

    /// Stores a key in the place of another, which ends when the overlap does, or when it would have.
    ///
    /// Returns both as they are now; `None`: there is no `old`.
    pub fn rotate_key(
        &self,
        old: KeyId,
        new: NewKey,
        overlap_ends: UnixTime,
        now: UnixTime,
    ) -> Result<Option<(StoredKey, StoredKey)>, StoreError> {
        let new = new.stored(Some(old), now);
        self.write(|transaction| {
            let Some(old) = find(transaction, old)? else { return Ok(None) };
            let expires = old.expires.map_or(overlap_ends, |expires| expires.min(overlap_ends));
            let old = StoredKey { expires: Some(expires), replaced_by: Some(new.id), ..old };
            insert(transaction, &new)?;
            check_count(transaction)?;
            transaction.execute(
                "UPDATE api_keys SET expires = ?2, replaced_by = ?3 WHERE id = ?1",
                (old.id, expires, new.id),
            )?;
            let mut payload = payload(&new);
            payload["replaces"] = json!(old.id);
            payload["replaced_expires"] = json!(expires);
            self.record(transaction, now, Kind::KeyRotate, &payload, new.expires)?;
            Ok(Some((old, new)))
        })
    }

    /// A key.
    pub fn key(&self, id: KeyId) -> Result<Option<StoredKey>, StoreError> {
        self.read(|connection| find(connection, id))
    }

    /// Up to `limit` keys, oldest first, those that come after `after`; revoked and expired ones too.
    pub fn keys_after(&self, after: Option<&StoredKey>, limit: usize) -> Result<Vec<StoredKey>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // Nothing was made before 1970, and no id is empty.
        let (created, id) =
            after.map_or((UnixTime(0), String::new()), |key| (key.created, key.id.to_string()));
        self.read(|connection| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM api_keys WHERE (created, id) > (?1, ?2) ORDER BY created, id LIMIT ?3"
            ))?;
            Ok(query.query_map((created, id, limit), read_key)?.collect::<Result<_, _>>()?)
        })
    }

    /// Shows every key to `each`, in no order; revoked and expired ones too. A million at once would take as much
    /// memory again as the agent needs of them, and in another order than they are stored, ten times as long.
    pub fn each_key(&self, mut each: impl FnMut(&StoredKey)) -> Result<(), StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare(&format!("SELECT {COLUMNS} FROM api_keys"))?;
            for key in query.query_map([], read_key)? {
                each(&key?);
            }
            Ok(())
        })
    }

    /// How many keys are neither revoked nor expired.
    pub fn valid_keys(&self, now: UnixTime) -> Result<usize, StoreError> {
        let valid =
            "SELECT count(*) FROM api_keys WHERE revoked IS NULL AND (expires IS NULL OR expires > ?1)";
        self.read(|connection| {
            let count: i64 = connection.prepare_cached(valid)?.query_row([now], |row| row.get(0))?;
            Ok(usize::try_from(count).unwrap_or(0))
        })
    }

    /// Whether anything is stored that the secret beside the database is needed for.
    pub fn needs_secret(&self) -> Result<bool, StoreError> {
        let any = "SELECT 1 FROM api_keys UNION ALL SELECT 1 FROM signing_keys LIMIT 1";
        self.read(|connection| Ok(connection.prepare(any)?.exists([])?))
    }

    /// Notes when keys were last used. Not a change: it is a fact about this host, and not logged.
    pub fn touch_keys(&self, uses: impl IntoIterator<Item = (KeyId, UnixTime)>) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut update = transaction.prepare_cached(
                "UPDATE api_keys SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1",
            )?;
            for used in uses {
                update.execute(used)?;
            }
            Ok(())
        })
    }
}

fn insert(transaction: &Transaction<'_>, key: &StoredKey) -> Result<(), Problem> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO api_keys (id, hash, name, note, scopes, networks, created, expires, owner, rate_events,
                               rate_seconds, rate_burst, replaces)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    insert.execute((
        key.id,
        key.hash,
        &key.name,
        &key.note,
        json!(key.scopes).to_string(),
        json!(texts(&key.networks)).to_string(),
        key.created,
        key.expires,
        &key.owner,
        key.rate.map(|rate| rate.events.get()),
        key.rate.map(|rate| UnixTime(rate.period.as_secs())),
        key.rate.map(|rate| rate.burst.get()),
        key.replaces,
    ))?;
    Ok(())
}

fn check_count(transaction: &Transaction<'_>) -> Result<(), Problem> {
    let count: i64 = transaction.query_row("SELECT count(*) FROM api_keys", [], |row| row.get(0))?;
    if usize::try_from(count).is_ok_and(|count| count > MAX_KEYS) {
        return Err(Problem::TooMany { most: MAX_KEYS, what: "API keys" });
    }
    Ok(())
}

fn is_known(transaction: &Transaction<'_>, key: &StoredKey) -> Result<bool, Problem> {
    let mut query = transaction.prepare_cached("SELECT 1 FROM api_keys WHERE id = ?1 OR hash = ?2")?;
    Ok(query.exists((key.id, key.hash))?)
}

fn find(connection: &Connection, id: KeyId) -> Result<Option<StoredKey>, Problem> {
    let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM api_keys WHERE id = ?1"))?;
    Ok(query.query_row([id], read_key).optional()?)
}

/// What it takes to make the key elsewhere.
fn payload(key: &StoredKey) -> Value {
    let rate = key
        .rate
        .map(|rate| json!({ "events": rate.events, "seconds": rate.period.as_secs(), "burst": rate.burst }));
    json!({
        "id": key.id,
        "hash": STANDARD.encode(key.hash.0),
        "name": key.name,
        "note": key.note,
        "owner": key.owner,
        "rate": rate,
        "scopes": key.scopes,
        "networks": texts(&key.networks),
        "created": key.created,
        "expires": key.expires,
    })
}

fn texts(networks: &[IpNet]) -> Vec<String> {
    networks.iter().map(IpNet::to_string).collect()
}

fn read_key(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    Ok(StoredKey {
        id: row.get(0)?,
        hash: row.get(1)?,
        name: row.get(2)?,
        note: row.get(3)?,
        scopes: json_column(row, 4)?,
        networks: networks(row, 5)?,
        created: row.get(6)?,
        expires: row.get(7)?,
        revoked: row.get(8)?,
        last_used: row.get(9)?,
        owner: row.get(10)?,
        rate: rate(row, 11)?,
        replaces: row.get(14)?,
        replaced_by: row.get(15)?,
    })
}
