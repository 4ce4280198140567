//! What a revocation is of, and the mark by which it is found.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::api_key::KeyId;
use crate::identity::{Facts, TokenHash};

/// What is revoked. An issuer is named as in the configuration.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Target {
    /// Tokens that were issued to a client, by this issuer or by any.
    Client {
        /// The client's id.
        client: String,
        /// The issuer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
    },
    /// Everything from an issuer.
    Issuer {
        /// The issuer.
        issuer: String,
    },
    /// An API key, and the tokens that were got for it.
    Key {
        /// Its public part.
        key: KeyId,
    },
    /// Tokens of a subject, by this issuer or by any; of any, API keys of that name too.
    Subject {
        /// The issuer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issuer: Option<String>,
        /// The subject.
        subject: String,
    },
    /// One token.
    Token {
        /// SHA-256 of what is signed of it.
        token: TokenHash,
    },
    /// The token of an issuer that has this `jti`.
    TokenId {
        /// The issuer.
        issuer: String,
        /// The `jti`.
        token_id: String,
    },
}

impl Target {
    /// How it is found.
    pub fn mark(&self) -> (Kind, Mark) {
        match self {
            Self::Client { client, issuer: None } => Kind::Client.mark("", client),
            Self::Client { client, issuer: Some(issuer) } => Kind::ClientOfIssuer.mark(issuer, client),
            Self::Issuer { issuer } => Kind::Issuer.mark(issuer, ""),
            Self::Key { key } => Kind::Key.mark("", &key.to_string()),
            Self::Subject { issuer: None, subject } => Kind::Subject.mark("", subject),
            Self::Subject { issuer: Some(issuer), subject } => Kind::SubjectOfIssuer.mark(issuer, subject),
            Self::Token { token } => Kind::Token.mark("", &token.to_string()),
            Self::TokenId { issuer, token_id } => Kind::TokenId.mark(issuer, token_id),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { client, issuer: None } => write!(formatter, "client {client}"),
            Self::Client { client, issuer: Some(issuer) } => write!(formatter, "client {client} of {issuer}"),
            Self::Issuer { issuer } => write!(formatter, "issuer {issuer}"),
            Self::Key { key } => write!(formatter, "key {key}"),
            Self::Subject { issuer: None, subject } => write!(formatter, "subject {subject}"),
            Self::Subject { issuer: Some(issuer), subject } => {
                write!(formatter, "subject {subject} of {issuer}")
            }
            Self::Token { token } => write!(formatter, "token {token}"),
            Self::TokenId { issuer, token_id } => write!(formatter, "token {token_id} of {issuer}"),
        }
    }
}

/// How many kinds there are.
pub(super) const KINDS: usize = 8;

/// What a mark is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// [`Target::Client`] of any issuer.
    Client,
    /// [`Target::Client`] of one issuer.
    ClientOfIssuer,
    /// [`Target::Issuer`].
    Issuer,
    /// [`Target::Key`].
    Key,
    /// [`Target::Subject`] of any issuer.
    Subject,
    /// [`Target::Subject`] of one issuer.
    SubjectOfIssuer,
    /// [`Target::Token`].
    Token,
    /// [`Target::TokenId`].
    TokenId,
}

impl Kind {
    pub(super) const ALL: [Self; KINDS] = [
        Self::Client,
        Self::ClientOfIssuer,
        Self::Issuer,
        Self::Key,
        Self::Subject,
        Self::SubjectOfIssuer,
        Self::Token,
        Self::TokenId,
    ];

    fn mark(self, issuer: &str, value: &str) -> (Self, Mark) {
        let mut context = Context::new(&SHA256);
        context.update(&[self as u8]);
        // With its length: no two pairs make one text.
        context.update(&(issuer.len() as u64).to_be_bytes());
        context.update(issuer.as_bytes());
        context.update(value.as_bytes());
        let mut mark = [0; 16];
        mark.copy_from_slice(&context.finish().as_ref()[..16]);
        (self, Mark(u128::from_be_bytes(mark) & !KIND_BITS | self as u128))
    }
}

const KIND_BITS: u128 = KINDS as u128 - 1;

/// 125 bits of SHA-256, and the kind in the last three: nobody can choose a name that has another's mark.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Mark(pub(super) u128);

impl Mark {
    /// As 16 bytes, for the store.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// What it is of.
    pub fn kind(self) -> Kind {
        Kind::ALL[(self.0 & KIND_BITS) as usize]
    }

    /// The shard it belongs to, of a power of two: by other bits than those that choose the slot there.
    pub(super) fn shard(self, shards: usize) -> usize {
        (self.0 >> 64) as usize & (shards - 1)
    }
}

impl From<[u8; 16]> for Mark {
    fn from(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The text is not the id of a revocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not the id of a revocation: it is 32 hexadecimal digits, as `auth-agent revocation list` shows them"
)]
pub struct MalformedMark;

impl std::str::FromStr for Mark {
    type Err = MalformedMark;

    fn from_str(text: &str) -> Result<Self, MalformedMark> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(MalformedMark)
    }
}

/// Every mark by which a credential may be revoked; 0 where it has none of the kind, which is no mark that anything has.
#[derive(Clone, Debug)]
pub struct Marks([u128; KINDS]);

impl Marks {
    /// The marks of a credential that says this.
    pub fn new(facts: &Facts) -> Self {
        let mut marks = [0; KINDS];
        let mut add = |(kind, mark): (Kind, Mark)| marks[kind as usize] = mark.0;
        add(Kind::Subject.mark("", &facts.subject));
        if let Some(client) = &facts.client {
            add(Kind::Client.mark("", client));
        }
        if let Some(key) = facts.key {
            add(Target::Key { key }.mark());
        }
        if let Some(token) = facts.token {
            add(Target::Token { token }.mark());
        }
        if let Some(issuer) = &facts.issuer {
            add(Kind::Issuer.mark(issuer, ""));
            add(Kind::SubjectOfIssuer.mark(issuer, &facts.subject));
            if let Some(client) = &facts.client {
                add(Kind::ClientOfIssuer.mark(issuer, client));
            }
            if let Some(token_id) = &facts.token_id {
                add(Kind::TokenId.mark(issuer, token_id));
            }
        }
        Self(marks)
    }

    pub(super) fn of(&self, kind: Kind) -> Option<Mark> {
        Some(Mark(self.0[kind as usize])).filter(|mark| mark.0 != 0)
    }
}
