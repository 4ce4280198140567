//! `/v1/keys`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use ipnet::IpNet;

use super::body::Body;
use super::messages::{CreateKey, CreatedKey, KeyEntry, Keys, RevokedKey};
use super::problem::Problem;
use super::{Control, blocking, deadline, remark};
use crate::api_key::{ApiKey, KeyId, StoredKey};
use crate::clock::UnixTime;
use crate::network::parse_network;
use crate::store::NewKey;

/// It travels in a header to the upstream.
const NAME_BYTES: usize = 64;
const SCOPE_BYTES: usize = 128;
const SCOPES: usize = 64;
const NETWORKS: usize = 64;

pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<Keys>, Problem> {
    blocking(control, |control| {
        let keys = control.store.keys()?;
        Ok(Json(Keys { keys: keys.into_iter().map(|key| entry(control, key)).collect() }))
    })
    .await
}

pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Body(request): Body<CreateKey>,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    blocking(control, move |control| {
        let now = UnixTime::now();
        let _changing = control.changing();
        let key = ApiKey::generate()?;
        let stored = control.store.create_key(checked(request, control, &key, now)?, now)?;
        control.keys.insert(&stored);
        let created = CreatedKey { entry: entry(control, stored), key: key.expose().to_owned() };
        Ok((StatusCode::CREATED, Json(created)))
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

fn entry(control: &Control, key: StoredKey) -> KeyEntry {
    KeyEntry {
        created: key.created,
        expires: key.expires,
        id: key.id,
        last_used: control.keys.last_used(&key.hash).max(key.last_used),
        name: key.name,
        networks: key.networks.iter().map(IpNet::to_string).collect(),
        note: key.note,
        revoked: key.revoked,
        scopes: key.scopes,
    }
}

fn checked(request: CreateKey, control: &Control, key: &ApiKey, now: UnixTime) -> Result<NewKey, Problem> {
    let CreateKey { expires_in_seconds, name, networks, note, scopes } = request;
    if !is_name(&name) {
        let cure = format!("write 1 to {NAME_BYTES} visible ASCII characters; spaces only between them");
        return Err(Problem::field("name", cure));
    }
    if scopes.len() > SCOPES || !scopes.iter().all(|scope| is_scope(scope)) {
        let cure = format!(
            "write at most {SCOPES}, each of 1 to {SCOPE_BYTES} visible ASCII characters without spaces, quotes \
             and backslashes"
        );
        return Err(Problem::field("scopes", cure));
    }
    if networks.len() > NETWORKS {
        return Err(Problem::field("networks", format!("write at most {NETWORKS}")));
    }
    Ok(NewKey {
        expires: deadline("expires_in_seconds", expires_in_seconds, now)?,
        hash: control.keys.hash(key),
        id: key.id(),
        name,
        networks: networks.iter().map(|network| parse_network(network)).collect::<Result<_, _>>()?,
        note: remark("note", note)?,
        scopes,
    })
}

/// What can stand in a header as it is.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && name.trim() == name
}

/// RFC 6749 section 3.3: scope-token.
fn is_scope(scope: &str) -> bool {
    (1..=SCOPE_BYTES).contains(&scope.len())
        && scope.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~'))
}
