//! What is measured: issuers with a key for each algorithm, their tokens, API keys, revocations.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use auth_agent::api_key::{KeyRing, Pepper};
use auth_agent::authenticate::Verify as _;
use auth_agent::clock::{Monotonic, Now, UnixTime};
use auth_agent::config;
use auth_agent::credentials::Credentials;
use auth_agent::explain::Trail;
use auth_agent::identity::Identity;
use auth_agent::issuers::Issuers;
use auth_agent::revocation::{Revocation, Revocations, Target};
use auth_agent::token::Verifier;
use auth_agent::trial::Trial;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use super::limits::Limited;
use super::{Cell, Scale, authorise};
use crate::issuer::ALGORITHMS;

const NOW: UnixTime = UnixTime(1_800_000_000);
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const AUDIENCE: &str = "https://api.example";

/// Identities that are checked one after the other, so that none is found clean twice.
const IDENTITIES: usize = 4_096;

/// An issuer with one key, and tokens of it.
struct Subject {
    /// Remembers tokens.
    caching: Credentials,
    name: String,
    /// Remembers none.
    plain: Credentials,
    token: String,
}

/// Tokens that are refused, all of ES256.
struct Refused {
    name: &'static str,
    text: String,
}

/// Everything that is measured.
pub struct Subjects {
    forged: String,
    identities: Vec<Arc<Identity>>,
    limited: Vec<(usize, Limited)>,
    refused: Vec<Refused>,
    revocations: Vec<(usize, Arc<Revocations>)>,
    rings: Vec<(usize, Credentials, Vec<String>)>,
    subjects: Vec<Subject>,
    trials: Vec<(&'static str, Trial)>,
    _directory: tempfile::TempDir,
}

impl Subjects {
    /// Makes all of it.
    pub fn new(scale: &Scale) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let folder = directory.path();
        let ring = Arc::new(KeyRing::new(Pepper::open(folder, false)?, []));
        let issuers = ALGORITHMS.into_iter().map(Issuer::new).collect::<Result<Vec<_>>>()?;
        let subjects =
            issuers.iter().map(|issuer| issuer.subject(folder, &ring)).collect::<Result<Vec<_>>>()?;
        let es256 = issuers.first().context("no algorithm")?;
        let stranger = Issuer::new(Algorithm::ES256)?;
        Ok(Self {
            forged: stranger.token(&claims(500))?,
            identities: identities(folder, &ring, IDENTITIES)?,
            limited: scale
                .principals
                .iter()
                .map(|count| limited(*count, folder, &ring))
                .collect::<Result<_>>()?,
            refused: refused(es256)?,
            revocations: scale.revocations.iter().map(|count| (*count, revocations(*count))).collect(),
            rings: scale.api_keys.iter().map(|count| keys(*count, folder)).collect::<Result<_>>()?,
            subjects,
            trials: authorise::trials(folder)?,
            _directory: directory,
        })
    }

    /// Bytes that the revocations take, by their number.
    pub fn memory(&self) -> Vec<(usize, usize)> {
        self.revocations.iter().map(|(count, revocations)| (*count, revocations.bytes())).collect()
    }

    /// All cells, each of which does what its name says or panics.
    pub fn cells(&self) -> Vec<Cell<'_>> {
        let mut cells = Vec::new();
        for Subject { caching, name, plain, token } in &self.subjects {
            cells.push(Cell::new(format!("verify_{name}"), || accepted(plain, token)));
            cells.push(Cell::new(format!("cached_{name}"), || accepted(caching, token)));
        }
        let [Subject { caching, plain, .. }, ..] = &self.subjects[..] else { return cells };
        for Refused { name, text } in &self.refused {
            cells.push(Cell::new(*name, || denied(plain, text)));
        }
        cells.push(Cell::new("forged_uncached", || denied(plain, &self.forged)));
        cells.push(Cell::new("forged_cached", || denied(caching, &self.forged)));
        for (count, credentials, keys) in &self.rings {
            let mut keys = keys.iter().cycle();
            let now = Now { monotonic: Monotonic(0), unix: NOW };
            cells.push(Cell::new(format!("api_key_{}", short(*count)), move || {
                let key = keys.next().map_or("", String::as_str);
                assert!(credentials.api_key(key, SOURCE, now).is_ok(), "a key is not valid");
            }));
        }
        for (name, trial) in &self.trials {
            cells.push(Cell::new(*name, || assert!(trial.allows_first(), "a request is refused")));
        }
        cells.extend(self.limited.iter().flat_map(|(count, limited)| limited.cells(&short(*count))));
        cells.extend(self.revocations.iter().map(|(count, revocations)| self.checked(*count, revocations)));
        cells
    }

    /// A check that finds nothing, of identities that were not checked since the last change.
    fn checked<'s>(&'s self, count: usize, revocations: &'s Revocations) -> Cell<'s> {
        let run = move |times: u32| {
            let mut elapsed = Duration::ZERO;
            let mut left = times as usize;
            while left > 0 {
                // Whatever was found clean is looked for again.
                revoke(revocations, usize::MAX);
                let batch = &self.identities[..left.min(self.identities.len())];
                let start = Instant::now();
                let revoked = batch.iter().filter(|identity| revocations.is_revoked(identity, NOW)).count();
                elapsed += start.elapsed();
                assert_eq!(revoked, 0, "an identity is revoked");
                left -= batch.len();
            }
            elapsed
        };
        Cell { name: format!("revocation_{}", short(count)), run: Box::new(run) }
    }
}

fn accepted(credentials: &Credentials, token: &str) -> Arc<Identity> {
    match credentials.token(token, NOW, &Trail::default()) {
        Ok(identity) => {
            assert!(credentials.unrevoked(&identity, NOW).is_ok(), "a token is revoked");
            identity
        }
        Err(denied) => panic!("a token is refused: {denied:?}"),
    }
}

fn denied(credentials: &Credentials, token: &str) {
    assert!(credentials.token(token, NOW, &Trail::default()).is_err(), "a token is not refused");
}

fn short(count: usize) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}m", count / 1_000_000),
    }
}

/// Credentials of which none is revoked.
fn credentials(
    folder: &Path,
    ring: Arc<KeyRing>,
    tokens: Arc<Verifier>,
    config: &config::Tokens,
) -> Result<Credentials> {
    let issuers = Arc::new(Issuers::open(&[], folder, Arc::clone(&tokens), NOW)?);
    Ok(Credentials::new(issuers, ring, Arc::default(), tokens).remembering(config, Arc::default()))
}

/// A key pair, and how it signs.
struct Issuer {
    algorithm: Algorithm,
    private: EncodingKey,
    /// What a key file holds: PEM, or the secret.
    public: Vec<u8>,
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Result<Self> {
        const SECRET: [u8; 64] = *b"a secret of 64 bytes, as long as the longest hash that is in use";
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            Algorithm::ES384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?,
            Algorithm::EdDSA => KeyPair::generate_for(&PKCS_ED25519)?,
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                return Ok(Self {
                    algorithm,
                    private: EncodingKey::from_secret(&SECRET),
                    public: SECRET.to_vec(),
                });
            }
            _ => KeyPair::generate_for(&PKCS_RSA_SHA256)?,
        };
        let pem = pair.serialize_pem();
        let private = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes())?,
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes())?,
            _ => EncodingKey::from_rsa_pem(pem.as_bytes())?,
        };
        Ok(Self { algorithm, private, public: pair.public_key_pem().into_bytes() })
    }

    fn name(&self) -> String {
        format!("{:?}", self.algorithm).to_lowercase()
    }

    fn token(&self, claims: &Value) -> Result<String> {
        let header = Header { typ: Some("at+jwt".to_owned()), ..Header::new(self.algorithm) };
        Ok(encode(&header, claims, &self.private)?)
    }

    fn verifier(&self, folder: &Path) -> Result<Arc<Verifier>> {
        let file = folder.join(self.name());
        std::fs::write(&file, &self.public)?;
        let issuer = config::Issuer {
            algorithms: vec![self.algorithm],
            audiences: vec![AUDIENCE.to_owned()],
            claims: config::ClaimMap::default(),
            issuer: "https://issuer.example".to_owned(),
            keys: config::KeySource::File(file),
            leeway: Duration::from_secs(10),
            max_lifetime: Duration::from_secs(3_600),
            name: "main".into(),
            sensitive_claims: config::SensitiveClaims::default(),
            types: vec!["at+jwt".to_owned()],
        };
        Ok(Arc::new(Verifier::load(&[issuer], 8_192)?))
    }

    fn credentials(&self, folder: &Path, ring: &Arc<KeyRing>, cache: u64) -> Result<Credentials> {
        let config = config::Tokens { cache_bytes: cache, ..config::Tokens::default() };
        let verifier = self.verifier(folder)?;
        credentials(folder, Arc::clone(ring), verifier, &config)
    }

    fn subject(&self, folder: &Path, ring: &Arc<KeyRing>) -> Result<Subject> {
        Ok(Subject {
            caching: self.credentials(folder, ring, config::Tokens::default().cache_bytes)?,
            name: self.name(),
            plain: self.credentials(folder, ring, 0)?,
            token: self.token(&claims(500))?,
        })
    }
}

/// Usual claims, in a token of about so many bytes with a signature of ES256.
fn claims(bytes: usize) -> Value {
    let mut claims = json!({
        "iss": "https://issuer.example", "aud": AUDIENCE, "sub": "8d0a4c1e-4111-4111-8111-111111111111",
        "exp": NOW.0 + 600, "iat": NOW.0 - 10, "nbf": NOW.0 - 10, "jti": "8d0a4c1e-4111-4111-8111-111111111112",
        "client_id": "app", "scope": "read write",
    });
    // Three bytes of text are four of base64.
    let missing = bytes.saturating_sub(120) * 3 / 4;
    let padding = missing.saturating_sub(claims.to_string().len() + 10);
    claims["pad"] = json!("x".repeat(padding));
    claims
}

fn with(members: &Value) -> Value {
    let mut claims = claims(500);
    if let (Some(claims), Some(members)) = (claims.as_object_mut(), members.as_object()) {
        claims.extend(members.clone());
    }
    claims
}

fn refused(issuer: &Issuer) -> Result<Vec<Refused>> {
    let header = |id: &str| Header {
        kid: Some(id.to_owned()),
        typ: Some("at+jwt".to_owned()),
        ..Header::new(Algorithm::ES384)
    };
    // All that is wrong with it is its algorithm, which is what is looked at last before the signature.
    let mut late = encode(
        &Header { alg: issuer.algorithm, ..header("main-key-of-2026") },
        &claims(1_024),
        &issuer.private,
    )?;
    let other_header = base64_of(&header("main-key-of-2026"))?;
    let rest = late.split_off(late.find('.').context("no token")?);
    let precheck = format!("{other_header}{rest}");
    ensure!((1_000..1_100).contains(&precheck.len()), "a token of {} bytes", precheck.len());
    Ok(vec![
        Refused { name: "precheck_1k", text: precheck },
        Refused { name: "refuse_garbage", text: "x".repeat(500) },
        Refused { name: "refuse_expired", text: issuer.token(&with(&json!({"exp": NOW.0 - 60})))? },
        Refused { name: "refuse_issuer", text: issuer.token(&with(&json!({"iss": "https://x.example"})))? },
        Refused { name: "refuse_audience", text: issuer.token(&with(&json!({"aud": "https://x.example"})))? },
    ])
}

fn base64_of(header: &Header) -> Result<String> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(serde_json::to_vec(header)?))
}

fn limited(count: usize, folder: &Path, ring: &Arc<KeyRing>) -> Result<(usize, Limited)> {
    Ok((count, Limited::new(identities(folder, ring, count)?)?))
}

fn identities(folder: &Path, ring: &Arc<KeyRing>, count: usize) -> Result<Vec<Arc<Identity>>> {
    let issuer = Issuer::new(Algorithm::HS256)?;
    let credentials = issuer.credentials(folder, ring, 0)?;
    (0..count)
        .map(|number| {
            let own = json!({"sub": format!("user-{number}"), "jti": format!("token-{number}")});
            Ok(accepted(&credentials, &issuer.token(&with(&own))?))
        })
        .collect()
}

fn revocations(count: usize) -> Arc<Revocations> {
    let revocations = Arc::<Revocations>::default();
    (0..count).for_each(|number| revoke(&revocations, number));
    revocations
}

fn revoke(revocations: &Revocations, number: usize) {
    let target = Target::TokenId { issuer: "main".to_owned(), token_id: format!("revoked-{number}") };
    revocations.revoke(&target, Revocation { before: None, until: None }, NOW);
}

/// Keys, and some of them as they are sent.
fn keys(count: usize, folder: &Path) -> Result<(usize, Credentials, Vec<String>)> {
    const SENT: usize = 4_096;
    let (ring, texts) = KeyRing::generated(count)?;
    let ring = Arc::new(ring);
    let none = Arc::new(Verifier::load(&[], 8_192)?);
    let credentials = credentials(folder, ring, none, &config::Tokens::default())?;
    let step = count.div_ceil(SENT).max(1);
    Ok((count, credentials, texts.iter().step_by(step).map(|key| key.expose().to_owned()).collect()))
}
