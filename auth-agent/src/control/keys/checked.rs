//! What a new key may look like.

use std::collections::HashSet;

use super::super::messages::{CreateKey, ImportKey};
use super::super::problem::Problem;
use super::super::{deadline, remark};
use crate::api_key::{ApiKey, KeyRing};
use crate::clock::UnixTime;
use crate::config::{Rate, RateOverride};
use crate::network::parse_network;
use crate::store::NewKey;

/// It travels in a header to the upstream.
const NAME_BYTES: usize = 64;
const SCOPE_BYTES: usize = 128;
const SCOPES: usize = 64;
const NETWORKS: usize = 64;

/// The key that is asked for, as it is to be stored.
pub(super) fn created(
    request: CreateKey,
    ring: &KeyRing,
    key: &ApiKey,
    now: UnixTime,
) -> Result<NewKey, Problem> {
    let CreateKey { burst, expires_in_seconds, name, networks, note, owner, rate, scopes } = request;
    check_name(&name)?;
    check_scopes(&scopes)?;
    if networks.len() > NETWORKS {
        return Err(Problem::field("networks", format!("write at most {NETWORKS}")));
    }
    Ok(NewKey {
        created: None,
        expires: deadline("expires_in_seconds", expires_in_seconds, now)?,
        hash: ring.hash(key),
        id: key.id(),
        name,
        networks: networks.iter().map(|network| parse_network(network)).collect::<Result<_, _>>()?,
        note: remark("note", note)?,
        owner: remark("owner", owner)?,
        rate: own_rate(rate, burst)?,
        scopes,
    })
}

/// Keys that were made elsewhere. What is wrong is told by the key's place among them, from 1.
pub(super) fn imported(
    requests: Vec<ImportKey>,
    ring: &KeyRing,
    now: UnixTime,
) -> Result<Vec<NewKey>, Problem> {
    let mut ids = HashSet::with_capacity(requests.len());
    let numbered = (1..).zip(requests);
    let keys = numbered.map(|(number, request)| {
        let key = one_imported(request, ring, now).and_then(|key| match ids.insert(key.id) {
            true => Ok(key),
            false => Err(Problem::field("key", "take it out: another one has the same id")),
        });
        key.map_err(|problem| Problem::KeyImport { number, problem: Box::new(problem) })
    });
    keys.collect()
}

fn one_imported(request: ImportKey, ring: &KeyRing, now: UnixTime) -> Result<NewKey, Problem> {
    let key = ApiKey::parse(&request.key).map_err(|error| Problem::field("key", error.to_string()))?;
    let (made, expires) = (request.created, request.expires);
    if made.is_some_and(|made| made > now) {
        return Err(Problem::field("created", "write a time that has come, in seconds since 1970"));
    }
    if expires.is_some_and(|expires| expires <= now) {
        return Err(Problem::field("expires", "take the key out: it is past its expiry"));
    }
    let in_seconds = expires.map(|expires| expires.0 - now.0);
    deadline("expires", in_seconds, now)?;
    let rest = CreateKey {
        burst: request.burst,
        expires_in_seconds: None,
        name: request.name,
        networks: request.networks,
        note: request.note,
        owner: request.owner,
        rate: request.rate,
        scopes: request.scopes,
    };
    Ok(NewKey { created: made, expires, ..created(rest, ring, &key, now)? })
}

fn check_name(name: &str) -> Result<(), Problem> {
    if is_name(name) {
        return Ok(());
    }
    let cure = format!("write 1 to {NAME_BYTES} visible ASCII characters; spaces only between them");
    Err(Problem::field("name", cure))
}

pub(in crate::control) fn check_scopes(scopes: &[String]) -> Result<(), Problem> {
    if scopes.len() <= SCOPES && scopes.iter().all(|scope| is_scope(scope)) {
        return Ok(());
    }
    let cure = format!(
        "write at most {SCOPES}, each of 1 to {SCOPE_BYTES} visible ASCII characters without spaces, quotes and \
         backslashes"
    );
    Err(Problem::field("scopes", cure))
}

fn own_rate(rate: Option<String>, burst: Option<u32>) -> Result<Option<Rate>, Problem> {
    if rate.is_none() && burst.is_none() {
        return Ok(None);
    }
    let rate = RateOverride { burst, rate }.rate();
    rate.map(Some).map_err(|wrong| Problem::field("the key's own limit", wrong))
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
