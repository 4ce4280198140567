//! The keys of an issuer that publishes them, seen by a client of the real agent: none yet, there, rotated, removed, and
//! out of reach at a start.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::agent::{HOST_AUTHORITIES, until};
use tests::client::{Answer, Client};
use tests::issuer::Issuer;
use tests::key_server::KeyServer;
use tests::pki::Authority;
use tests::privilege;
use tests::stage::Stage;

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_443);

/// Hardly ever refreshed by itself, so that only what is asked for happens.
const ISSUER: &str = r#"
[[issuer]]
name = "published"
issuer = "https://published.test"
audiences = ["https://api.test"]
algorithms = ["ES256"]
jwks_url = "https://127.0.0.1:9443/keys"
ca = "ca.pem"
refetch_interval = "1s"
refresh_min = "1h"
"#;

fn set(keys: &[(&str, &Issuer)]) -> String {
    let keys: Vec<Value> = keys.iter().map(|(id, issuer)| issuer.jwk(id).unwrap()).collect();
    json!({ "keys": keys }).to_string()
}

fn get(stage: &Stage, client: &Client, issuer: &Issuer, id: &str) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": "https://published.test", "aud": "https://api.test", "sub": "alice", "iat": now, "exp": now + 300,
    });
    let token = format!("Bearer {}", issuer.sign_as(Some(id), &claims).unwrap());
    client.get_from(&stage.crowd, "/", &[("authorization", &token)]).unwrap()
}

fn assert_answer(answer: &Answer, status: u16, reason: &str) {
    assert_eq!((answer.status.as_u16(), answer.reason()), (status, reason), "{}", answer.body);
}

#[test]
fn published_keys_come_rotate_go_and_survive_a_start_without_their_issuer() {
    if !privilege::kernel_usable("published keys") {
        return;
    }
    let mut stage = Stage::without_agent(ISSUER).unwrap();
    stage.setup.write("ca.pem", stage.setup.authority.pem()).unwrap();
    stage.restart().unwrap();
    let client = stage.client(2).unwrap();
    let (old, new) = (Issuer::new().unwrap(), Issuer::new().unwrap());

    // No keys yet: not the client's fault.
    assert_answer(&get(&stage, &client, &old, "old"), 503, "token-keys-unavailable");
    let source = stage.setup.json(&["source", "show", "10.77.0.2"]).unwrap();
    assert_eq!(source["debts"]["auth_failures"]["debt_ns"], 0, "{source}");

    // The agent keeps trying.
    let identity = stage.setup.authority.issue(&["127.0.0.1"]).unwrap();
    let server = KeyServer::start(&stage.edge, ADDRESS, &identity, &set(&[("old", &old)])).unwrap();
    until("the keys come by themselves", || Ok(get(&stage, &client, &old, "old").status == 200)).unwrap();

    // Once the interval is over, the first request with a new key waits for it.
    server.publish(&set(&[("old", &old), ("new", &new)]));
    std::thread::sleep(Duration::from_millis(1_100));
    assert_answer(&get(&stage, &client, &new, "new"), 200, "");
    assert_answer(&get(&stage, &client, &old, "old"), 200, "");

    // What is removed is refused at once, and by its name when a fetch that began after it was asked for did not bring it.
    server.publish(&set(&[("new", &new)]));
    let refreshed = stage.setup.json(&["issuer", "refresh", "published"]).unwrap();
    assert_eq!(refreshed["keys"], json!([{ "algorithm": "ES256", "id": "new" }]));
    assert_ne!(get(&stage, &client, &old, "old").status, 200);
    until("the removed key is unknown", || Ok(get(&stage, &client, &old, "old").status == 401)).unwrap();
    assert_answer(&get(&stage, &client, &old, "old"), 401, "token-key-unknown");
    assert_answer(&get(&stage, &client, &new, "new"), 200, "");

    // An outage, and a crash in it.
    drop(server);
    let failed = stage.setup.cli(&["issuer", "refresh", "published"]).unwrap();
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(!failed.status.success() && said.contains("can't be reached"), "{said}");
    assert_answer(&get(&stage, &client, &new, "new"), 200, "");
    stage.kill().unwrap();
    stage.restart().unwrap();
    assert_answer(&get(&stage, &client, &new, "new"), 200, "");
    let issuers = stage.setup.json(&["issuer", "list"]).unwrap();
    let published = &issuers["issuers"][1];
    assert_eq!((&published["name"], published["fetched"].is_u64()), (&json!("published"), true), "{issuers}");
}

#[test]
fn without_a_bundle_of_its_own_an_issuers_server_is_trusted_as_the_host_says() {
    if !privilege::kernel_usable("the host's authorities") {
        return;
    }
    let stage = Stage::without_agent(&ISSUER.replace("ca = \"ca.pem\"\n", "")).unwrap();
    let (authority, issuer) = (&stage.setup.authority, Issuer::new().unwrap());
    let identity = authority.issue(&["127.0.0.1"]).unwrap();
    let _server = KeyServer::start(&stage.edge, ADDRESS, &identity, &set(&[("k", &issuer)])).unwrap();
    let stranger = Authority::new().unwrap();
    for (trusted, status) in [(stranger.pem(), 503), (authority.pem(), 200)] {
        stage.setup.write(HOST_AUTHORITIES, trusted).unwrap();
        let _agent = stage.setup.start(&stage.edge).unwrap();
        let published = || anyhow::Ok(stage.setup.json(&["issuer", "list"])?["issuers"][1].clone());
        until("a fetch ends", || {
            let published = published()?;
            Ok(published["fetches"] != 0 || published["failures"] != 0)
        })
        .unwrap();
        let answer = get(&stage, &stage.client(2).unwrap(), &issuer, "k");
        assert_eq!(answer.status, status, "{}", published().unwrap());
    }
}
