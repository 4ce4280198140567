//! A token issuer: a key and what it signs.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::{Value, json};

/// The issuer's name, as tokens carry it.
pub const ISSUER: &str = "https://issuer.test";
/// Whom its tokens are for.
pub const AUDIENCE: &str = "https://api.test";

/// Every algorithm that tokens may be signed with.
pub const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

/// An issuer with a key of its own.
pub struct Issuer {
    algorithm: Algorithm,
    key: EncodingKey,
    public: String,
}

impl Issuer {
    /// Makes one that signs with ES256.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn new() -> Result<Self> {
        let pair = KeyPair::generate()?;
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?;
        Ok(Self { algorithm: Algorithm::ES256, key, public: pair.public_key_pem() })
    }

    /// Makes one that signs with RS256, with a key of 2048 bits.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn rs256() -> Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?;
        Ok(Self { algorithm: Algorithm::RS256, key, public: pair.public_key_pem() })
    }

    /// The public key, PEM.
    pub fn public_key(&self) -> &str {
        &self.public
    }

    /// A token for `subject`, valid for `seconds` from now; a negative number makes it expired.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn token(&self, subject: &str, scope: &str, seconds: i64) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
        let issued = if seconds < 0 { now + seconds - 60 } else { now };
        self.sign(&json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "scope": scope,
            "iat": issued, "exp": now + seconds,
        }))
    }

    /// A token with exactly these claims.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_as(None, claims)
    }

    /// The same with a `kid`.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn sign_as(&self, id: Option<&str>, claims: &Value) -> Result<String> {
        let (kid, typ) = (id.map(str::to_owned), Some("at+jwt".to_owned()));
        let header = Header { kid, typ, ..Header::new(self.algorithm) };
        Ok(encode(&header, claims, &self.key)?)
    }

    /// The public key as a JWK of this `kid`.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn jwk(&self, id: &str) -> Result<Value> {
        let pem = self.public.as_bytes();
        let key = match self.algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem)?,
            _ => DecodingKey::from_ec_pem(pem)?,
        };
        let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&key, None)?)?;
        jwk["kid"] = json!(id);
        Ok(jwk)
    }
}
