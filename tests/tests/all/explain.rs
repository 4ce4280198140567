//! What the operator gets to know of requests and of changes: `why`, the access log and `audit`, of the real agent.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::agent::{LOG, until};
use tests::client::{Answer, Client, inside};
use tests::privilege;
use tests::stage::Stage;

const MORE: &str = r#"
[access_log]
to = "access.log"

[limits.requests]
rate = "60/min"
burst = 8
"#;

fn get(stage: &Stage, client: &Client, path: &str, credential: (&str, &str)) -> Answer {
    client.get_from(&stage.crowd, path, &[credential, ("x-request-id", "forged")]).unwrap()
}

fn why(stage: &Stage, answer: &Answer) -> Value {
    let id = answer.header("x-request-id");
    assert!(id.len() == 32 && id != "forged", "{id:?}");
    stage.setup.json(&["why", id]).unwrap()
}

/// What an operator reads.
fn told(stage: &Stage, answer: &Answer) -> String {
    let output = stage.setup.cli(&["why", answer.header("x-request-id")]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn lines(stage: &Stage, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(stage.setup.path(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_decision_can_be_explained_and_no_secret_is_told() {
    if !privilege::kernel_usable("explanations") {
        return;
    }
    let stage = Stage::new(MORE).unwrap();
    let setup = &stage.setup;
    let token = setup.issuer.token("alice", "read", 600).unwrap();
    let expired = setup.issuer.token("alice", "read", -60).unwrap();
    let created = setup.json(&["key", "create", "--name", "ci"]).unwrap();
    let (key_id, key) = (created["id"].as_str().unwrap(), created["key"].as_str().unwrap());
    let bearer = |token: &str| format!("Bearer {token}");
    let (good, bad) = (bearer(&token), bearer(&expired));
    let client = stage.client(3).unwrap();

    let answer = get(&stage, &client, "/x?q=s3cret", ("authorization", &good));
    let story = why(&stage, &answer);
    assert_eq!((&story["status"], &story["route"]), (&json!(200), &json!("/")), "{story}");
    assert_eq!((&story["path"], &story["source"]), (&json!("/x"), &json!("10.77.0.3")), "{story}");
    let credential = &story["credential"];
    assert_eq!((&credential["kind"], &credential["issuer"]), (&json!("jwt"), &json!("test")), "{story}");
    assert_eq!(
        (&credential["principal"], &credential["verified"]),
        (&json!("alice"), &json!(true)),
        "{story}"
    );
    assert_eq!((&credential["cached"], &credential["revoked"]), (&json!(false), &json!(false)), "{story}");
    assert_eq!(story["upstream"]["name"], "echo", "{story}");
    assert!(story["upstream"]["duration_ms"].as_f64() > Some(0.0), "{story}");
    assert_eq!(story["kernel"]["in_table"], true, "{story}");
    let seen = answer.body["headers"]["x-request-id"].clone();
    assert_eq!(seen, json!([answer.header("x-request-id")]), "the upstream is told: {}", answer.body);

    let remembered = get(&stage, &client, "/x", ("authorization", &good));
    assert_eq!(why(&stage, &remembered)["credential"]["cached"], true);
    let by_key = get(&stage, &client, "/x", ("x-api-key", key));
    let story = why(&stage, &by_key);
    assert_eq!(
        (&story["credential"]["kind"], &story["credential"]["key"]),
        (&json!("api-key"), &json!(key_id))
    );
    assert!(story["credential"]["key_age_seconds"].is_u64(), "{story}");

    let late = get(&stage, &client, "/x", ("authorization", &bad));
    let story = why(&stage, &late);
    assert_eq!((&story["status"], &story["reason"]), (&json!(401), &json!("token-expired")), "{story}");
    assert_eq!(late.body["request_id"], story["id"]);
    assert_eq!(
        (&story["credential"]["issuer"], &story["credential"]["verified"]),
        (&json!("test"), &json!(false))
    );
    let unscoped = get(&stage, &client, "/admin", ("authorization", &good));
    let story = why(&stage, &unscoped);
    assert_eq!((&story["status"], &story["reason"]), (&json!(403), &json!("scope-missing")), "{story}");
    assert_eq!((&story["route"], &story["upstream"]), (&json!("/admin"), &Value::Null), "{story}");

    let over = inside(&stage.crowd, async || {
        let mut session = client.connect_http2().await?;
        loop {
            let answer = session.get(&client, "/x", &[("authorization", &*good)]).await?;
            if answer.status != 200 {
                return Ok(answer);
            }
        }
    })
    .unwrap();
    let story = why(&stage, &over);
    assert_eq!((&story["status"], &story["reason"]), (&json!(429), &json!("request-limit")), "{story}");
    assert!(story["kernel"]["debts"]["requests"]["debt_events"].as_u64() > Some(0), "{story}");

    let said: String = [&answer, &late, &unscoped, &over].map(|answer| told(&stage, answer)).concat();
    for expected in
        ["jwt issuer test", "as it says itself", "token-expired", "scope-missing", "request-limit"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let unknown = setup.cli(&["why", "0123"]).unwrap();
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(!unknown.status.success() && error.contains("the start of this agent"), "{error}");

    until("the access log is written", || Ok(lines(&stage, "access.log").len() >= 8)).unwrap();
    let reasons: Vec<_> =
        lines(&stage, "access.log").into_iter().map(|line| line["reason"].clone()).collect();
    for reason in ["token-expired", "scope-missing", "request-limit"] {
        assert!(reasons.contains(&json!(reason)), "{reasons:?}");
    }
    let everything = [said, fs::read_to_string(setup.path("access.log")).unwrap()]
        .into_iter()
        .chain([fs::read_to_string(setup.path(LOG)).unwrap()])
        .collect::<String>();
    for secret in [&*token, &*expired, key, "s3cret"] {
        assert!(!everything.contains(secret), "{secret}");
    }
}

#[test]
fn the_access_log_is_made_anew_where_it_was_moved_away_and_on_a_hangup() {
    if !privilege::kernel_usable("the access log's rotation") {
        return;
    }
    let stage = Stage::new("[access_log]\nto = \"access.log\"\n").unwrap();
    let client = stage.client(4).unwrap();
    let ask = || client.get_from(&stage.crowd, "/open", &[]).unwrap();
    ask();
    until("the first line", || Ok(lines(&stage, "access.log").len() == 1)).unwrap();
    fs::rename(stage.setup.path("access.log"), stage.setup.path("access.log.1")).unwrap();
    let agent = stage.agent.as_ref().unwrap();
    tests::system::hang_up(agent.id()).unwrap();
    until("the file is there again", || Ok(stage.setup.path("access.log").exists())).unwrap();
    ask();
    until("the second line", || Ok(lines(&stage, "access.log").len() == 1)).unwrap();
    assert_eq!(lines(&stage, "access.log.1").len(), 1);
}

#[test]
fn who_changed_what_is_known_over_reloads_upgrades_and_restarts() {
    if !privilege::kernel_usable("the audit log") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let setup = &stage.setup;
    setup.json(&["ban", "add", "192.0.2.7", "--reason", "scraper"]).unwrap();
    setup.json(&["reload"]).unwrap();
    setup.json(&["upgrade"]).unwrap();
    let entries = |stage: &Stage| {
        let list = stage.setup.json(&["audit", "--since", "1h"]).unwrap();
        list["entries"].as_array().unwrap().clone()
    };
    let find = |stage: &Stage, action: &str| {
        let found = entries(stage).into_iter().find(|entry| entry["action"] == action);
        found.unwrap_or_else(|| panic!("{action}: {:#?}", entries(stage)))
    };
    until("the upgrade is written down", || {
        Ok(entries(&stage).iter().any(|entry| entry["action"] == "agent.upgrade"))
    })
    .unwrap();
    for action in ["ban.add", "config.reload", "agent.upgrade"] {
        let entry = find(&stage, action);
        assert_eq!((&entry["actor"], &entry["outcome"]), (&json!("operator"), &json!("done")), "{entry}");
        assert_eq!(entry["uid"], 0, "{entry}");
        let age = entry["time"].as_u64().unwrap().abs_diff(began.as_secs());
        assert!(age < Duration::from_secs(600).as_secs(), "{entry}");
    }
    assert_eq!(find(&stage, "ban.add")["detail"], json!({ "network": "192.0.2.7/32", "reason": "scraper" }));
    assert_eq!(find(&stage, "config.reload")["detail"]["sha256"].as_str().map(str::len), Some(64));
    let before = entries(&stage);
    let pid = stage.setup.json(&["status"]).unwrap()["pid"].as_u64().unwrap();
    tests::system::terminate(u32::try_from(pid).unwrap()).unwrap();
    until("the agent has ended", || Ok(!stage.setup.path("control.sock").exists())).unwrap();
    stage.restart().unwrap();
    assert_eq!(entries(&stage)[..before.len()], before);
}
