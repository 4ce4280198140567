//! Key files: one PEM public key, a JWK, a JWKS, or the raw bytes of an HMAC secret.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};

use super::pin::pin;
use super::{Key, KeyFault, KeySet};
use crate::config;
use crate::token::json;

/// Bytes of a key file: a JWKS of a hundred keys with certificate chains stays below.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Members of a JWK that only a private key has (RFC 7518 6.2.2, 6.3.2).
const PRIVATE_MEMBERS: [&str; 7] = ["d", "dp", "dq", "oth", "p", "q", "qi"];

/// Reads a key file.
///
/// # Errors
/// It can't be read, or is far longer than a key file. It blocks.
pub fn read(path: &Path) -> Result<Vec<u8>, KeyFault> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(KeyFault::Unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(KeyFault::TooLong { limit: MAX_FILE_BYTES });
    }
    Ok(bytes)
}

/// At least one key. What a file is, is seen from its start, and never depends on what fails to parse: a
/// broken PEM or JWK file must not end up as a secret that anyone can read.
pub(super) fn parse(bytes: &[u8], issuer: &config::Issuer) -> Result<KeySet, KeyFault> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.trim_start().starts_with('{') => json_keys(text, issuer),
        Ok(text) if text.contains("-----BEGIN ") => Ok(sole(pem_key(text, issuer)?)),
        _ => Ok(sole(secret_key(bytes, issuer)?)),
    }
}

fn sole(key: Key) -> KeySet {
    KeySet { keys: vec![key], skipped: Vec::new() }
}

fn json_keys(text: &str, issuer: &config::Issuer) -> Result<KeySet, KeyFault> {
    let mut object = json::object(text.as_bytes())?;
    match object.remove("keys") {
        None => Ok(sole(jwk_key(object, 1, issuer)?)),
        Some(Value::Array(members)) => key_set(members, issuer),
        Some(_) => Err(KeyFault::Format),
    }
}

fn key_set(members: Vec<Value>, issuer: &config::Issuer) -> Result<KeySet, KeyFault> {
    let mut keys = Vec::with_capacity(members.len());
    let mut skipped = Vec::new();
    for (index, member) in members.into_iter().enumerate() {
        let Value::Object(member) = member else { return Err(KeyFault::Format) };
        match jwk_key(member, index + 1, issuer) {
            Ok(key) => keys.push(key),
            Err(fault) if fault.is_foreign() => skipped.push(fault.to_string()),
            Err(fault) => return Err(fault),
        }
    }
    if keys.is_empty() {
        return Err(KeyFault::NoUsableKey { skipped });
    }
    Ok(KeySet { keys, skipped })
}

/// For messages: the key's `kid`, or its place in the set, from 1.
pub(super) fn name(members: &Map<String, Value>, place: usize) -> String {
    match members.get("kid") {
        Some(Value::String(id)) => format!("key {id:?}"),
        _ => format!("key {place}"),
    }
}

pub(super) fn jwk_key(
    members: Map<String, Value>,
    place: usize,
    issuer: &config::Issuer,
) -> Result<Key, KeyFault> {
    let name = name(&members, place);
    // An `oct` key has none of these, and is secret by nature.
    if PRIVATE_MEMBERS.iter().any(|member| members.contains_key(*member)) {
        return Err(KeyFault::Private { key: name });
    }
    let Ok(jwk) = serde_json::from_value::<Jwk>(Value::Object(members)) else {
        return Err(KeyFault::Unsupported { key: name });
    };
    if !may_verify(&jwk) {
        return Err(KeyFault::NotForVerifying { key: name });
    }
    pin(name, &jwk, &issuer.algorithms)
}

/// RFC 7517 4.2, 4.3: both are optional, and what is there binds.
fn may_verify(jwk: &Jwk) -> bool {
    let usage = jwk.common.public_key_use.as_ref();
    let operations = jwk.common.key_operations.as_ref();
    usage.is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

fn pem_key(text: &str, issuer: &config::Issuer) -> Result<Key, KeyFault> {
    const NAME: &str = "the PEM key";
    let labels: Vec<&str> = text
        .split("-----BEGIN ")
        .skip(1)
        .map(|section| section.split_once("-----").map_or("", |(label, _)| label))
        .collect();
    if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) {
        return Err(KeyFault::Private { key: NAME.into() });
    }
    // `jsonwebtoken` takes certificates too, but guesses the key's type from the first algorithm it meets,
    // which may be the signature's.
    if labels.iter().any(|label| label.ends_with("CERTIFICATE")) {
        return Err(KeyFault::Certificate);
    }
    let pem = text.as_bytes();
    let decoding = match labels.as_slice() {
        ["RSA PUBLIC KEY"] => DecodingKey::from_rsa_pem(pem),
        ["PUBLIC KEY"] => DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem)),
        [_] => return Err(KeyFault::Format),
        _ => return Err(KeyFault::SeveralSections { sections: labels.len() }),
    };
    let unsupported = |_| KeyFault::Unsupported { key: NAME.into() };
    let jwk = Jwk::from_decoding_key(&decoding.map_err(unsupported)?, None).map_err(unsupported)?;
    pin(NAME.into(), &jwk, &issuer.algorithms)
}

/// Only for an issuer with nothing but one HS algorithm: where a public key could be meant, the bytes of
/// one must never become a secret.
fn secret_key(bytes: &[u8], issuer: &config::Issuer) -> Result<Key, KeyFault> {
    match issuer.algorithms.as_slice() {
        [algorithm] if AlgorithmFamily::Hmac.algorithms().contains(algorithm) => {}
        _ => return Err(KeyFault::Format),
    }
    if bytes.ends_with(b"\n") {
        return Err(KeyFault::SecretNewline);
    }
    let jwk = Jwk::from_decoding_key(&DecodingKey::from_secret(bytes), None).map_err(|_| KeyFault::Format)?;
    pin("the secret".into(), &jwk, &issuer.algorithms)
}
