//! Why a key file can't be used, and what to do about it.

use std::io;
use std::sync::Arc;

use jsonwebtoken::Algorithm;

use crate::config;
use crate::token::json::JsonError;

/// A key file that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("issuer `{issuer}`: keys `{keys}`: {fault}")]
pub struct KeyError {
    fault: KeyFault,
    issuer: Arc<str>,
    keys: String,
}

impl KeyError {
    pub(in crate::token) fn new(issuer: &config::Issuer, fault: KeyFault) -> Self {
        Self { fault, issuer: Arc::clone(&issuer.name), keys: issuer.keys.to_string() }
    }

    /// What is wrong.
    pub fn fault(&self) -> &KeyFault {
        &self.fault
    }
}

/// What is wrong with a key file. `key` names a key by its `kid` or its place in the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// Several of the issuer's algorithms fit the key.
    #[error(
        "{key} fits {}; name one in the key's `alg` (JWK), or leave one in the issuer's `algorithms`",
        names(fitting)
    )]
    AlgorithmAmbiguous {
        /// The algorithms that fit.
        fitting: Vec<Algorithm>,
        /// The key.
        key: String,
    },
    /// The key's `alg` does not go with its type or curve.
    #[error("{key}: its `alg` {algorithm} does not go with its type; correct the key's `alg`")]
    AlgorithmMismatch {
        /// The key's `alg`.
        algorithm: String,
        /// The key.
        key: String,
    },
    /// None of the issuer's algorithms fits the key, or not the one it names.
    #[error(
        "{key} is for {wanted}, and the issuer's `algorithms` has none of these; add it there, or remove the key"
    )]
    AlgorithmNotAllowed {
        /// The key.
        key: String,
        /// The algorithms it could be used with.
        wanted: String,
    },
    /// An X.509 certificate.
    #[error("this is a certificate; take the public key out of it: `openssl x509 -in FILE -pubkey -noout`")]
    Certificate,
    /// Not a key file at all.
    #[error(
        "not a PEM public key, JWK or JWKS file; convert it with `openssl pkey -pubin -pubout`, or give raw \
         secret bytes to an issuer whose `algorithms` is one HS algorithm"
    )]
    Format,
    /// Numbers that make no key.
    #[error(
        "{key} is not a valid key (a point off its curve, a wrong length, a bad exponent, or not base64url)"
    )]
    Invalid {
        /// The key.
        key: String,
    },
    /// Two issuers with one `iss`.
    #[error("issuer `{other}` has the same `issuer` value; merge the two, or correct one")]
    IssuerTwice {
        /// The other issuer's name.
        other: Arc<str>,
    },
    /// No issuer of that name is configured.
    #[error("there is no such issuer in the configuration; add an [[issuer]], or correct the name")]
    IssuerUnknown,
    /// JSON that can be read in two ways, or not at all.
    #[error("{0}; a JWK or JWKS file is one JSON object with each member once")]
    Json(String),
    /// Several keys, and one without a `kid`.
    #[error("a key in a set of several has no `kid`; give each key its own")]
    KeyIdMissing,
    /// Two keys with one `kid`.
    #[error("two keys have the `kid` {id:?}; remove one")]
    KeyIdTwice {
        /// The `kid`.
        id: String,
    },
    /// A set without a key that can verify.
    #[error("no usable key{}; a JWKS needs at least one that may verify", because(skipped))]
    NoUsableKey {
        /// Why each key was skipped.
        skipped: Vec<String>,
    },
    /// A published set that is something else.
    #[error("not a JWK set, which is a JSON object with an array `keys`; check the address")]
    NotASet,
    /// `use` or `key_ops` does not include verifying.
    #[error(
        "{key} is not meant for verifying signatures (`use` or `key_ops`); give the issuer's signing key"
    )]
    NotForVerifying {
        /// The key.
        key: String,
    },
    /// A private key where a public one belongs.
    #[error(
        "{key} is a private key, which does not belong here; give the public half: `openssl pkey -in FILE -pubout`"
    )]
    Private {
        /// The key.
        key: String,
    },
    /// A raw secret that ends in a newline, as an editor would leave it.
    #[error("the secret ends in a newline; remove it (`printf %s`), or give the secret as a JWK")]
    SecretNewline,
    /// A shared secret that anyone can read.
    #[error("{key} is a shared secret (`oct`), which is none once it is published; publish public keys only")]
    SecretPublished {
        /// The key.
        key: String,
    },
    /// A secret that is shorter than the hash.
    #[error("{key} has {bytes} bytes; {algorithm:?} needs at least {minimum}")]
    SecretShort {
        /// The algorithm.
        algorithm: Algorithm,
        /// Bytes of the secret.
        bytes: usize,
        /// The key.
        key: String,
        /// Bytes needed.
        minimum: usize,
    },
    /// More than one PEM section.
    #[error("{sections} PEM sections; keep one, or use a JWKS file for several keys")]
    SeveralSections {
        /// How many.
        sections: usize,
    },
    /// Far longer than a key file.
    #[error("longer than {limit} bytes, which no key file is; check the path")]
    TooLong {
        /// Bytes allowed.
        limit: u64,
    },
    /// More keys than an issuer has.
    #[error("more than {limit} keys, which no issuer has; check the address")]
    TooMany {
        /// Keys allowed.
        limit: usize,
    },
    /// Can't be read.
    #[error("can't be read: {0}; check the path and its permissions")]
    Unreadable(io::Error),
    /// A key type or curve that no supported algorithm uses.
    #[error(
        "{key} has an unsupported type, curve or `alg`, or lacks a member; use RSA, EC P-256 or P-384, Ed25519, or oct"
    )]
    Unsupported {
        /// The key.
        key: String,
    },
    /// RSA below 2048 or above 8192 bits.
    #[error("{key} is an RSA key of {bits} bits; 2048 to 8192 are accepted")]
    WeakRsa {
        /// Bits of the modulus.
        bits: usize,
        /// The key.
        key: String,
    },
}

impl KeyFault {
    /// Whether a set may hold such a key beside good ones: RFC 7517 5 wants it ignored. The other faults
    /// are mistakes, and a file with a mistake in it is refused.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(
            self,
            Self::AlgorithmNotAllowed { .. } | Self::NotForVerifying { .. } | Self::Unsupported { .. }
        )
    }
}

impl From<JsonError> for KeyFault {
    fn from(error: JsonError) -> Self {
        Self::Json(error.to_string())
    }
}

pub(super) fn names(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect::<Vec<_>>().join(", ")
}

fn because(skipped: &[String]) -> String {
    if skipped.is_empty() { String::new() } else { format!(": {}", skipped.join("; ")) }
}
