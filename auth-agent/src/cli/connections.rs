//! `auth-agent connection`: what it asks, and its answers for people.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::table::table;
use crate::clock::UnixTime;
use crate::control::is_unprintable;
use crate::control::messages::{ConnectionEntry, ConnectionList, EndedConnections};
use crate::duration::relative;

/// The path and query that list the connections that match.
pub(super) fn target(source: Option<IpNet>, subject: Option<&str>) -> String {
    let source = source.map(|source| format!("source={source}"));
    let subject = subject.map(|subject| format!("subject={}", encoded(subject)));
    let query: Vec<_> = source.into_iter().chain(subject).collect();
    match query.as_slice() {
        [] => "/v1/connections".to_owned(),
        query => format!("/v1/connections?{}", query.join("&")),
    }
}

/// RFC 3986 2.1: everything that is not unreserved.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

pub(super) fn list(list: &ConnectionList, now: UnixTime) -> String {
    match list.connections.as_slice() {
        [] => "no open connections\n".to_owned(),
        connections => rows(connections, now),
    }
}

pub(super) fn ended(ended: &EndedConnections, now: UnixTime) -> String {
    let connections = match ended.ended.len() {
        0 => return "no connection to end\n".to_owned(),
        1 => "ended 1 connection".to_owned(),
        count => format!("ended {count} connections"),
    };
    let dropped = match (ended.dropped, ended.dropped_until) {
        (Some(dropped), Some(until)) if dropped < ended.ended.len() => format!(
            "; the kernel drops what still comes of {dropped} of them, and has no room for more; that ends {}",
            relative(until, now)
        ),
        (Some(_), Some(until)) => {
            format!("; the kernel drops what still comes of them; that ends {}", relative(until, now))
        }
        _ => String::new(),
    };
    format!("{}\n{connections}{dropped}\n", rows(&ended.ended, now))
}

fn rows(connections: &[ConnectionEntry], now: UnixTime) -> String {
    let rows = connections.iter().map(|connection| {
        [
            connection.id.to_string(),
            whose(connection),
            connection.listener.to_string(),
            connection.protocol.clone(),
            relative(connection.accepted, now),
            connection.requests.to_string(),
            connection.open_requests.to_string(),
            connection.subject.as_deref().map(printable).unwrap_or_default(),
        ]
    });
    let head = ["ID", "SOURCE", "LISTENER", "PROTOCOL", "ACCEPTED", "REQUESTS", "OPEN", "SUBJECT"];
    table(head, &rows.collect::<Vec<_>>())
}

/// The client, and the proxy that its packets come by.
fn whose(connection: &ConnectionEntry) -> String {
    let source = SocketAddr::new(connection.source, connection.source_port);
    connection.client.map_or_else(|| source.to_string(), |client| format!("{client} via {source}"))
}

/// A subject is its issuer's word, and may hold what reorders a line.
pub(super) fn printable(text: &str) -> String {
    let escaped = |character: char| match is_unprintable(character) {
        true => character.escape_unicode().to_string(),
        false => character.to_string(),
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_query_whatever_is_in_it() {
        let network = |text: &str| Some(text.parse().unwrap());
        for (source, subject, expected) in [
            (None, None, "/v1/connections"),
            (network("192.0.2.0/24"), None, "/v1/connections?source=192.0.2.0/24"),
            (None, Some("a b&source=x#é"), "/v1/connections?subject=a%20b%26source%3Dx%23%C3%A9"),
            (network("2001:db8::/32"), Some("ci"), "/v1/connections?source=2001:db8::/32&subject=ci"),
        ] {
            assert_eq!(target(source, subject), expected);
        }
    }

    #[test]
    fn a_subject_that_reorders_its_line_is_shown_escaped() {
        assert_eq!(printable("al\u{202e}ice\u{7}é"), "al\\u{202e}ice\\u{7}é");
    }
}
