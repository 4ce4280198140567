//! From a JWK to a key that verifies with exactly one algorithm.

use std::ops::RangeInclusive;

use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, OctetKeyPairParameters,
    RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::error::names;
use super::{Key, KeyFault};

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
    let decoding = decoding_key(&name, jwk, algorithm)?;
    Ok(Key { algorithm, decoding, id: jwk.common.key_id.clone() })
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
fn decoding_key(name: &str, jwk: &Jwk, algorithm: Algorithm) -> Result<DecodingKey, KeyFault> {
    let invalid = || KeyFault::Invalid { key: name.into() };
    if let AlgorithmParameters::RSA(parameters) = &jwk.algorithm {
        return rsa_key(name, parameters);
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| invalid())?;
    let bytes = key.try_get_as_bytes().map_err(|_| invalid())?;
    let valid = match algorithm {
        Algorithm::ES256 => is_public_key(&ECDSA_P256_SHA256_FIXED, bytes),
        Algorithm::ES384 => is_public_key(&ECDSA_P384_SHA384_FIXED, bytes),
        Algorithm::EdDSA => is_public_key(&ED25519, bytes),
        _ => return secret_of_length(name, key, algorithm),
    };
    if valid { Ok(key) } else { Err(invalid()) }
}

fn is_public_key(algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]) -> bool {
    ParsedPublicKey::new(algorithm, bytes).is_ok()
}

/// RFC 7518 6.3.1.1 forbids leading zeros and knows that some software writes one; aws-lc refuses them.
fn rsa_key(name: &str, parameters: &RSAKeyParameters) -> Result<DecodingKey, KeyFault> {
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
    // Only reading it back from DER makes aws-lc look at the numbers (`RSA_check_key`).
    RsaPublicKeyComponents { n: &n, e: &e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .and_then(|key| PublicKey::from_der(key.as_ref()))
        .map_err(|_| invalid())?;
    Ok(DecodingKey::from_rsa_raw_components(&n, &e))
}

/// RFC 7518 3.2: a key of the hash's size or longer.
fn secret_of_length(name: &str, key: DecodingKey, algorithm: Algorithm) -> Result<DecodingKey, KeyFault> {
    let minimum = match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        _ => 64,
    };
    let bytes = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    if bytes < minimum {
        return Err(KeyFault::SecretShort { algorithm, bytes, key: name.into(), minimum });
    }
    Ok(key)
}
