//! `auth-agent issuer`, and issuers' keys where no agent runs.

use std::sync::Arc;

use super::Failure;
use super::table::table;
use crate::clock::UnixTime;
use crate::config::Config;
use crate::control::is_unprintable;
use crate::control::messages::{IssuerList, IssuersStatus};
use crate::duration::{relative, relative_or};
use crate::issuers::{IssuerKey, IssuerStatus, offline};
use crate::token::{Inspection, TokenError, Verifier};

pub(super) fn list(list: &IssuerList, now: UnixTime) -> String {
    if list.issuers.is_empty() {
        return "no issuers: an [[issuer]] of the configuration is one\n".to_owned();
    }
    let rows = list.issuers.iter().map(|issuer| {
        [
            issuer.name.clone(),
            state(issuer).to_owned(),
            issuer.keys.len().to_string(),
            issuer.fetched.map(|fetched| relative(fetched, now)).unwrap_or_default(),
            relative_or("", issuer.next_refresh, now),
            issuer.issuer.clone(),
            issuer.source.clone(),
        ]
    });
    let head = ["NAME", "STATE", "KEYS", "FETCHED", "NEXT REFRESH", "ISSUER", "SOURCE"];
    let table = table(head, &rows.collect::<Vec<_>>());
    list.issuers.iter().fold(table, |text, issuer| text + &details(issuer))
}

/// A line of `status`, where something is wrong.
pub(super) fn summary(issuers: &IssuersStatus) -> String {
    match issuers {
        IssuersStatus { failing: 0, without_keys: 0, .. } => String::new(),
        IssuersStatus { failing, total, without_keys } => format!(
            "issuers    {total}, {without_keys} without keys, {failing} failing: `auth-agent issuer list` says why\n"
        ),
    }
}

fn state(issuer: &IssuerStatus) -> &'static str {
    match (issuer.keys.is_empty(), &issuer.error) {
        (true, _) => "no keys",
        (false, Some(_)) => "stale",
        (false, None) => "fresh",
    }
}

fn details(issuer: &IssuerStatus) -> String {
    let name = &issuer.name;
    let keys = issuer.keys.iter().map(|key| format!("{name}: {}\n", shown(key)));
    let skipped = issuer.skipped.iter().map(|reason| format!("{name}: not used: {reason}\n"));
    let errors = [("", &issuer.error), ("not kept for a restart: ", &issuer.save_error)];
    let errors = errors
        .into_iter()
        .filter_map(|(what, error)| error.as_ref().map(|error| format!("{name}: error: {what}{error}\n")));
    keys.chain(skipped).chain(errors).map(|line| safe(&line)).collect()
}

/// What a server said can neither drive the terminal nor look like another line.
fn safe(line: &str) -> String {
    let text = line.trim_end_matches('\n').chars();
    let escaped = text.map(|c| if is_unprintable(c) { c.escape_unicode().to_string() } else { c.into() });
    escaped.chain(["\n".to_owned()]).collect()
}

/// Escaped: a `kid` is the issuer's text, and this a terminal.
fn shown(key: &IssuerKey) -> String {
    match &key.id {
        Some(id) => format!("kid {id:?}, {}", key.algorithm),
        None => format!("a key without kid, {}", key.algorithm),
    }
}

pub(super) fn refreshed(issuer: &IssuerStatus, now: UnixTime) -> String {
    let next = issuer.next_refresh.map(|next| format!("; next refresh {}", relative(next, now)));
    format!(
        "refreshed {}: {} keys{}\n{}",
        issuer.name,
        issuer.keys.len(),
        next.unwrap_or_default(),
        details(issuer)
    )
}

/// Names need no escaping in a path; anything else is no name.
pub(super) fn refresh_target(name: &str) -> Result<String, Failure> {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(right) {
        return Err(Failure::new(format!(
            "{name:?} is no name of an issuer: `auth-agent issuer list` shows them"
        )));
    }
    Ok(format!("/v1/issuers/{name}/refresh"))
}

/// What a token can be held against without a running agent.
pub(super) struct Offline {
    notes: Vec<(Arc<str>, String)>,
    pub(super) tokens: Verifier,
}

impl Offline {
    /// Where the keys are from that a token was checked with, or why there were none.
    pub(super) fn notes_on(&self, inspection: &Inspection) -> impl Iterator<Item = &str> {
        let used = inspection.key.as_ref().map(|key| key.issuer.as_str());
        let wanting = inspection.refusal == Some(TokenError::KeysUnavailable);
        let notes =
            self.notes.iter().filter(move |(name, _)| used == Some(&**name) || used.is_none() && wanting);
        notes.map(|(_, note)| note.as_str())
    }
}

/// The configured issuers with the keys of their files, and with the last good ones of those that publish theirs.
pub(super) fn offline_verifier(config: &Config, now: UnixTime) -> Result<Offline, Failure> {
    let tokens = Verifier::load(&config.issuers, config.sizes.token_bytes.get());
    let tokens = tokens.map_err(|error| Failure::new(error.to_string()))?;
    let notes = offline(&config.issuers, &config.store.directory, &tokens, now);
    Ok(Offline { notes, tokens })
}
