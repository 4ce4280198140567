//! From a JWK to a key that verifies with exactly one algorithm.

use std::ops::RangeInclusive;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, OctetKeyPairParameters,
    RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::error::names;
use super::{Key, KeyFault, Material};

/// Modulus sizes that aws-lc verifies with; RFC 7518 3.3 sets the lower end.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// Pins `jwk` to its own `alg` if the issuer allows that, else to the only one of the issuer's algorithms
/// that fits. `name` is for messages.
pub(super) fn pin(name: String, jwk: &Jwk, allowed: &[Algorithm]) -> Result<Key, KeyFault> {
    let fitting = fitting(&name, &jwk.algorithm)?;
    let algorithm = match jwk.common.key_algorithm {
        Some(own) => {
            let algorithm =
                Algorithm::try_from(own).map_err(|_| KeyFault::Unsupported { key: name.clone() })?;
            if !fitting.contains(&algorithm) {
                return Err(KeyFault::AlgorithmMismatch { algorithm: own.to_string(), key: name });
            }
            if !allowed.contains(&algorithm) {
                return Err(KeyFault::AlgorithmNotAllowed { key: name, wanted: own.to_string() });
            }
            algorithm
        }
        None => only_choice(&name, fitting, allowed)?,
    };
    let material = material(&name, jwk, algorithm)?;
    Ok(Key { algorithm, id: jwk.common.key_id.as_deref().map(Arc::from), material })
}

fn only_choice(name: &str, fitting: &[Algorithm], allowed: &[Algorithm]) -> Result<Algorithm, KeyFault> {
    let choices: Vec<Algorithm> = fitting.iter().copied().filter(|a| allowed.contains(a)).collect();
    match choices.as_slice() {
        [algorithm] => Ok(*algorithm),
        [] => Err(KeyFault::AlgorithmNotAllowed { key: name.into(), wanted: names(fitting) }),
        _ => Err(KeyFault::AlgorithmAmbiguous { fitting: choices, key: name.into() }),
    }
}

/// The algorithms that a key of this type and curve can be used with.
fn fitting(name: &str, parameters: &AlgorithmParameters) -> Result<&'static [Algorithm], KeyFault> {
    match parameters {
        AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
            curve: EllipticCurve::P256, ..
        }) => Ok(&[Algorithm::ES256]),
        AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
            curve: EllipticCurve::P384, ..
        }) => Ok(&[Algorithm::ES384]),
        AlgorithmParameters::OctetKey(_) => Ok(&[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]),
        AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
            curve: EllipticCurve::Ed25519, ..
        }) => Ok(&[Algorithm::EdDSA]),
        AlgorithmParameters::RSA(_) => Ok(&[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ]),
        _ => Err(KeyFault::Unsupported { key: name.into() }),
    }
}

/// Checks here what would otherwise show as tokens that never verify.
fn material(name: &str, jwk: &Jwk, algorithm: Algorithm) -> Result<Material, KeyFault> {
    let invalid = || KeyFault::Invalid { key: name.into() };
    if let AlgorithmParameters::RSA(parameters) = &jwk.algorithm {
        return rsa_key(name, parameters, algorithm);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| invalid())?;
    let bytes = key.try_get_as_bytes().map_err(|_| invalid())?;
    let curve: &'static dyn VerificationAlgorithm = match algorithm {
        Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &ED25519,
        _ => return secret_of_length(name, bytes, algorithm),
    };
    ParsedPublicKey::new(curve, bytes).map(Material::Public).map_err(|_| invalid())
}

/// RFC 7518 6.3.1.1 forbids leading zeros and knows that some software writes one; aws-lc refuses them.
fn rsa_key(name: &str, parameters: &RSAKeyParameters, algorithm: Algorithm) -> Result<Material, KeyFault> {
    let invalid = || KeyFault::Invalid { key: name.into() };
    let number = |text: &str| -> Result<Vec<u8>, KeyFault> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
    };
    let (n, e) = (number(&parameters.n)?, number(&parameters.e)?);
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(KeyFault::WeakRsa { bits, key: name.into() });
    }
    let padding = match algorithm {
        Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
        _ => &RSA_PKCS1_2048_8192_SHA256,
    };
    let key = RsaPublicKeyComponents { n: &n, e: &e }.to_parsed_public_key(padding).map_err(|_| invalid())?;
    // Only reading it back from DER makes aws-lc look at the numbers (`RSA_check_key`).
    PublicKey::from_der(key.as_ref()).map_err(|_| invalid())?;
    Ok(Material::Public(key))
}

/// RFC 7518 3.2: a key of the hash's size or longer.
fn secret_of_length(name: &str, secret: &[u8], algorithm: Algorithm) -> Result<Material, KeyFault> {
    let (hash, minimum) = match algorithm {
        Algorithm::HS256 => (hmac::HMAC_SHA256, 32),
        Algorithm::HS384 => (hmac::HMAC_SHA384, 48),
        _ => (hmac::HMAC_SHA512, 64),
    };
    if secret.len() < minimum {
        return Err(KeyFault::SecretShort { algorithm, bytes: secret.len(), key: name.into(), minimum });
    }
    Ok(Material::Secret(Box::new(hmac::Key::new(hash, secret))))
}
