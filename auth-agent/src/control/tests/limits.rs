use serde_json::json;

use super::super::testing::Desk;
use super::super::*;

/// The classes that the kernel was told of, as `network: requests per period`.
fn classes(desk: &Desk) -> Vec<String> {
    let rules = desk.edge.rules.lock().unwrap().clone();
    let class =
        |rule: &Rule| Some(format!("{}: {}", rule.network, rule.class()?.limits.requests.rate.events));
    rules.iter().filter_map(class).collect()
}

#[test]
fn limits_that_are_set_win_over_those_of_the_configuration_until_they_are_removed() {
    let desk = Desk::open(&[]);
    desk.control.apply_rules(UnixTime::now()).unwrap();
    assert_eq!(classes(&desk), ["192.0.2.0/24: 500"]);
    let set = |network: &str, rate: &str| {
        let body =
            json!({ "network": network, "limits": { "requests": { "rate": rate } }, "reason": "partner" });
        desk.ask("POST", "/v1/limits", &body.to_string())
    };
    let (status, entry) = set("192.0.2.0/24", "7/min");
    assert_eq!((status, &entry["limits"]["requests"]["rate"]), (201, &json!("7/min")), "{entry}");
    assert_eq!(entry["limits"]["packets"]["rate"], "20000/s", "what is left out is as in [limits]");
    set("192.0.2.7", "8/min");
    set("192.0.2.7", "9/min");
    assert_eq!(classes(&desk), ["192.0.2.0/24: 7", "192.0.2.7/32: 9"]);

    let (_, listed) = desk.ask("GET", "/v1/limits", "");
    let listed: Vec<_> = listed["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (entry["network"].as_str(), entry["class"].as_str().unwrap(), entry["obstacle"].is_null())
        })
        .collect();
    assert_eq!(
        listed,
        [
            (None, "default", true),
            (Some("192.0.2.0/24"), "partners", false),
            (Some("192.0.2.0/24"), "192.0.2.0/24", true),
            (Some("192.0.2.7/32"), "192.0.2.7/32", true),
        ]
    );
    let of = |address: &str| {
        let (_, answer) = desk.ask("GET", &format!("/v1/limits/{address}"), "");
        let limits = answer["limits"].as_array().unwrap();
        (answer["allowed"] == true, limits.iter().map(|entry| entry["class"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(
        of("192.0.2.7"),
        (false, vec![json!("192.0.2.7/32"), json!("192.0.2.0/24"), json!("default")])
    );
    assert_eq!(of("::ffff:192.0.2.9"), (false, vec![json!("192.0.2.0/24"), json!("default")]));
    assert_eq!(of("198.51.100.1"), (true, vec![json!("default")]));

    assert_eq!(desk.ask("DELETE", "/v1/limits/192.0.2.0%2F24", "").0, 200);
    assert_eq!(desk.ask("DELETE", "/v1/limits/192.0.2.7", "").0, 200);
    assert_eq!(classes(&desk), ["192.0.2.0/24: 500"]);
}

#[test]
fn more_different_limits_than_the_kernel_tells_apart_are_refused_before_they_are_stored() {
    let desk = Desk::open(&[]);
    let set = |n: u32| {
        let limits = json!({ "packets": { "burst": 1_000_000 + n } });
        let body = json!({ "network": format!("10.0.{n}.0/24"), "limits": limits });
        desk.ask("POST", "/v1/limits", &body.to_string())
    };
    for n in 0..254 {
        assert_eq!(set(n).0, 201);
    }
    let (status, problem) = set(254);
    assert_eq!((status, &problem["reason"]), (400, &json!("field-invalid")));
    assert_eq!(desk.control.store.limits().unwrap().len(), 254);
}
