//! API keys: `aak_<id>_<secret>_<check>`.
//!
//! The prefix lets secret scanners recognise a leaked key, the public id names it in lists, and the
//! check (CRC-32) lets scanners and the agent tell a typo from a key without looking anything up.
//! Only a keyed hash of the whole text is ever stored, and the text is shown once, when it is made.

mod browser;
mod pepper;
mod record;
mod ring;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::browser::has_browser_marks;
pub use self::pepper::{KeyHash, Pepper, PepperError};
pub use self::ring::{KeyRing, Uses};
use crate::clock::UnixTime;
use crate::config::Rate;

const PREFIX: &[u8] = b"aak_";
const ID_LENGTH: usize = 12;
/// 43 base62 digits carry 256 bits.
const SECRET_LENGTH: usize = 43;
/// 62^6 is above 2^32.
const CHECK_LENGTH: usize = 6;

const ID_END: usize = PREFIX.len() + ID_LENGTH;
const SECRET_START: usize = ID_END + 1;
const SECRET_END: usize = SECRET_START + SECRET_LENGTH;
const CHECK_START: usize = SECRET_END + 1;
const KEY_LENGTH: usize = CHECK_START + CHECK_LENGTH;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed API key. It neither prints nor logs its secret; [`ApiKey::expose`] does, once.
#[derive(Clone, Eq, PartialEq)]
pub struct ApiKey([u8; KEY_LENGTH]);

/// The text is not an API key: wrong length, characters or check.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an API key, or mistyped: a key has the form aak_<id>_<secret>_<check>")]
pub struct MalformedKey;

/// The system's random generator failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the system's random number generator failed: no secret was made, try again")]
pub struct RandomError;

impl ApiKey {
    /// What every key begins with.
    pub const PREFIX: &[u8] = PREFIX;

    /// A new key from the system's random generator.
    pub fn generate() -> Result<Self, RandomError> {
        let mut text = [b'_'; KEY_LENGTH];
        text[..PREFIX.len()].copy_from_slice(PREFIX);
        fill_base62(&mut text[PREFIX.len()..ID_END])?;
        fill_base62(&mut text[SECRET_START..SECRET_END])?;
        let check = check(&text);
        text[CHECK_START..].copy_from_slice(&check);
        Ok(Self(text))
    }

    /// Reads a key; exactly the form that [`ApiKey::generate`] makes, nothing around it.
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let text: [u8; KEY_LENGTH] = text.as_bytes().try_into().map_err(|_| MalformedKey)?;
        let well_formed = text.starts_with(PREFIX)
            && text[ID_END] == b'_'
            && text[SECRET_END] == b'_'
            && is_base62(&text[PREFIX.len()..ID_END])
            && is_base62(&text[SECRET_START..SECRET_END])
            && text[CHECK_START..] == check(&text);
        if well_formed { Ok(Self(text)) } else { Err(MalformedKey) }
    }

    /// The public part.
    pub fn id(&self) -> KeyId {
        let mut id = [0; ID_LENGTH];
        id.copy_from_slice(&self.0[PREFIX.len()..ID_END]);
        KeyId(id)
    }

    /// The whole key, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        ascii(&self.0)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({self})")
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aak_{}_...", self.id())
    }
}

/// The public part of a key: twelve base62 characters, safe to log.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId([u8; ID_LENGTH]);

/// The text is not the id of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a key id: it is the 12 letters and digits after \"aak_\", as `auth-agent key list` shows them")]
pub struct MalformedKeyId;

impl KeyId {
    /// As it is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = MalformedKeyId;

    fn from_str(text: &str) -> Result<Self, MalformedKeyId> {
        let id: [u8; ID_LENGTH] = text.as_bytes().try_into().map_err(|_| MalformedKeyId)?;
        if is_base62(&id) { Ok(Self(id)) } else { Err(MalformedKeyId) }
    }
}

impl TryFrom<String> for KeyId {
    type Error = MalformedKeyId;

    fn try_from(text: String) -> Result<Self, MalformedKeyId> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(ascii(&self.0))
    }
}

/// Everything the store keeps of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredKey {
    /// When it was made.
    pub created: UnixTime,
    /// The first second in which it is no longer valid.
    pub expires: Option<UnixTime>,
    /// Keyed hash of the whole text.
    pub hash: KeyHash,
    /// The public part.
    pub id: KeyId,
    /// When it was last accepted; written in batches, so some seconds old.
    pub last_used: Option<UnixTime>,
    /// The subject that the upstream sees.
    pub name: String,
    /// Client networks it may be used from; empty: any.
    pub networks: Vec<IpNet>,
    /// The operator's remark.
    pub note: Option<String>,
    /// Who answers for it: a person, a team.
    pub owner: Option<String>,
    /// How many requests it may be used for; `None`: only the limits of its source hold.
    pub rate: Option<Rate>,
    /// The key that was made in its place.
    pub replaced_by: Option<KeyId>,
    /// The key in whose place it was made.
    pub replaces: Option<KeyId>,
    /// When it was revoked.
    pub revoked: Option<UnixTime>,
    /// What it may do.
    pub scopes: Vec<String>,
}

impl StoredKey {
    /// A key with nothing but a name, made at `created`.
    pub fn new(id: KeyId, hash: KeyHash, name: String, created: UnixTime) -> Self {
        Self {
            created,
            expires: None,
            hash,
            id,
            last_used: None,
            name,
            networks: Vec::new(),
            note: None,
            owner: None,
            rate: None,
            replaced_by: None,
            replaces: None,
            revoked: None,
            scopes: Vec::new(),
        }
    }
}

fn is_base62(text: &[u8]) -> bool {
    // Without a branch for each byte, which makes it several times as fast.
    text.iter().fold(true, |all, byte| all & byte.is_ascii_alphanumeric())
}

/// CRC-32 of all before the last underscore, as base62 digits, most significant first.
fn check(text: &[u8; KEY_LENGTH]) -> [u8; CHECK_LENGTH] {
    let mut rest = crc32fast::hash(&text[..SECRET_END]);
    let mut digits = [b'0'; CHECK_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

fn fill_base62(digits: &mut [u8]) -> Result<(), RandomError> {
    // The largest multiple of 62 in a byte: what lies above would favour the first digits.
    const UNBIASED: u8 = 248;
    let mut random = [0; 64];
    let mut at = random.len();
    for digit in digits {
        *digit = loop {
            if at == random.len() {
                rand::fill(&mut random).map_err(|_| RandomError)?;
                at = 0;
            }
            let byte = random[at];
            at += 1;
            if byte < UNBIASED {
                break BASE62[usize::from(byte % 62)];
            }
        };
    }
    Ok(())
}

/// Both callers hold ASCII only, by construction.
fn ascii(text: &[u8]) -> &str {
    str::from_utf8(text).unwrap_or_default()
}
