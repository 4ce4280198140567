//! `/v1/keys`

mod checked;

pub(super) use self::checked::check_scopes;

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use http::StatusCode;
use http::request::Parts;
use ipnet::IpNet;
use serde::Deserialize;

use super::body::{Body, SecretBody};
use super::messages::{
    CreateKey, CreatedKey, ImportKeys, ImportedKeys, KeyEntry, Keys, RevokedKey, RotateKey, RotatedKey,
};
use super::problem::Problem;
use super::{Control, blocking, deadline};
use crate::api_key::{ApiKey, KeyId, StoredKey};
use crate::clock::UnixTime;
use crate::config::RateOverride;
use crate::store::NewKey;

/// Keys of a page that is not told how long it may be, and of the longest.
const PAGE: usize = 1_000;
const LONGEST_PAGE: usize = 10_000;

/// Keys of one import: what is imported together waits in memory together.
const IMPORT: usize = 100_000;

/// Time to bring a new key to all who use it.
const OVERLAP_SECONDS: u64 = 24 * 60 * 60;

/// Which part of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Self>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|error| Problem::field("query", error.body_text()))?;
        match query.limit {
            None | Some(1..=LONGEST_PAGE) => Ok(query),
            Some(_) => Err(Problem::field("limit", format!("write 1 to {LONGEST_PAGE}"))),
        }
    }
}

pub(super) async fn list(State(control): State<Arc<Control>>, page: Page) -> Result<Json<Keys>, Problem> {
    let after: Option<KeyId> = page.after.map(|id| id.parse()).transpose()?;
    let limit = page.limit.unwrap_or(PAGE);
    blocking(control, move |control| {
        let after = after.map(|id| find(control, id)).transpose()?;
        // One more, to see whether there is one.
        let mut keys = control.store.keys_after(after.as_ref(), limit + 1)?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next = keys.last().filter(|_| more).map(|key| key.id);
        Ok(Json(Keys { keys: keys.into_iter().map(|key| entry(control, key)).collect(), next }))
    })
    .await
}

pub(super) async fn show(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<KeyEntry>, Problem> {
    let id: KeyId = id.parse()?;
    blocking(control, move |control| Ok(Json(entry(control, find(control, id)?)))).await
}

pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Body(request): Body<CreateKey>,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    blocking(control, move |control| {
        let now = UnixTime::now();
        let _changing = control.changing();
        let key = ApiKey::generate()?;
        let stored = control.store.create_key(checked::created(request, &control.keys, &key, now)?, now)?;
        control.keys.insert(&stored);
        let created = CreatedKey { entry: entry(control, stored), key: key.expose().to_owned() };
        Ok((StatusCode::CREATED, Json(created)))
    })
    .await
}

pub(super) async fn import(
    State(control): State<Arc<Control>>,
    SecretBody(ImportKeys { keys }): SecretBody<ImportKeys>,
) -> Result<(StatusCode, Json<ImportedKeys>), Problem> {
    blocking(control, move |control| {
        if !(1..=IMPORT).contains(&keys.len()) {
            return Err(Problem::field("keys", format!("give 1 to {IMPORT} at a time")));
        }
        let now = UnixTime::now();
        let _changing = control.changing();
        let keys = checked::imported(keys, &control.keys, now)?;
        let stored = control.store.import_keys(keys, now)?;
        stored.iter().for_each(|key| control.keys.insert(key));
        Ok((StatusCode::CREATED, Json(ImportedKeys { imported: stored.len() })))
    })
    .await
}

pub(super) async fn rotate(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    Body(request): Body<RotateKey>,
) -> Result<(StatusCode, Json<RotatedKey>), Problem> {
    let id: KeyId = id.parse()?;
    blocking(control, move |control| {
        let now = UnixTime::now();
        let _changing = control.changing();
        let old = rotatable(find(control, id)?, now)?;
        let overlap = Some(request.overlap_seconds.unwrap_or(OVERLAP_SECONDS));
        let overlap_ends = deadline("overlap_seconds", overlap, now)?.unwrap_or(now);
        let lifetime = request.expires_in_seconds.or(lifetime(&old));
        let key = ApiKey::generate()?;
        let new = NewKey {
            created: None,
            expires: deadline("expires_in_seconds", lifetime, now)?,
            hash: control.keys.hash(&key),
            id: key.id(),
            name: old.name,
            networks: old.networks,
            note: old.note,
            owner: old.owner,
            rate: old.rate,
            scopes: old.scopes,
        };
        let rotated = control.store.rotate_key(id, new, overlap_ends, now)?;
        let (old, new) = rotated.ok_or(Problem::KeyMissing(id))?;
        control.keys.insert(&new);
        control.keys.insert(&old);
        let (entry, replaced) = (entry(control, new), entry(control, old));
        Ok((StatusCode::CREATED, Json(RotatedKey { entry, key: key.expose().to_owned(), replaced })))
    })
    .await
}

pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<RevokedKey>, Problem> {
    let id: KeyId = id.parse()?;
    blocking(control, move |control| {
        let ended = control.revoke_key(id, UnixTime::now())?.ended;
        let revoked = control.store.key_revoked(id)?.ok_or(Problem::KeyMissing(id))?;
        Ok(Json(RevokedKey { ended, id, revoked }))
    })
    .await
}

fn find(control: &Control, id: KeyId) -> Result<StoredKey, Problem> {
    control.store.key(id)?.ok_or(Problem::KeyMissing(id))
}

/// What has ended has no successor, and nothing has two.
fn rotatable(key: StoredKey, now: UnixTime) -> Result<StoredKey, Problem> {
    let ended = key.revoked.is_some() || key.expires.is_some_and(|expires| expires <= now);
    match key.replaced_by {
        Some(successor) => Err(Problem::KeyRotated { id: key.id, successor }),
        None if ended => Err(Problem::KeyEnded(key.id)),
        None => Ok(key),
    }
}

/// How long it was made for.
fn lifetime(key: &StoredKey) -> Option<u64> {
    key.expires.map(|expires| expires.0.saturating_sub(key.created.0).max(1))
}

fn entry(control: &Control, key: StoredKey) -> KeyEntry {
    let rate = key.rate.as_ref().map(RateOverride::from).unwrap_or_default();
    KeyEntry {
        burst: rate.burst,
        created: key.created,
        expires: key.expires,
        id: key.id,
        last_used: control.keys.last_used(key.id).max(key.last_used),
        name: key.name,
        networks: key.networks.iter().map(IpNet::to_string).collect(),
        note: key.note,
        owner: key.owner,
        rate: rate.rate,
        replaced_by: key.replaced_by,
        replaces: key.replaces,
        revoked: key.revoked,
        scopes: key.scopes,
    }
}
