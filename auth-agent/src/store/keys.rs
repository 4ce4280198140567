//! API keys in the store.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

use super::changes::Kind;
use super::values::{json as json_column, networks};
use super::{Problem, Store, StoreError};
use crate::api_key::{KeyHash, KeyId, StoredKey};
use crate::clock::UnixTime;

/// Most keys, revoked ones included.
pub const MAX_KEYS: usize = 100_000;

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewKey {
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
    /// What it may do.
    pub scopes: Vec<String>,
}

impl Store {
    /// Stores a new key.
    pub fn create_key(&self, key: NewKey, now: UnixTime) -> Result<StoredKey, StoreError> {
        let networks: Vec<String> = key.networks.iter().map(IpNet::to_string).collect();
        self.write(|transaction| {
            let count: i64 = transaction.query_row("SELECT count(*) FROM api_keys", [], |row| row.get(0))?;
            if usize::try_from(count).is_ok_and(|count| count >= MAX_KEYS) {
                return Err(Problem::TooMany { most: MAX_KEYS, what: "API keys" });
            }
            transaction.execute(
                "INSERT INTO api_keys (id, hash, name, note, scopes, networks, created, expires)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                (
                    key.id,
                    key.hash,
                    &key.name,
                    &key.note,
                    json!(key.scopes).to_string(),
                    json!(networks).to_string(),
                    now,
                    key.expires,
                ),
            )?;
            let payload = json!({
                "id": key.id,
                "hash": STANDARD.encode(key.hash.0),
                "name": key.name,
                "note": key.note,
                "scopes": key.scopes,
                "networks": networks,
                "expires": key.expires,
            });
            self.record(transaction, now, Kind::KeyCreate, &payload, key.expires)
        })?;
        Ok(StoredKey {
            created: now,
            expires: key.expires,
            hash: key.hash,
            id: key.id,
            last_used: None,
            name: key.name,
            networks: key.networks,
            note: key.note,
            revoked: None,
            scopes: key.scopes,
        })
    }

    /// All keys, oldest first; revoked and expired ones too.
    pub fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, hash, name, note, scopes, networks, created, expires, revoked, last_used
                 FROM api_keys ORDER BY created, id",
            )?;
            Ok(query.query_map([], read_key)?.collect::<Result<_, _>>()?)
        })
    }

    /// Revokes a key for good, and says since when it is revoked; `None`: there is no such key.
    pub fn revoke_key(&self, id: KeyId, now: UnixTime) -> Result<Option<UnixTime>, StoreError> {
        self.write(|transaction| {
            let found: Option<(Option<UnixTime>, Option<UnixTime>)> = transaction
                .query_row("SELECT revoked, expires FROM api_keys WHERE id = ?1", [id], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            match found {
                None => Ok(None),
                Some((Some(revoked), _)) => Ok(Some(revoked)),
                Some((None, expires)) => {
                    transaction.execute("UPDATE api_keys SET revoked = ?2 WHERE id = ?1", (id, now))?;
                    self.record(transaction, now, Kind::KeyRevoke, &json!({ "id": id }), expires)?;
                    Ok(Some(now))
                }
            }
        })
    }

    /// Notes when keys were last used. Not a change: it is a fact about this host, and not logged.
    pub fn touch_keys(&self, uses: &[(KeyId, UnixTime)]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            let mut update = transaction.prepare_cached(
                "UPDATE api_keys SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1",
            )?;
            for used in uses {
                update.execute(*used)?;
            }
            Ok(())
        })
    }
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
    })
}
