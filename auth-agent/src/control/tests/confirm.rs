use serde_json::json;

use super::super::testing::Desk;
use super::super::*;

#[test]
fn a_change_that_is_not_confirmed_in_time_is_taken_back_from_list_and_kernel() {
    let desk = Desk::open(&[]);
    let within = |target: &str| format!("{target}?confirm_within_seconds=120");
    let (status, added) = desk.ask("POST", &within("/v1/bans"), r#"{"network":"203.0.113.0/24"}"#);
    assert_eq!(
        (status, &added["network"], &added["pending"]["id"]),
        (201, &json!("203.0.113.0/24"), &json!(1))
    );
    let (_, kept) = desk.ask("POST", &within("/v1/allows"), r#"{"network":"10.0.0.7"}"#);
    let limit = r#"{"network":"10.0.0.0/8","limits":{"packets":{"rate":"5/s"}}}"#;
    assert_eq!(desk.ask("POST", &within("/v1/limits"), limit).1["pending"]["kind"], "limit.set");
    assert_eq!(desk.ask("DELETE", &within("/v1/limits/10.0.0.0%2F8"), "").1["pending"]["id"], 4);
    let (_, pending) = desk.ask("GET", "/v1/pending", "");
    assert_eq!(pending["pending"].as_array().unwrap().len(), 4);
    assert_eq!(pending["pending"], desk.ask("GET", "/v1/status", "").1["pending"]);

    let kept = format!("/v1/pending/{}/confirm", kept["pending"]["id"]);
    assert_eq!(desk.ask("POST", &kept, ""), (200, json!({ "id": 2 })));
    assert_eq!(desk.ask("POST", &kept, "").1["reason"], "pending-missing");
    let networks = || desk.edge.told().iter().map(|rule| rule.network.to_string()).collect::<Vec<_>>();
    assert_eq!(networks(), ["198.51.100.0/24", "10.0.0.7/32", "203.0.113.0/24"]);

    let now = UnixTime::now();
    let next = desk.control.upkeep(now).unwrap().unwrap();
    assert!((100..=120).contains(&next.as_secs()), "{next:?}");
    assert_eq!(networks().len(), 3, "too early");
    assert_eq!(desk.control.upkeep(UnixTime(now.0 + 121)).unwrap(), None);
    assert_eq!(networks(), ["198.51.100.0/24", "10.0.0.7/32"]);
    assert_eq!(desk.ask("GET", "/v1/pending", "").1, json!({ "pending": [] }));
}

#[test]
fn at_the_start_what_nobody_confirmed_is_undone_before_the_kernel_is_told() {
    let desk = Desk::open(&[]);
    desk.ask("POST", "/v1/bans?confirm_within_seconds=60", r#"{"network":"203.0.113.0/24"}"#);
    desk.control.apply_rules(UnixTime(UnixTime::now().0 + 61)).unwrap();
    assert_eq!(desk.edge.told().len(), 1);
    assert_eq!(desk.ask("GET", "/v1/bans", "").1, json!({ "bans": [] }));
}
