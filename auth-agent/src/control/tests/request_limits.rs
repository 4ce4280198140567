use serde_json::json;

use super::super::testing::Desk;
use crate::clock::Now;
use crate::config::tests::{MINIMAL, parse};
use crate::edge::SourceBudget;
use crate::identity::Method as By;
use crate::identity::tests::someone;
use crate::limits::{Asking, Standing};

/// Whether the user's request passes the limits.
pub(crate) fn passes(desk: &Desk, user: &str) -> bool {
    let text = "[[limit]]\nname = \"x\"\nby = [\"source\"]\nrate = \"1/h\"\n";
    // A route that the first limit is for.
    let config = parse(&format!("{MINIMAL}{text}")).unwrap();
    let (identity, method) = (someone(By::Jwt, user, &[]), http::Method::GET);
    let source = "203.0.113.1".parse().unwrap();
    let (identity, route) = (Some(&*identity), &config.routes[0]);
    let asking = Asking { identity, method: &method, now: Now::read(), route, source };
    desk.limiter.charge(&desk.limiter.current(), &asking, &Standing::default()).is_ok()
}

fn burst(desk: &Desk) -> serde_json::Value {
    desk.ask("GET", "/v1/request-limits", "").1["limits"][0]["budget"]["burst"].clone()
}

#[test]
fn a_limit_is_listed_set_and_taken_back_and_what_is_durable_is_stored() {
    let desk = Desk::open(&[]);
    let (_, listed) = desk.ask("GET", "/v1/request-limits", "");
    assert_eq!(
        listed["limits"][0],
        json!({
            "budget": { "burst": "2", "rate": "60/h" }, "by": ["principal"],
            "configured": { "burst": "2", "rate": "60/h" }, "count": "requests", "name": "per-user",
            "per": null, "set": null,
        })
    );
    assert_eq!(listed["limits"][1]["budget"], json!({ "amount": "1000" }));
    assert_eq!([(); 3].map(|()| passes(&desk, "alice")), [true, true, false]);

    let set = |durable: bool| {
        let body = json!({ "budget": { "rate": "60/h", "burst": "3" }, "durable": durable });
        desk.ask("POST", "/v1/request-limits/per-user", &body.to_string())
    };
    let (status, entry) = set(false);
    assert_eq!((status, &entry["set"]), (200, &json!("running")), "{entry}");
    assert_eq!([(); 2].map(|()| passes(&desk, "alice")), [true, false]);
    assert_eq!(desk.store.budgets().unwrap().len(), 0);
    assert_eq!(set(true).1["set"], "durable");
    assert_eq!(desk.store.budgets().unwrap().len(), 1);
    assert_eq!(burst(&desk), "3");
    // As a restart would have it.
    desk.limiter.set("per-user", None);
    desk.limiter.load(&desk.store, Now::read()).unwrap();
    assert_eq!(burst(&desk), "3");
    assert_eq!(desk.ask("DELETE", "/v1/request-limits/per-user", "").0, 200);
    assert_eq!((burst(&desk), desk.store.budgets().unwrap().len()), (json!("2"), 0));
    let (_, quota) = desk.ask("POST", "/v1/request-limits/monthly", r#"{"budget":{"amount":"5"}}"#);
    assert_eq!((&quota["budget"]["amount"], &quota["configured"]["amount"]), (&json!("5"), &json!("1000")));
}

#[test]
fn debts_are_shown_and_reset_for_whom_they_are() {
    let desk = Desk::open(&[]);
    passes(&desk, "alice");
    passes(&desk, "bob");
    let owed = |query: &str| {
        let (_, owing) = desk.ask("GET", &format!("/v1/debts?{query}"), "");
        owing["debts"].as_array().unwrap().len()
    };
    assert_eq!(["principal=alice", "principal=carol", "all=true"].map(owed), [1, 0, 2]);
    let (_, owing) = desk.ask("GET", "/v1/debts?principal=alice", "");
    assert_eq!((&owing["debts"][0]["remaining"], &owing["debts"][0]["most"]), (&json!(1), &json!(2)));
    let reset = |name: &str, body: &str| {
        let (status, answer) = desk.ask("POST", &format!("/v1/request-limits/{name}/reset"), body);
        (status, answer["budgets"].as_u64())
    };
    assert_eq!(reset("per-user", r#"{"principal":"alice"}"#), (200, Some(1)));
    assert_eq!(["principal=alice", "all=true"].map(owed), [0, 1]);
    assert_eq!(reset("requests", r#"{"source":"203.0.113.9"}"#), (200, Some(1)));
    assert_eq!(reset("auth-failures", r#"{"source":"203.0.113.9"}"#), (200, Some(1)));
    let source = "203.0.113.9".parse().unwrap();
    let expected = [(source, SourceBudget::Requests), (source, SourceBudget::AuthFailures)];
    assert_eq!(*desk.edge.forgiven.lock().unwrap(), expected);
    assert_eq!(reset("per-user", r#"{"all":true}"#), (200, Some(1)));
}

#[test]
fn what_does_not_fit_is_refused_with_its_cure() {
    let desk = Desk::open(&[]);
    for (method, target, body, status, said) in [
        (
            "POST",
            "/v1/request-limits/none",
            r#"{"budget":{"rate":"1/s"}}"#,
            404,
            "there are per-user, monthly",
        ),
        (
            "POST",
            "/v1/request-limits/per-user",
            r#"{"budget":{"rate":"1/x"}}"#,
            400,
            "such as \\\"100/min\\\"",
        ),
        ("POST", "/v1/request-limits/per-user", r#"{"budget":{"amount":"1"}}"#, 400, "rate: missing"),
        ("POST", "/v1/request-limits/monthly", r#"{"budget":{"rate":"1/s"}}"#, 400, "amount: missing"),
        ("POST", "/v1/request-limits/monthly", r#"{"budget":{"amount":"0"}}"#, 400, "write 1 to"),
        ("DELETE", "/v1/request-limits/per-user", "", 404, "`auth-agent limit list`"),
        ("POST", "/v1/request-limits/per-user/reset", "{}", 400, "exactly one of all"),
        ("POST", "/v1/request-limits/per-user/reset", r#"{"all":true,"key":"x"}"#, 400, "exactly one"),
        ("POST", "/v1/request-limits/none/reset", r#"{"all":true}"#, 404, "there are per-user"),
        ("POST", "/v1/request-limits/requests/reset", r#"{"all":true}"#, 400, "name the client's address"),
        ("GET", "/v1/debts", "", 400, "exactly one of all"),
    ] {
        let (found, answer) = desk.ask(method, target, body);
        assert_eq!(found, status, "{method} {target} {body}: {answer}");
        assert!(answer.to_string().contains(said), "{method} {target} {body}: {answer}");
    }
}
