//! `auth-agent audit`

use std::time::Duration;

use super::table::table;
use crate::control::is_unprintable;
use crate::control::messages::{AuditList, AuditRecord};

/// The list at the control API.
pub(super) fn target(since: Option<Duration>, limit: Option<u32>) -> String {
    let since = since.map(|since| format!("since_seconds={}", since.as_secs()));
    let wanted: Vec<_> = since.into_iter().chain(limit.map(|limit| format!("limit={limit}"))).collect();
    if wanted.is_empty() { "/v1/audit".to_owned() } else { format!("/v1/audit?{}", wanted.join("&")) }
}

pub(super) fn list(list: &AuditList) -> String {
    let rows: Vec<_> = list.entries.iter().map(row).collect();
    table(["TIME", "WHO", "ACTION", "OUTCOME", "DETAIL"], &rows)
}

fn row(entry: &AuditRecord) -> [String; 5] {
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(entry.time.0);
    let peer = entry.uid.map(|uid| {
        let pid = entry.pid.map(|pid| format!(" pid {pid}")).unwrap_or_default();
        format!(" uid {uid}{pid}")
    });
    [
        humantime::format_rfc3339_seconds(time).to_string(),
        format!("{}{}", entry.actor, peer.unwrap_or_default()),
        entry.action.clone(),
        entry.outcome.clone(),
        entry.detail.to_string(),
    ]
    .map(|cell| safe(&cell))
}

fn safe(cell: &str) -> String {
    cell.chars().map(|c| if is_unprintable(c) { c.escape_unicode().to_string() } else { c.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;

    #[test]
    fn an_entry_is_a_line_whatever_it_holds() {
        let entry = AuditRecord {
            action: "ban.add".to_owned(),
            actor: "operator".to_owned(),
            detail: serde_json::json!({ "reason": "a\u{202e}b" }),
            gid: Some(0),
            outcome: "done".to_owned(),
            pid: Some(42),
            seq: 1,
            time: UnixTime(1_700_000_000),
            uid: Some(1000),
        };
        let text = list(&AuditList { entries: vec![entry] });
        let line = text.lines().nth(1).unwrap();
        let expected =
            r#"2023-11-14T22:13:20Z  operator uid 1000 pid 42  ban.add  done     {"reason":"a\u{202e}b"}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn what_is_wanted_is_asked_for() {
        for (since, limit, expected) in [
            (None, None, "/v1/audit"),
            (Some(3600), None, "/v1/audit?since_seconds=3600"),
            (Some(60), Some(5), "/v1/audit?since_seconds=60&limit=5"),
        ] {
            assert_eq!(target(since.map(Duration::from_secs), limit), expected);
        }
    }
}
