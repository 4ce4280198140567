//! The built-in issuer, end to end: a real agent, its store, and a restart.

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tests::client::{Answer, Client, inside};
use tests::privilege;
use tests::stage::Stage;

const SECTION: &str =
    "[authorization_server]\nissuer = \"https://localhost\"\naudience = \"https://api.test\"\n";

/// A POST of a form by the key of this text.
fn post(stage: &Stage, client: &Client, path: &str, key: &str, form: &str) -> Result<Answer> {
    let id = key.split('_').nth(1).unwrap();
    let form = format!("client_id={id}&client_secret={key}&{form}");
    let request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))?;
    inside(&stage.crowd, async || client.connect().await?.send(request).await)
}

fn token(stage: &Stage, client: &Client, key: &str) -> String {
    let answer = post(stage, client, "/oauth2/token", key, "grant_type=client_credentials").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    format!("Bearer {}", answer.body["access_token"].as_str().unwrap())
}

#[test]
fn a_key_is_exchanged_and_its_tokens_outlive_a_crash_and_not_the_key() {
    if !privilege::kernel_usable("the built-in issuer") {
        return;
    }
    let mut stage = Stage::new(SECTION).unwrap();
    let client = stage.client(3).unwrap();
    let create =
        |name: &str| stage.setup.json(&["key", "create", "--name", name, "--scope", "admin"]).unwrap();
    let (billing, other) = (create("billing"), create("other"));
    let [key, other] = [&billing, &other].map(|created| created["key"].as_str().unwrap().to_owned());
    let (first, second) = (token(&stage, &client, &key), token(&stage, &client, &key));
    let others = token(&stage, &client, &other);
    let kids = |stage: &Stage| {
        let list = stage.setup.json(&["signing-key", "list"]).unwrap();
        list["signing_keys"][0]["kid"].as_str().unwrap().to_owned()
    };
    let kid = kids(&stage);
    let use_it = |stage: &Stage, token: &str| {
        let answer = client.get_from(&stage.crowd, "/admin", &[("authorization", token)]).unwrap();
        (answer.status.as_u16(), answer.reason().to_owned())
    };
    assert_eq!(use_it(&stage, &first), (200, String::new()));

    let form = format!("token={}", first.strip_prefix("Bearer ").unwrap());
    let foreign = post(&stage, &client, "/oauth2/revoke", &other, &form).unwrap();
    assert_eq!((foreign.status.as_u16(), foreign.reason()), (400, "token-foreign"));
    assert_eq!(post(&stage, &client, "/oauth2/revoke", &key, &form).unwrap().status, 200);
    assert_eq!(use_it(&stage, &first), (401, "credential-revoked".to_owned()));

    stage.kill().unwrap();
    stage.restart().unwrap();
    assert_eq!(kids(&stage), kid, "the signing key is the same");
    assert_eq!(use_it(&stage, &first), (401, "credential-revoked".to_owned()));
    assert_eq!(use_it(&stage, &second), (200, String::new()));

    stage.setup.json(&["key", "revoke", billing["id"].as_str().unwrap()]).unwrap();
    assert_eq!(use_it(&stage, &second), (401, "api-key-revoked".to_owned()));
    assert_eq!(use_it(&stage, &others), (200, String::new()));
    let refused = post(&stage, &client, "/oauth2/token", &key, "grant_type=client_credentials").unwrap();
    assert_eq!((refused.status.as_u16(), refused.body["error"].as_str()), (401, Some("invalid_client")));
    let issued = stage.setup.json(&["token", "issue", "--subject", "ops", "--scope", "admin"]).unwrap();
    let issued = format!("Bearer {}", issued["token"].as_str().unwrap());
    assert_eq!(use_it(&stage, &issued), (200, String::new()));
}
