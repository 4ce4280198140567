//! A token issuer: an ES256 key and what it signs.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use rcgen::KeyPair;
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
    key: EncodingKey,
    public: String,
}

impl Issuer {
    /// Makes one.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn new() -> Result<Self> {
        let pair = KeyPair::generate()?;
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?;
        Ok(Self { key, public: pair.public_key_pem() })
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
        let header = Header { kid, typ, ..Header::new(Algorithm::ES256) };
        Ok(encode(&header, claims, &self.key)?)
    }

    /// The public key as a JWK of this `kid`.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn jwk(&self, id: &str) -> Result<Value> {
        let key = DecodingKey::from_ec_pem(self.public.as_bytes())?;
        let mut jwk = serde_json::to_value(Jwk::from_decoding_key(&key, None)?)?;
        jwk["kid"] = json!(id);
        Ok(jwk)
    }
}
