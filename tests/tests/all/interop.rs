//! Other people's libraries: what they sign is verified here, and the other way round, for every algorithm.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use auth_agent::clock::UnixTime;
use auth_agent::config::{ClaimMap, Issuer, KeySource, SensitiveClaims};
use auth_agent::token::Verifier;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Map, Value, json};
use tests::issuer::ALGORITHMS;
use tests::libraries::{FOLDER, folder};

const SECRET: &str = "a secret of 64 bytes, as long as the longest hash that is in use";

/// A library, and how its script is run.
struct Library {
    folder: PathBuf,
    name: &'static str,
    program: PathBuf,
    script: &'static str,
}

/// Both libraries, where they are here.
fn libraries() -> Vec<Library> {
    let Some(folder) = folder("PyJWT and jose") else { return Vec::new() };
    let node = PathBuf::from("node");
    vec![
        Library {
            folder: folder.clone(),
            name: "PyJWT",
            program: folder.join("py/bin/python"),
            script: "pyjwt.py",
        },
        Library { folder, name: "jose", program: node, script: "jose.mjs" },
    ]
}

impl Library {
    fn call(&self, verb: &str, request: &Value) -> Value {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/interop").join(self.script);
        let mut child = Command::new(&self.program)
            .arg(script)
            .arg(verb)
            .env(FOLDER, &self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {}: {error}", self.name, self.program.display()));
        child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{} {verb}: {}", self.name, output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A key pair as PEM, or a secret.
struct Key {
    private: String,
    public: String,
}

impl Key {
    fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                return Self { private: SECRET.to_owned(), public: SECRET.to_owned() };
            }
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let private = match algorithm {
            Algorithm::EdDSA => without_public_half(&pair.serialize_der()),
            _ => pair.serialize_pem(),
        };
        Self { private, public: pair.public_key_pem() }
    }

    fn sign(&self, algorithm: Algorithm, claims: &Value) -> String {
        let pem = self.private.as_bytes();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Ok(EncodingKey::from_secret(pem)),
            _ => EncodingKey::from_rsa_pem(pem),
        };
        let header = Header { typ: Some("at+jwt".to_owned()), ..Header::new(algorithm) };
        encode(&header, claims, &key.unwrap()).unwrap()
    }
}

/// An Ed25519 key as RFC 8410, 7 has it first: Python's cryptography does not read what RFC 5958 added, the public half
/// behind the private one.
fn without_public_half(pkcs8: &[u8]) -> String {
    const HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let seed = &pkcs8[HEAD.len()..][..32];
    let body = STANDARD.encode([&HEAD, seed].concat());
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

fn claims() -> Value {
    let now = UnixTime::now().0;
    json!({
        "iss": "https://issuer.example", "aud": "https://api.example", "sub": "zoë", "iat": now, "exp": now + 600,
        "scope": "read write", "client_id": "app",
    })
}

/// The name in `alg`.
fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

fn request(keys: &[(Algorithm, Key)], claims: &Value, tokens: Value) -> Value {
    let keys: Map<_, _> = keys
        .iter()
        .map(|(algorithm, key)| (name(*algorithm), json!({"private": key.private, "public": key.public})))
        .collect();
    json!({"claims": claims, "keys": keys, "tokens": tokens})
}

/// Has the agent's verifier judge a token by a key file of that content.
fn assert_accepted(who: &str, algorithm: Algorithm, keys: &str, token: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), keys).unwrap();
    let issuer = Issuer {
        algorithms: vec![algorithm],
        audiences: vec!["https://api.example".to_owned()],
        claims: ClaimMap::default(),
        issuer: "https://issuer.example".to_owned(),
        keys: KeySource::File(file.path().to_owned()),
        leeway: Duration::from_secs(10),
        max_lifetime: Duration::from_secs(3_600),
        name: "main".into(),
        sensitive_claims: SensitiveClaims::Reject,
        types: vec!["at+jwt".to_owned()],
    };
    let verifier = Verifier::load(&[issuer], 8_192).unwrap();
    let verified = verifier.verify(token, UnixTime::now());
    let verified = verified.unwrap_or_else(|rejected| panic!("{who}, {algorithm:?}: {rejected:?}: {token}"));
    assert_eq!(&**verified.subject(), "zoë", "{who}, {algorithm:?}");
    assert_eq!(verified.scopes().len(), 2, "{who}, {algorithm:?}");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{flipped}{}", &signature[1..]);
    assert!(verifier.verify(&forged, UnixTime::now()).is_err(), "{who}, {algorithm:?}");
}

fn keys() -> Vec<(Algorithm, Key)> {
    ALGORITHMS.map(|algorithm| (algorithm, Key::new(algorithm))).into()
}

#[test]
fn what_other_libraries_sign_is_verified_here() {
    for library in libraries() {
        let keys = keys();
        let minted = library.call("mint", &request(&keys, &claims(), json!({})));
        for (algorithm, key) in &keys {
            let name = name(*algorithm);
            // jose signs with keys of its own.
            let (file, tokens) = match minted["jwks"].get(&name) {
                Some(jwks) => (jwks.to_string(), &minted["tokens"]),
                None => (key.public.clone(), &minted),
            };
            assert_accepted(library.name, *algorithm, &file, tokens[&name].as_str().unwrap());
        }
    }
}

#[test]
fn what_is_signed_here_is_verified_by_other_libraries() {
    for library in libraries() {
        let (keys, claims) = (keys(), claims());
        let tokens: Map<_, _> = keys
            .iter()
            .map(|(algorithm, key)| (name(*algorithm), key.sign(*algorithm, &claims).into()))
            .collect();
        let verified = library.call("verify", &request(&keys, &claims, tokens.into()));
        for algorithm in ALGORITHMS {
            assert_eq!(verified[name(algorithm)], "zoë", "{}, {algorithm:?}", library.name);
        }
    }
}
