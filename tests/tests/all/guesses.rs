//! Guesses at one credential from many sources, and tokens that come again: a real agent, each client an address of its
//! own (promises P3 and P5).

use auth_agent::api_key::ApiKey;
use tests::issuer::Issuer;
use tests::privilege;
use tests::stage::Stage;

const LIMITS: &str = "[limits.credential_failures]\nrate = \"1/h\"\nburst = 3\n";

#[test]
fn who_guesses_at_one_credential_from_many_addresses_is_refused_and_its_owner_is_not() {
    if !privilege::kernel_usable("guesses on the wire") {
        return;
    }
    let stage = Stage::new(LIMITS).unwrap();
    let bearer = |issuer: &Issuer| format!("Bearer {}", issuer.token("alice", "", 600).unwrap());
    let (good, forger) = (bearer(&stage.setup.issuer), Issuer::new().unwrap());
    let (one, other) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    let (token, key) = ("authorization", "x-api-key");
    let answer = |client: u8, (name, value): (&str, &str)| {
        let answer = stage.client(client).unwrap().get_from(&stage.crowd, "/", &[(name, value)]).unwrap();
        (answer.status.as_u16(), answer.reason().to_owned())
    };
    let refused = |status: u16, reason: &str| (status, reason.to_owned());
    // A client for each, and each guess at the token's signature another one.
    for client in 10..13 {
        assert_eq!(answer(client, (key, one.expose())), refused(401, "api-key-invalid"));
        assert_eq!(answer(client, (token, &bearer(&forger))), refused(401, "token-signature"));
    }
    for client in 13..15 {
        assert_eq!(answer(client, (key, one.expose())), refused(429, "auth-failure-limit"));
        assert_eq!(answer(client, (token, &bearer(&forger))), refused(429, "auth-failure-limit"));
        assert_eq!(answer(client, (token, &good)), refused(200, ""));
    }
    assert_eq!(answer(15, (key, other.expose())), refused(401, "api-key-invalid"));

    let allowed = stage.client(16).unwrap().source().to_string();
    stage.setup.json(&["allow", "add", &allowed]).unwrap();
    assert_eq!(answer(16, (key, one.expose())), refused(401, "api-key-invalid"), "on the allowlist");

    let status = stage.setup.json(&["status"]).unwrap();
    let (tokens, refusals) = (&status["http"]["tokens"], &status["http"]["refusals"]);
    assert_eq!(refusals["auth-failure-limit"], 4, "{refusals}");
    assert_eq!((&tokens["hits"], &tokens["cached"]), (&1.into(), &1.into()), "{tokens}");
    assert!(tokens["cached_bytes"].as_u64() > Some(0), "{tokens}");
}
