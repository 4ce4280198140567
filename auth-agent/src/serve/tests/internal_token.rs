//! Upstreams that are told who sent a request by a signed token.

use std::sync::Arc;

use http::Version;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use super::edge::{Edge, FakeVerify, GOOD, request};
use crate::api_key::Pepper;
use crate::authorization_server::{Sealer, SigningKeys};
use crate::clock::UnixTime;
use crate::config::{IdentityForm, InternalToken, LONGEST_INTERNAL_TOKEN};
use crate::limits::tests::Fake;
use crate::store::Store;

#[tokio::test]
async fn the_upstream_gets_a_token_of_ours_and_never_one_of_the_clients() {
    let wanted = InternalToken {
        algorithm: jsonwebtoken::Algorithm::ES256,
        header: "x-auth-token".parse().unwrap(),
        issuer: "edge".to_owned(),
        lifetime: LONGEST_INTERNAL_TOKEN,
        rotate_every: LONGEST_INTERNAL_TOKEN,
    };
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("store");
    let store = Arc::new(Store::open(&folder, UnixTime::now()).unwrap());
    let sealer = Sealer::new(&Pepper::open(&folder, false).unwrap()).unwrap();
    let keys = Arc::new(SigningKeys::open_internal(&wanted, store, sealer, UnixTime::now()).unwrap());
    let change = |config: &mut crate::config::Config| {
        config.internal_token = Some(wanted);
        config.upstreams[0].identity = IdentityForm::Token;
    };
    let verify = Arc::new(FakeVerify::default());
    let debts = Fake::new(1000, 1000);
    let edge =
        Edge::verifying(verify, debts, change, |gateway| gateway.with_internal_tokens(Arc::clone(&keys)))
            .await;

    let spellings = ["x-auth-token", "X-Auth-Token", "x_auth_token", "x.auth.token", "x-auth_token"];
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for spelling in spellings.map(str::to_ascii_lowercase) {
            for (target, subject) in [("/api", Some("alice")), ("/open", None)] {
                let fields =
                    [GOOD, (&*spelling, "mine"), (&*spelling, "twice"), ("connection", "x-auth-token")];
                // HTTP/2 has no such field.
                let fields = if version == Version::HTTP_2 { &fields[..3] } else { &fields };
                let response = edge.send(version, request(version, "GET", target, fields, "")).await;
                assert_eq!(response.status(), 200, "{spelling}");
                let headers = edge.upstream.take().pop().unwrap().headers;
                let told: Vec<_> = headers
                    .iter()
                    .filter(|(name, _)| name.as_str().replace(['_', '.'], "-").starts_with("x-auth-"))
                    .collect();
                match (subject, &told[..]) {
                    (None, []) => {}
                    (Some(subject), [(name, token)]) if *name == "x-auth-token" => {
                        let token = token.to_str().unwrap();
                        let header = decode_header(token).unwrap();
                        let published: JwkSet = serde_json::from_slice(&keys.key_set()).unwrap();
                        let key = published.find(&header.kid.unwrap()).unwrap();
                        let mut validation = Validation::new(header.alg);
                        validation.set_audience(&["live"]);
                        validation.set_issuer(&["edge"]);
                        let key = DecodingKey::from_jwk(key).unwrap();
                        let claims = decode::<Value>(token, &key, &validation).unwrap().claims;
                        assert_eq!(claims["sub"], subject);
                    }
                    _ => panic!("{target} {spelling}: {told:?}"),
                }
            }
        }
    }
}
