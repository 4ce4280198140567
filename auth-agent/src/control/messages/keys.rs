//! Requests and answers about API keys.

use serde::{Deserialize, Serialize};

use super::Ended;
use crate::api_key::KeyId;
use crate::clock::UnixTime;

/// `POST /v1/keys`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// Requests at once; absent: the number in the rate.
    #[serde(default)]
    pub burst: Option<u32>,
    /// How long it is valid; absent: until it is revoked.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
    /// The subject that the upstream sees.
    pub name: String,
    /// Client networks it may be used from; empty: any.
    #[serde(default)]
    pub networks: Vec<String>,
    /// A remark.
    #[serde(default)]
    pub note: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
    /// How many requests it may be used for, like `100/min`; absent: only the limits of its source hold.
    #[serde(default)]
    pub rate: Option<String>,
    /// What it may do.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// The answer to [`CreateKey`]: the only time the key itself is shown.
#[derive(Deserialize, Serialize)]
pub struct CreatedKey {
    /// As it will be listed.
    #[serde(flatten)]
    pub entry: KeyEntry,
    /// The key.
    pub key: String,
}

/// `POST /v1/keys/{id}/rotate`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the new one is valid; absent: as long as the old one was made for.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
    /// How long the old one stays valid, unless it ends before; absent: a day.
    #[serde(default)]
    pub overlap_seconds: Option<u64>,
}

/// The answer to [`RotateKey`]: the only time the new key itself is shown.
#[derive(Deserialize, Serialize)]
pub struct RotatedKey {
    /// The new key, as it will be listed.
    #[serde(flatten)]
    pub entry: KeyEntry,
    /// The new key.
    pub key: String,
    /// The old one, as it is listed now.
    pub replaced: KeyEntry,
}

/// `POST /v1/keys/import`: keys that were made elsewhere, all of them or none.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportKeys {
    /// The keys.
    pub keys: Vec<ImportKey>,
}

/// A key that was made elsewhere; a line of the file that `auth-agent key import` reads.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportKey {
    /// Requests at once; absent: the number in the rate.
    #[serde(default)]
    pub burst: Option<u32>,
    /// When it was made; absent: now.
    #[serde(default)]
    pub created: Option<UnixTime>,
    /// The first second in which it is no longer valid; absent: until it is revoked.
    #[serde(default)]
    pub expires: Option<UnixTime>,
    /// The whole key.
    pub key: String,
    /// The subject that the upstream sees.
    pub name: String,
    /// Client networks it may be used from; empty: any.
    #[serde(default)]
    pub networks: Vec<String>,
    /// A remark.
    #[serde(default)]
    pub note: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
    /// How many requests it may be used for, like `100/min`.
    #[serde(default)]
    pub rate: Option<String>,
    /// What it may do.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// The answer to [`ImportKeys`].
#[derive(Debug, Deserialize, Serialize)]
pub struct ImportedKeys {
    /// How many keys are valid now that were not known before.
    pub imported: usize,
}

/// `GET /v1/keys`, a page of it; with `after=ID` the next one. `limit=N` says how many keys a page has at most.
#[derive(Debug, Deserialize, Serialize)]
pub struct Keys {
    /// Oldest first.
    pub keys: Vec<KeyEntry>,
    /// Where there are more: what the next page comes `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<KeyId>,
}

/// One API key; `GET /v1/keys/{id}`.
#[derive(Debug, Deserialize, Serialize)]
pub struct KeyEntry {
    /// Requests at once.
    pub burst: Option<u32>,
    /// When it was made.
    pub created: UnixTime,
    /// The first second in which it is no longer valid.
    pub expires: Option<UnixTime>,
    /// The public part.
    pub id: KeyId,
    /// When it was last accepted.
    pub last_used: Option<UnixTime>,
    /// The subject that the upstream sees.
    pub name: String,
    /// Client networks it may be used from; empty: any.
    pub networks: Vec<String>,
    /// The operator's remark.
    pub note: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// How many requests it may be used for.
    pub rate: Option<String>,
    /// The key that was made in its place.
    pub replaced_by: Option<KeyId>,
    /// The key in whose place it was made.
    pub replaces: Option<KeyId>,
    /// When it was revoked.
    pub revoked: Option<UnixTime>,
    /// What it may do.
    pub scopes: Vec<String>,
}

/// The answer to `POST /v1/keys/{id}/revoke`
#[derive(Debug, Deserialize, Serialize)]
pub struct RevokedKey {
    /// What it ended.
    pub ended: Ended,
    /// Which key.
    pub id: KeyId,
    /// Since when it is refused.
    pub revoked: UnixTime,
}
