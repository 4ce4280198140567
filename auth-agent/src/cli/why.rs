//! `auth-agent why`

use crate::clock::UnixTime;
use crate::control::is_unprintable;
use crate::control::messages::{CredentialStory, LimitStory, RequestStory, UpstreamStory};
use crate::duration::relative;
use crate::edge::{Debt, SourceView};

/// The path of a request at the control API. What no id has in it has no meaning there either.
pub(super) fn target(id: &str) -> String {
    let escaped = id.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    format!("/v1/requests/{}", escaped.collect::<String>())
}

pub(super) fn story(story: &RequestStory, now: UnixTime) -> String {
    let host = if story.host.is_empty() { "(no host)" } else { &story.host };
    let mut lines = vec![
        (
            "request",
            format!("{}, {} ({}), {}", story.id, story.time_text, relative(story.time, now), story.via),
        ),
        ("client", story.source.to_string()),
        ("asked for", format!("{} {host}{}", story.method, story.path)),
        ("route", story.route.clone().unwrap_or_else(|| "none was come to".to_owned())),
    ];
    match &story.credential {
        Some(credential) => lines.extend(credential_lines(credential, now)),
        None => lines.push(("credential", "none was looked at".to_owned())),
    }
    lines.extend(story.limits.iter().map(|limit| ("limit", limit_text(limit))));
    lines.extend(
        story.decided_by.iter().map(|decider| ("decided by", format!("{} {}", decider.kind, decider.name))),
    );
    lines.extend(story.upstream.iter().map(|upstream| ("upstream", upstream_text(upstream))));
    let why = story
        .reason
        .as_ref()
        .map(|reason| format!(" {reason}: {}", story.detail.as_deref().unwrap_or_default()));
    let answer = format!("{}{}, after {:.3} ms", story.status, why.unwrap_or_default(), story.duration_ms);
    lines.push(("answer", answer));
    lines.extend(story.kernel.iter().map(|view| ("kernel now", kernel_text(view, now))));
    lines.into_iter().map(|(name, text)| safe(&format!("{name:<11} {text}"))).collect()
}

fn credential_lines(credential: &CredentialStory, now: UnixTime) -> Vec<(&'static str, String)> {
    let claims = if credential.verified { "" } else { ", as it says itself:" };
    let mut text = format!("{}{claims}", credential.kind);
    let parts = [
        credential.issuer.as_ref().map(|issuer| format!(" issuer {issuer}")),
        credential.key.as_ref().map(|key| format!(" key {key}")),
        credential.key_age_seconds.map(|age| format!(" ({})", key_age(credential, age))),
        credential.expires.map(|expires| format!(", over {}", relative(expires, now))),
        credential.cached.map(|cached| if cached { ", remembered" } else { ", not remembered" }.to_owned()),
        credential.revoked.map(|revoked| if revoked { ", revoked" } else { ", not revoked" }.to_owned()),
    ];
    parts.into_iter().flatten().for_each(|part| text.push_str(&part));
    let who = credential.principal.as_ref().map(|principal| {
        let tenant = credential.tenant.as_ref().map(|tenant| format!(" of {tenant}")).unwrap_or_default();
        ("principal", format!("{principal}{tenant}, scopes: {}", credential.scopes.join(" ")))
    });
    [("credential", text)].into_iter().chain(who).collect()
}

fn key_age(credential: &CredentialStory, seconds: u64) -> String {
    let what = if credential.kind == "api-key" { "made" } else { "keys fetched" };
    format!("{what} {} before", humantime::format_duration(std::time::Duration::from_secs(seconds)))
}

fn limit_text(LimitStory { debt, limit, name }: &LimitStory) -> String {
    format!("{name}: {debt} of {limit} used")
}

fn upstream_text(upstream: &UpstreamStory) -> String {
    let endpoint = upstream
        .endpoint
        .as_ref()
        .map_or_else(|| ", no endpoint was asked".to_owned(), |endpoint| format!(" at {endpoint}"));
    let took = upstream.duration_ms.map(|took| format!(", {took:.3} ms")).unwrap_or_default();
    format!("{}{endpoint}{took}", upstream.name)
}

fn kernel_text(view: &SourceView, now: UnixTime) -> String {
    let debts = [
        ("packets", &view.debts.packets),
        ("connections", &view.debts.connections),
        ("requests", &view.debts.requests),
        ("failed authentications", &view.debts.auth_failures),
    ];
    let owed = debts.into_iter().filter(|(_, debt)| debt.debt_events > 0).map(|(name, debt)| {
        let Debt { burst, debt_events, dropped, .. } = debt;
        format!(", {name} {debt_events} of {burst}{}", if *dropped { ", dropped for it" } else { "" })
    });
    let banned = view.banned_until.map(|until| format!(", banned, over {}", relative(until, now)));
    let line = if view.in_table { "" } else { ", owes nothing" };
    let head = format!("{}, class {}, rule: {}{line}", view.source, view.class, view.rule);
    [head].into_iter().chain(owed).chain(banned).collect()
}

/// What a client sent can neither drive the terminal nor look like another line.
fn safe(line: &str) -> String {
    let escaped =
        line.chars().map(|c| if is_unprintable(c) { c.escape_unicode().to_string() } else { c.into() });
    escaped.chain(["\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::control::messages::DeciderStory;

    fn denied() -> RequestStory {
        RequestStory {
            credential: Some(CredentialStory {
                cached: Some(true),
                expires: Some(UnixTime(1_000_300)),
                issued_at: Some(UnixTime(999_000)),
                issuer: Some("idp".to_owned()),
                key: Some("k1".to_owned()),
                key_age_seconds: Some(90),
                kind: "jwt".to_owned(),
                principal: Some("alice".to_owned()),
                revoked: Some(false),
                scopes: vec!["mail:read".to_owned()],
                tenant: None,
                verified: true,
            }),
            decided_by: Some(DeciderStory { kind: "binding".to_owned(), name: "user_id".to_owned() }),
            detail: Some("not yours".to_owned()),
            duration_ms: 0.25,
            host: "api.example.com".to_owned(),
            id: "f00d".to_owned(),
            kernel: None,
            limits: vec![LimitStory { debt: 3, limit: 10, name: "per-user".to_owned() }],
            method: "GET".to_owned(),
            path: "/mail/\u{1b}[2J\nbob".to_owned(),
            reason: Some("object-foreign".to_owned()),
            route: Some("/mail/{user_id}".to_owned()),
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            status: 404,
            time: UnixTime(1_000_000),
            time_text: "1970-01-12T13:46:40.000Z".to_owned(),
            upstream: None,
            via: "edge".to_owned(),
        }
    }

    #[test]
    fn each_stage_is_a_line_and_nothing_that_was_sent_drives_the_terminal() {
        let text = story(&denied(), UnixTime(1_000_060));
        let lines: Vec<_> = text.lines().collect();
        for (line, start) in lines.iter().zip([
            "request     f00d, 1970-01-12T13:46:40.000Z",
            "client      127.0.0.1",
            r"asked for   GET api.example.com/mail/\u{1b}[2J\u{a}bob",
            "route       /mail/{user_id}",
            "credential  jwt issuer idp key k1 (keys fetched 1m 30s before), over ",
            "principal   alice, scopes: mail:read",
            "limit       per-user: 3 of 10 used",
            "decided by  binding user_id",
            "answer      404 object-foreign: not yours, after 0.250 ms",
        ]) {
            assert!(line.starts_with(start), "{line}\n{start}");
        }
        assert_eq!(lines.len(), 9, "{text}");
        assert!(text.contains(", remembered, not revoked"), "{text}");
    }

    #[test]
    fn what_a_refused_token_says_of_itself_is_told_as_its_own_words() {
        let mut story = denied();
        let credential = story.credential.as_mut().unwrap();
        (credential.verified, credential.principal) = (false, None);
        assert!(
            self::story(&story, UnixTime(1_000_060)).contains("jwt, as it says itself: issuer idp key k1")
        );
    }

    #[test]
    fn an_id_stays_one_segment_of_the_path() {
        assert_eq!(target("a/../b?c d"), "/v1/requests/a%2F..%2Fb%3Fc%20d");
    }
}
