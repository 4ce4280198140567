use std::path::Path;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use tempfile::TempDir;

use super::*;
use crate::api_key::Pepper;
use crate::authorization_server::Sealer;
use crate::config::tests::MINIMAL;
use crate::identity::{Facts, Method};
use crate::store::Store;

const NOW: u64 = 1_800_000_000;

const UPSTREAMS: &str = r#"
[[upstream]]
name = "told"
endpoints = ["http://127.0.0.1:8081"]
identity = "token"
[[upstream]]
name = "both"
endpoints = ["http://127.0.0.1:8082"]
identity = "both"
[forward_auth]
listen = "127.0.0.1:9180"
[internal_token]
issuer = "https://edge.example"
"#;
/// Indexes of the upstreams.
const APP: usize = 0;
const TOLD: usize = 1;
const BOTH: usize = 2;

struct Site {
    _directory: TempDir,
    keys: Arc<SigningKeys>,
    tokens: InternalTokens,
}

fn site(more: &str) -> Site {
    reopened(tempfile::tempdir().unwrap(), more, UnixTime(NOW))
}

fn reopened(directory: TempDir, more: &str, now: UnixTime) -> Site {
    let config = Config::parse(&format!("{MINIMAL}{UPSTREAMS}{more}"), Path::new("edge.toml")).unwrap();
    let folder = directory.path().join("store");
    let store = Arc::new(Store::open(&folder, now).unwrap());
    let pepper = Pepper::open(&folder, store.needs_secret().unwrap()).unwrap();
    let sealer = Sealer::new(&pepper).unwrap();
    let wanted = config.internal_token.as_ref().unwrap();
    let keys = Arc::new(SigningKeys::open_internal(wanted, store, sealer, now).unwrap());
    Site { tokens: InternalTokens::new(&config, &keys).unwrap(), keys, _directory: directory }
}

impl Site {
    fn token(&self, identity: &Arc<Identity>, upstream: usize, at: u64) -> Option<String> {
        let token = self.tokens.token(identity, upstream, UnixTime(NOW + at)).unwrap()?;
        assert!(token.is_sensitive());
        Some(token.to_str().unwrap().to_owned())
    }

    /// What an upstream makes of a token with the published keys: its claims.
    fn verify(&self, token: &str, audience: &str) -> Option<Value> {
        let published: JwkSet = serde_json::from_slice(&self.keys.key_set()).unwrap();
        let header = decode_header(token).unwrap();
        assert_eq!(header.typ.as_deref(), Some(TYPE));
        let key = DecodingKey::from_jwk(published.find(&header.kid.unwrap())?).unwrap();
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[audience]);
        validation.set_issuer(&["https://edge.example"]);
        // The clock of the test is not the library's.
        validation.validate_exp = false;
        decode::<Value>(token, &key, &validation).ok().map(|token| token.claims)
    }
}

fn alice() -> Arc<Identity> {
    Identity::verified(Facts {
        client: Some("web".into()),
        issuer: Some("main".into()),
        scopes: vec!["read".into(), "write".into()].into(),
        tenant: Some("t1".into()),
        ..Facts::new(Method::Jwt, "alice")
    })
}

#[test]
fn a_jwt_library_verifies_it_with_the_published_keys_for_its_upstream_alone() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
        let site = site(&format!("algorithm = \"{algorithm:?}\""));
        let token = site.token(&alice(), TOLD, 0).unwrap();
        assert_eq!(decode_header(&token).unwrap().alg, algorithm);
        let expected = json!({
            "iss": "https://edge.example", "sub": "alice", "aud": "told", "iat": NOW, "exp": NOW + 60,
            "auth_method": "jwt", "auth_issuer": "main", "client_id": "web", "tenant": "t1", "scope": "read write",
        });
        assert_eq!(site.verify(&token, "told"), Some(expected));
        assert_eq!(site.verify(&token, "both"), None);
        let (head, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
        assert_eq!(site.verify(&forged, "told"), None);
    }
}

#[test]
fn a_key_has_no_client_tenant_or_issuer_to_tell_of() {
    let site = site("");
    let token = site.token(&Identity::verified(Facts::new(Method::ApiKey, "ci")), BOTH, 0).unwrap();
    let claims = site.verify(&token, "both").unwrap();
    assert_eq!((&claims["sub"], &claims["auth_method"]), (&json!("ci"), &json!("api-key")));
    assert!(
        ["client_id", "tenant", "auth_issuer"].iter().all(|claim| claims.get(claim).is_none()),
        "{claims}"
    );
}

#[test]
fn an_upstream_that_wants_none_gets_none() {
    let site = site("");
    assert_eq!(site.token(&alice(), APP, 0), None);
    assert_eq!(site.token(&alice(), 7, 0), None);
}

#[test]
fn one_token_serves_until_half_of_its_time_is_over() {
    let site = site("");
    let (alice, other) = (alice(), alice());
    let first = site.token(&alice, TOLD, 0).unwrap();
    for at in [0, 1, 29] {
        assert_eq!(site.token(&alice, TOLD, at).as_ref(), Some(&first), "{at}");
    }
    let second = site.token(&alice, TOLD, 30).unwrap();
    assert_ne!(second, first);
    assert_eq!(site.verify(&second, "told").unwrap()["exp"], NOW + 90);
    assert_ne!(site.token(&alice, BOTH, 30), Some(second.clone()), "one for each upstream");
    assert_ne!(site.token(&other, TOLD, 31), Some(second), "and for each identity");
}

#[test]
fn none_is_valid_for_longer_than_the_credential() {
    let site = site("");
    let short =
        Identity::verified(Facts { expires: Some(UnixTime(NOW + 10)), ..Facts::new(Method::Jwt, "s") });
    let token = site.token(&short, TOLD, 0).unwrap();
    assert_eq!(site.verify(&token, "told").unwrap()["exp"], NOW + 10);
    assert_eq!(site.token(&short, TOLD, 4), Some(token.clone()));
    let last = site.token(&short, TOLD, 9).unwrap();
    assert_eq!(site.verify(&last, "told").unwrap()["exp"], NOW + 10);
}

#[test]
fn keys_survive_a_restart_and_rotate_with_an_overlap() {
    const DAY: u64 = 86_400;
    let site = site("");
    let (token, alice) = (site.token(&alice(), TOLD, 0).unwrap(), alice());
    let Site { _directory: directory, keys, tokens } = site;
    let before = keys.key_set();
    drop((keys, tokens));
    let site = reopened(directory, "", UnixTime(NOW + 1));
    assert_eq!(site.keys.key_set(), before);
    assert!(site.verify(&token, "told").is_some());

    let signed_by = |at: u64| {
        site.keys.upkeep(UnixTime(NOW + at)).unwrap();
        let token = site.token(&alice, TOLD, at).unwrap();
        assert!(site.verify(&token, "told").is_some(), "{at}");
        decode_header(&token).unwrap().kid.unwrap()
    };
    let first = signed_by(1);
    // Published ten minutes before it signs.
    assert_eq!(signed_by(30 * DAY - 600), first);
    let published: JwkSet = serde_json::from_slice(&site.keys.key_set()).unwrap();
    assert_eq!(published.keys.len(), 2);
    assert_ne!(signed_by(30 * DAY + 60), first);
    assert!(site.verify(&token, "told").is_some());
    signed_by(30 * DAY + 1_000);
    assert!(site.verify(&token, "told").is_none(), "the old key is over with its last token");
}
