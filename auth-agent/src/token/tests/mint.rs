//! Makes keys, issuers and tokens, the good and the bad.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, crypto};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::clock::UnixTime;
use crate::config;
use crate::token::{TokenError, VerifiedClaims, Verifier};

pub const NOW: UnixTime = UnixTime(1_800_000_000);
pub const LEEWAY: u64 = 5;
pub const MAX_LIFETIME: u64 = 3600;
pub const MAX_BYTES: usize = 8192;
pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "https://api.example";

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

/// One key pair per type, made once for the whole test run.
static RSA: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
static P256: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
static P384: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
static ED25519: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_ED25519).unwrap());

pub const SECRET: [u8; 64] = *b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Signs with one algorithm.
pub struct Signer {
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    /// The public half as PEM; empty for HMAC.
    pub pem: String,
}

impl Signer {
    /// With the test run's own key of that type.
    pub fn of(algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::ES256 => &P256,
            Algorithm::ES384 => &P384,
            Algorithm::EdDSA => &ED25519,
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => return Self::hmac(algorithm, &SECRET),
            _ => &RSA,
        };
        Self::with(algorithm, pair)
    }

    /// With a new P-256 key.
    pub fn stranger() -> Self {
        Self::with(Algorithm::ES256, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    pub fn hmac(algorithm: Algorithm, secret: &[u8]) -> Self {
        Self { algorithm, key: EncodingKey::from_secret(secret), pem: String::new() }
    }

    fn with(algorithm: Algorithm, pair: &KeyPair) -> Self {
        let private = pair.serialize_pem();
        let key = match family(algorithm) {
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(private.as_bytes()),
            AlgorithmFamily::Ed => EncodingKey::from_ed_pem(private.as_bytes()),
            _ => EncodingKey::from_rsa_pem(private.as_bytes()),
        };
        Self { algorithm, key: key.unwrap(), pem: pair.public_key_pem() }
    }

    pub fn private_pem(&self) -> String {
        match self.algorithm {
            Algorithm::ES256 => P256.serialize_pem(),
            Algorithm::EdDSA => ED25519.serialize_pem(),
            _ => RSA.serialize_pem(),
        }
    }

    /// The public half (or the secret) as a JWK with no more than its type and numbers.
    pub fn jwk(&self) -> Value {
        let pem = self.pem.as_bytes();
        let key = match family(self.algorithm) {
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem).unwrap(),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(pem).unwrap(),
            AlgorithmFamily::Hmac => DecodingKey::from_secret(self.key.as_bytes()),
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem).unwrap(),
        };
        serde_json::to_value(Jwk::from_decoding_key(&key, None).unwrap()).unwrap()
    }

    /// The JWK with more members.
    pub fn jwk_with(&self, members: Value) -> Value {
        merged(self.jwk(), members)
    }

    /// A signed token of these JSON texts.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = crypto::sign(signed.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    /// A token with a usual header and these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&header(self.algorithm), &claims.to_string())
    }
}

pub fn family(algorithm: Algorithm) -> AlgorithmFamily {
    [AlgorithmFamily::Ec, AlgorithmFamily::Ed, AlgorithmFamily::Hmac, AlgorithmFamily::Rsa]
        .into_iter()
        .find(|family| family.algorithms().contains(&algorithm))
        .unwrap()
}

pub fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

pub fn header(algorithm: Algorithm) -> String {
    json!({"alg": algorithm, "typ": "at+jwt"}).to_string()
}

/// Claims that are accepted.
pub fn claims() -> Value {
    json!({
        "aud": AUDIENCE, "exp": NOW.0 + 600, "iat": NOW.0 - 10, "iss": ISSUER, "jti": "token-1",
        "client_id": "app", "scope": "read write", "sub": "alice",
    })
}

/// Accepted claims with some members replaced or added.
pub fn claims_with(members: Value) -> Value {
    merged(claims(), members)
}

/// Accepted claims without one.
pub fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn merged(mut base: Value, members: Value) -> Value {
    let Value::Object(members) = members else { panic!("not an object") };
    base.as_object_mut().unwrap().extend(members);
    base
}

/// The configuration of an issuer whose keys are in `file`.
pub fn issuer(algorithms: &[Algorithm], file: &Path) -> config::Issuer {
    config::Issuer {
        algorithms: algorithms.to_vec(),
        audiences: vec!["https://other.example".into(), AUDIENCE.into()],
        claims: config::ClaimMap::default(),
        issuer: ISSUER.into(),
        keys: config::KeySource::File(file.to_owned()),
        leeway: Duration::from_secs(LEEWAY),
        max_lifetime: Duration::from_secs(MAX_LIFETIME),
        name: Arc::from("main"),
        sensitive_claims: config::SensitiveClaims::default(),
        types: vec!["at+jwt".into(), "jwt".into()],
    }
}

/// A verifier for one issuer, `keys` being its key file's content.
pub fn verifier(algorithms: &[Algorithm], keys: impl AsRef<[u8]>) -> Verifier {
    adjusted(algorithms, keys, |_| {})
}

/// The same, with something else in the issuer's configuration.
pub fn adjusted(
    algorithms: &[Algorithm],
    keys: impl AsRef<[u8]>,
    adjust: impl FnOnce(&mut config::Issuer),
) -> Verifier {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), keys).unwrap();
    let mut issuer = issuer(algorithms, file.path());
    adjust(&mut issuer);
    Verifier::load(&[issuer], MAX_BYTES).unwrap()
}

/// An ES256 signer and a verifier that knows its key.
pub fn pair() -> (Signer, Verifier) {
    let signer = Signer::of(Algorithm::ES256);
    let verifier = verifier(&[Algorithm::ES256], &signer.pem);
    (signer, verifier)
}

/// The reason, or none if the token was accepted.
pub fn refusal(verifier: &Verifier, token: &str) -> Option<TokenError> {
    verify(verifier, token).err()
}

pub fn verify(verifier: &Verifier, token: &str) -> Result<VerifiedClaims, TokenError> {
    verifier.verify(token, NOW).map_err(|rejected| rejected.error)
}

/// Headers, and what comes of it.
pub fn assert_headers(rows: &[(&str, Option<TokenError>)]) {
    let (signer, verifier) = pair();
    for (header, expected) in rows {
        let token = signer.sign(header, &claims().to_string());
        assert_eq!(refusal(&verifier, &token), *expected, "{header}");
    }
}

/// Claims that replace or extend good ones, and what comes of it.
pub fn assert_claims(rows: &[(Value, Option<TokenError>)]) {
    let (signer, verifier) = pair();
    for (members, expected) in rows {
        let token = signer.token(&claims_with(members.clone()));
        assert_eq!(refusal(&verifier, &token), *expected, "{members}");
    }
}
