//! Changes that undo themselves unless they are confirmed (promise P11).

use std::thread::sleep;
use std::time::{Duration, Instant};

use auth_agent::clock::UnixTime;
use tests::client::Client;
use tests::privilege;
use tests::stage::Stage;

/// Between a deadline and its undoing lies a round of upkeep at most; the rest is for a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn reaches(stage: &Stage, client: &Client) -> bool {
    client.get_from(&stage.crowd, "/open", &[]).is_ok()
}

fn until_it_reaches(stage: &Stage, client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    while !reaches(stage, client) {
        assert!(Instant::now() < deadline, "still locked out");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn who_locks_himself_out_and_can_not_confirm_is_let_in_again() {
    if !privilege::kernel_usable("undoing a lock-out on the wire") {
        return;
    }
    let stage = Stage::new("").unwrap();
    let operator = stage.client(3).unwrap();
    assert!(reaches(&stage, &operator));
    let ban = stage.setup.json(&["ban", "add", "10.77.0.0/16", "--confirm-within", "4s"]).unwrap();
    assert_eq!(ban["pending"]["kind"], "ban.add", "{ban}");
    assert!(!reaches(&stage, &operator));
    until_it_reaches(&stage, &operator);
    assert_eq!(stage.setup.json(&["ban", "list"]).unwrap()["bans"], serde_json::json!([]));
    assert_eq!(stage.setup.json(&["pending"]).unwrap()["pending"], serde_json::json!([]));
}

#[test]
fn a_killed_agent_undoes_at_its_next_start_what_nobody_confirmed_and_keeps_what_somebody_did() {
    if !privilege::kernel_usable("undoing after kill -9") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    let [undone, kept] = [3, 4].map(|number| stage.client(number).unwrap());
    stage.setup.json(&["ban", "add", "10.77.0.4", "--confirm-within", "1h"]).unwrap();
    stage.setup.json(&["confirm"]).unwrap();
    let ban = stage.setup.json(&["ban", "add", "10.77.0.3", "--confirm-within", "2s"]).unwrap();
    let deadline = ban["pending"]["deadline"].as_u64().unwrap();
    stage.kill().unwrap();
    // It passes while nobody is there to see it.
    while UnixTime::now().0 <= deadline {
        sleep(Duration::from_millis(50));
    }
    stage.restart().unwrap();
    let listed = stage.setup.json(&["ban", "list"]).unwrap();
    let networks: Vec<_> =
        listed["bans"].as_array().unwrap().iter().map(|ban| ban["network"].clone()).collect();
    assert_eq!(networks, ["10.77.0.4/32"]);
    assert!(reaches(&stage, &undone) && !reaches(&stage, &kept));
}
