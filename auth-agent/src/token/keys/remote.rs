//! Key sets that an issuer publishes: public keys only, and one bad key doesn't take the good ones away.
//!
//! Whoever publishes the set is not who runs this host, and may add keys for others at any time. So what would be a
//! mistake in a file is left out here, with its reason, as long as one key can be used.

use serde_json::{Map, Value};

use super::file::{jwk_key, name};
use super::{Key, KeyFault, KeySet};
use crate::config;
use crate::token::json::Object;

/// Keys in a published set; real ones hold a handful.
const MAX_KEYS: usize = 100;

/// Reads a JWK set (RFC 7517 5).
pub(super) fn parse(bytes: &[u8], issuer: &config::Issuer) -> Result<KeySet, KeyFault> {
    let Some(Value::Array(members)) = Map::from(Object::parse(bytes)?).remove("keys") else {
        return Err(KeyFault::NotASet);
    };
    if members.len() > MAX_KEYS {
        return Err(KeyFault::TooMany { limit: MAX_KEYS });
    }
    let mut set = KeySet { keys: Vec::with_capacity(members.len()), skipped: Vec::new() };
    for (place, member) in (1..).zip(members) {
        match key(member, place, issuer).and_then(|key| other_id(&set.keys, key)) {
            Ok(key) => set.keys.push(key),
            Err(fault) => set.skipped.push(fault.to_string()),
        }
    }
    if set.keys.len() > 1 {
        let usable = set.keys.len();
        set.keys.retain(|key| key.id.is_some());
        set.skipped.extend((set.keys.len()..usable).map(|_| KeyFault::KeyIdMissing.to_string()));
    }
    if set.keys.is_empty() { Err(KeyFault::NoUsableKey { skipped: set.skipped }) } else { Ok(set) }
}

fn key(member: Value, place: usize, issuer: &config::Issuer) -> Result<Key, KeyFault> {
    let Value::Object(members) = member else {
        return Err(KeyFault::Unsupported { key: name(&Map::new(), place) });
    };
    if members.get("kty").and_then(Value::as_str) == Some("oct") {
        return Err(KeyFault::SecretPublished { key: name(&members, place) });
    }
    jwk_key(members, place, issuer)
}

/// A token picks its key by `kid`: one that can't be told from another is not used.
fn other_id(keys: &[Key], key: Key) -> Result<Key, KeyFault> {
    match &key.id {
        Some(id) if keys.iter().any(|other| other.id.as_ref() == Some(id)) => {
            Err(KeyFault::KeyIdTwice { id: id.to_string() })
        }
        _ => Ok(key),
    }
}
