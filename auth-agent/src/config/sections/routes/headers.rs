//! `route.request_headers` and `route.response_headers`

use http::{HeaderName, HeaderValue};
use toml::de::DeValue;

use crate::config::HeaderChanges;
use crate::config::document::{Checked, Section, shown, wrong};
use crate::config::values;
use crate::headers::{is_spelling_of, says_where_it_came_from};

/// Which way the fields go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// Where a message ends, and what concerns its connection only, by name: RFC 9110, 7.6.1 and 8.6, RFC 9112, 6.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
/// Credentials, and what a request is for.
const OF_REQUESTS: [&str; 3] = ["authorization", "cookie", "host"];
/// What only we say, or only the upstream may.
const OF_RESPONSES: [&str; 3] = ["set-cookie", "set-cookie2", "www-authenticate"];

/// `{ set = { name = "value" }, remove = ["name"] }`
pub(super) fn changes(
    mut section: Section<'_>,
    direction: Direction,
    identity: &[&HeaderName],
) -> HeaderChanges {
    let name = |text: &str| header(text, direction, identity);
    let set = section.entries("set", |key, value| {
        Ok::<(HeaderName, HeaderValue), _>((name(key)?, values::header_value(value)?))
    });
    let remove =
        section.list("remove", |value: &DeValue<'_>| name(&values::text(value)?)).unwrap_or_default();
    if let Some((twice, _)) = set.iter().find(|(name, _)| remove.contains(name)) {
        let cure = "take it out of one of the two: what is set replaces what is there";
        section.check("remove", wrong(format!("{twice} is set, too"), cure));
    }
    section.finish();
    HeaderChanges { remove, set }
}

fn header(text: &str, direction: Direction, identity: &[&HeaderName]) -> Checked<HeaderName> {
    const CURE: &str = "write letters, digits and hyphens, such as \"x-frame-options\"";
    let name = text.to_ascii_lowercase();
    // Servers read `_` and `.` as `-`, or not at all.
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !plain {
        return wrong(format!("\"{}\" is not a header name that can be used", shown(text)), CURE);
    }
    let of_its_own: &[&str] = match direction {
        Direction::Request => &OF_REQUESTS,
        Direction::Response => &OF_RESPONSES,
    };
    let is_ours = identity.iter().any(|ours| is_spelling_of(&name, ours.as_str()))
        || direction == Direction::Request && says_where_it_came_from(&name)
        || name.starts_with("proxy-");
    if is_ours || FRAMING.contains(&name.as_str()) || of_its_own.contains(&name.as_str()) {
        return wrong(format!("{} is not a route's to change", shown(&name)), "take it out");
    }
    HeaderName::try_from(name).or_else(|_| wrong("a header name that is too long", CURE))
}
