//! One signing key: what it signs, and how its public half looks (RFC 7517, RFC 8037).

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, Signature,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::clock::UnixTime;

/// A private key, what it is called, and from when on it signs.
pub(super) struct SigningKey {
    algorithm: Algorithm,
    pub created: UnixTime,
    kid: String,
    pair: Pair,
    pub signs_from: UnixTime,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Box<Ed25519KeyPair>),
}

impl SigningKey {
    /// A new key for `algorithm`, and its private half (PKCS #8).
    pub fn generate(
        algorithm: Algorithm,
        created: UnixTime,
        signs_from: UnixTime,
    ) -> Result<(Self, Vec<u8>), Unspecified> {
        let pkcs8 = match algorithm {
            Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?.as_ref().to_vec(),
            _ => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?.to_pkcs8v1()?.as_ref().to_vec(),
        };
        Ok((Self::read(&pkcs8, algorithm, created, signs_from)?, pkcs8))
    }

    /// From its private half.
    pub fn read(
        pkcs8: &[u8],
        algorithm: Algorithm,
        created: UnixTime,
        signs_from: UnixTime,
    ) -> Result<Self, Unspecified> {
        let pair = match algorithm {
            Algorithm::EdDSA => Pair::Ed25519(Box::new(Ed25519KeyPair::from_pkcs8(pkcs8)?)),
            _ => Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)?),
        };
        Ok(Self { algorithm, created, kid: thumbprint(&pair.public()), pair, signs_from })
    }

    /// `ES256` or `EdDSA`.
    pub fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::EdDSA => "EdDSA",
            _ => "ES256",
        }
    }

    /// Whether it signs with this algorithm.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithm == algorithm
    }

    /// Its thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half, as a JWKS holds it.
    pub fn jwk(&self) -> Value {
        let mut jwk = json!(self.pair.public());
        for (member, value) in [("alg", self.algorithm()), ("kid", &self.kid), ("use", "sig")] {
            jwk[member] = value.into();
        }
        jwk
    }

    /// The signed token (RFC 7515, 7.1) of a type with these claims.
    pub fn sign(&self, typ: &str, claims: &Value) -> Result<String, Unspecified> {
        let header = json!({ "alg": self.algorithm(), "kid": self.kid, "typ": typ });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

impl Pair {
    /// The members that make the key what it is: those of the thumbprint (RFC 7638, 3.2; RFC 8037, 2).
    fn public(&self) -> BTreeMap<&'static str, String> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            // An uncompressed point: 4, x, y.
            Self::Ecdsa(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                [("crv", "P-256".to_owned()), ("kty", "EC".to_owned()), ("x", text(x)), ("y", text(y))].into()
            }
            Self::Ed25519(pair) => {
                let x = text(pair.public_key().as_ref());
                [("crv", "Ed25519".to_owned()), ("kty", "OKP".to_owned()), ("x", x)].into()
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, Unspecified> {
        match self {
            Self::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message),
            Self::Ed25519(pair) => pair.try_sign(message),
        }
    }
}

/// RFC 7638, 3: the hash of the needed members, in order of their names, without white space.
fn thumbprint(members: &BTreeMap<&str, String>) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, json!(members).to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_the_published_vectors() {
        let rsa = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi\
                   FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgn\
                   Yb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqb\
                   w0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rfc_7638 = [("e", "AQAB"), ("kty", "RSA"), ("n", rsa)];
        let rfc_8037 =
            [("crv", "Ed25519"), ("kty", "OKP"), ("x", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")];
        let members =
            |list: [(&'static str, &str); 3]| list.map(|(name, value)| (name, value.to_owned())).into();
        assert_eq!(thumbprint(&members(rfc_7638)), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(thumbprint(&members(rfc_8037)), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    /// RFC 8037, A.1 to A.4.
    #[test]
    fn an_ed25519_signature_is_that_of_the_published_vector() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let signature =
            Pair::Ed25519(Box::new(pair)).sign(b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc");
        let expected =
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert_eq!(URL_SAFE_NO_PAD.encode(signature.unwrap()), expected);
    }
}
