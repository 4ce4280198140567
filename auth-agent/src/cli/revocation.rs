//! `auth-agent revoke` and `auth-agent revocation`: what they ask, and the answers for people.

use std::io::Read;

use super::Failure;
use super::args::{OfIssuer, RevocationVerb, RevokeOptions, RevokeVerb};
use super::connections::printable;
use super::table::table;
use crate::clock::UnixTime;
use crate::control::messages::{RevocationEntry, RevocationList, Revoke, Revoked};
use crate::duration::relative;
use crate::revocation::Target;

/// Bytes of standard input: as many tokens as one request may hold.
const STDIN_BYTES: u64 = 64 << 20;

/// What `revoke` asks for.
pub(super) fn request(verb: RevokeVerb, input: impl Read, now: UnixTime) -> Result<Revoke, Failure> {
    let (targets, tokens, RevokeOptions { before, reason }) = match verb {
        RevokeVerb::Client { client, issuer: OfIssuer { issuer }, options } => {
            (vec![Target::Client { client, issuer }], Vec::new(), options)
        }
        RevokeVerb::Issuer { name, options } => (vec![Target::Issuer { issuer: name }], Vec::new(), options),
        RevokeVerb::Key { id, options } => (vec![Target::Key { key: id }], Vec::new(), options),
        RevokeVerb::Subject { issuer: OfIssuer { issuer }, options, subject } => {
            (vec![Target::Subject { issuer, subject }], Vec::new(), options)
        }
        RevokeVerb::Token { id: Some(token_id), issuer: OfIssuer { issuer }, options, .. } => {
            let target = Target::TokenId { issuer: issuer.unwrap_or_default(), token_id };
            (vec![target], Vec::new(), options)
        }
        RevokeVerb::Token { id: None, issuer: OfIssuer { issuer: Some(_) }, .. } => {
            return Err(Failure::new("--issuer goes with --id: a token says itself whose it is"));
        }
        RevokeVerb::Token { id: None, options, token, .. } => {
            let token = token.unwrap_or_default();
            let tokens = if token == "-" { lines(input)? } else { vec![token] };
            (Vec::new(), tokens, options)
        }
    };
    Ok(Revoke { before: before.map(|before| before.at(now)), reason, targets, tokens })
}

fn lines(input: impl Read) -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    input
        .take(STDIN_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("can't read tokens from standard input: {error}")))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The method's path and query.
pub(super) fn target(verb: &RevocationVerb) -> String {
    match verb {
        RevocationVerb::List { after, limit } => {
            let after = after.map(|after| format!("after={after}"));
            let limit = limit.map(|limit| format!("limit={limit}"));
            let query: Vec<_> = after.into_iter().chain(limit).collect();
            if query.is_empty() {
                "/v1/revocations".to_owned()
            } else {
                format!("/v1/revocations?{}", query.join("&"))
            }
        }
        RevocationVerb::Remove { id } => format!("/v1/revocations/{id}"),
    }
}

pub(super) fn revoked(revoked: &Revoked, now: UnixTime) -> String {
    let ended = revoked.ended;
    let ended = match (ended.connections, ended.requests) {
        (0, 0) => "nothing was going on with it".to_owned(),
        (connections, 0) => format!("ended {}", counted(connections, "connection")),
        (0, requests) => format!("cut off {}", counted(requests, "request")),
        (connections, requests) => {
            format!("ended {}, cut off {}", counted(connections, "connection"), counted(requests, "request"))
        }
    };
    match revoked.revocations.as_slice() {
        [one] => format!("revoked {}; {ended}\n", described(one, now)),
        several => format!("revoked {}; {ended}\n", counted(several.len(), "token")),
    }
}

pub(super) fn removed(entry: &RevocationEntry) -> String {
    format!("{} is no longer revoked\n", printable(&entry.target.to_string()))
}

pub(super) fn list(list: &RevocationList, now: UnixTime) -> String {
    if list.revocations.is_empty() {
        return if list.total == 0 { "nothing is revoked\n" } else { "no more\n" }.to_owned();
    }
    let rows = list.revocations.iter().map(|entry| {
        [
            entry.id.clone(),
            printable(&entry.target.to_string()),
            entry.before.map_or_else(|| "all".to_owned(), |before| relative(before, now)),
            entry.until.map_or_else(|| "never".to_owned(), |until| relative(until, now)),
            relative(entry.created, now),
            entry.reason.clone().unwrap_or_default(),
        ]
    });
    let rows = rows.collect::<Vec<_>>();
    let more = list.next.as_ref().map(|next| format!("{} in all; more with --after {next}\n", list.total));
    table(["ID", "REVOKED", "ISSUED BEFORE", "OVER", "MADE", "REASON"], &rows) + &more.unwrap_or_default()
}

fn described(entry: &RevocationEntry, now: UnixTime) -> String {
    let target = printable(&entry.target.to_string());
    let before = entry.before.map(|before| format!(", as far as issued before {}", relative(before, now)));
    let until = entry.until.map(|until| format!("; that is over {}", relative(until, now)));
    format!("{target}{}{}", before.unwrap_or_default(), until.unwrap_or_default())
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
