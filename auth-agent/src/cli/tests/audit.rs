//! `auth-agent audit`

use super::{Desk, at};

#[test]
fn who_changed_what_is_listed() {
    let desk = Desk::open(&[]);
    assert!(
        at(&desk, &["audit"]).1.contains("agent  signing-key.put  done "),
        "what the agent did by itself"
    );
    at(&desk, &["ban", "add", "192.0.2.7", "--reason", "scraper"]);
    at(&desk, &["ban", "remove", "192.0.2.8"]);
    let (code, out, err) = at(&desk, &["audit", "--since", "1h"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[2].contains("  ban.add          done"), "{out}");
    assert!(lines[2].ends_with(r#"{"network":"192.0.2.7/32","reason":"scraper"}"#), "{out}");
    assert!(lines[3].contains("  ban.remove       refused"), "{out}");
    assert_eq!(at(&desk, &["audit", "--limit", "1"]).1.lines().count(), 2);
    let (code, out, _) = at(&desk, &["--json", "audit"]);
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, list["entries"].as_array().unwrap().len()), (0, 3));
    assert_eq!(at(&desk, &["audit", "--limit", "0"]).0, 64);
}
