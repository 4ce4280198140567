//! Signing keys in the store; their private halves sealed.

use rusqlite::Transaction;
use serde_json::{Value, json};

use super::changes::Kind;
use super::{Problem, Store, StoreError};
use crate::clock::UnixTime;

/// What a key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyPurpose {
    /// Tokens that tell upstreams who sent a request.
    Internal,
    /// Tokens of the built-in issuer.
    Issuer,
}

impl KeyPurpose {
    fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Issuer => "issuer",
        }
    }
}

/// A signing key as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredSigningKey {
    /// `ES256` or `EdDSA`.
    pub algorithm: String,
    /// When it was made.
    pub created: UnixTime,
    /// Its thumbprint (RFC 7638).
    pub kid: String,
    /// What it signs.
    pub purpose: KeyPurpose,
    /// The private key, sealed.
    pub sealed: Vec<u8>,
    /// The first second in which it signs.
    pub signs_from: UnixTime,
}

impl Store {
    /// Stores a key, or an earlier time from which it signs.
    pub fn put_signing_key(&self, key: &StoredSigningKey, now: UnixTime) -> Result<(), StoreError> {
        self.write(|transaction| self.put_one(transaction, key, now))
    }

    /// Forgets all keys of its purpose and stores this one, or does nothing.
    pub fn replace_signing_keys(&self, key: &StoredSigningKey, now: UnixTime) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut gone =
                transaction.prepare("DELETE FROM signing_keys WHERE purpose = ?1 RETURNING kid")?;
            for kid in gone.query_map([key.purpose.name()], |row| row.get::<_, String>(0))? {
                self.record(transaction, now, Kind::SigningKeyRemove, &json!({ "kid": kid? }), Some(now))?;
            }
            self.put_one(transaction, key, now)
        })
    }

    fn put_one(
        &self,
        transaction: &Transaction<'_>,
        key: &StoredSigningKey,
        now: UnixTime,
    ) -> Result<(), Problem> {
        transaction.execute(
            "INSERT INTO signing_keys (kid, algorithm, sealed, created, signs_from, purpose)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (kid) DO UPDATE SET signs_from = excluded.signs_from",
            (&key.kid, &key.algorithm, &key.sealed, key.created, key.signs_from, key.purpose.name()),
        )?;
        let payload = json!({ "kid": key.kid, "algorithm": key.algorithm, "signs_from": key.signs_from });
        self.record(transaction, now, Kind::SigningKeyPut, &payload, None)
    }

    /// Forgets a key.
    pub fn remove_signing_key(&self, kid: &str, now: UnixTime) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM signing_keys WHERE kid = ?1", [kid])?;
            self.record(transaction, now, Kind::SigningKeyRemove, &json!({ "kid": kid }), Some(now))
        })
    }

    /// All keys of a purpose, in the order in which they sign.
    pub fn signing_keys(&self, purpose: KeyPurpose) -> Result<Vec<StoredSigningKey>, StoreError> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT kid, algorithm, sealed, created, signs_from FROM signing_keys WHERE purpose = ?1
                 ORDER BY signs_from, seq",
            )?;
            let rows = query.query_map([purpose.name()], |row| {
                Ok(StoredSigningKey {
                    kid: row.get(0)?,
                    purpose,
                    algorithm: row.get(1)?,
                    sealed: row.get(2)?,
                    created: row.get(3)?,
                    signs_from: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Notes that a token was issued by hand: what it says, not the token.
    pub fn note_issued_token(
        &self,
        claims: &Value,
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.write(|transaction| self.record(transaction, now, Kind::TokenIssue, claims, Some(expires)))
    }
}
