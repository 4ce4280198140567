//! `X-Forwarded-For` and `Forwarded` (RFC 7239), read and written.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How this edge calls itself: an obfuscated identifier (RFC 7239, 6.3), which tells nothing about its network.
const BY: &str = "_auth-agent";

/// A field that can't be read, or names a client without an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

/// The client after some of the addresses, from the first on.
#[derive(Clone, Copy, Debug)]
enum Walk {
    /// None yet.
    Start,
    /// Proxies only; the first of them.
    Proxies(IpAddr),
    Client(IpAddr),
    /// The last one that is no proxy's has no address.
    Unreadable,
}

impl Walk {
    /// After one more. Of all that is no proxy, the last one counts.
    fn step(self, address: Option<IpAddr>, is_proxy: impl Fn(IpAddr) -> bool) -> Self {
        match (address, self) {
            (None, _) => Self::Unreadable,
            (Some(address), _) if !is_proxy(address) => Self::Client(address),
            (Some(address), Self::Start) => Self::Proxies(address),
            (Some(_), before) => before,
        }
    }

    fn end(self) -> Result<Option<IpAddr>, Unreadable> {
        match self {
            Self::Start => Ok(None),
            Self::Proxies(address) | Self::Client(address) => Ok(Some(address)),
            Self::Unreadable => Err(Unreadable),
        }
    }
}

/// The client that `X-Forwarded-For` names, over all fields of that name; none without one.
pub(super) fn client_of_x_forwarded_for(
    headers: &HeaderMap,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Result<Option<IpAddr>, Unreadable> {
    let mut walk = Walk::Start;
    for value in headers.get_all(X_FORWARDED_FOR) {
        for element in value.as_bytes().split(|byte| *byte == b',') {
            let address =
                str::from_utf8(element).ok().and_then(|text| parse_address(text.trim_matches([' ', '\t'])));
            walk = walk.step(address, &is_proxy);
        }
    }
    walk.end()
}

/// The client that the `for` parameters of `Forwarded` name; none without a field. Read from its end, which proxies
/// wrote: what the client wrote before that is not looked at, and can't spoil it.
pub(super) fn client_of_forwarded(
    headers: &HeaderMap,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Result<Option<IpAddr>, Unreadable> {
    let mut first = None;
    for value in headers.get_all(FORWARDED).iter().rev() {
        // From the right, a quote of the client's that is never closed comes after all that proxies added.
        let mut is_quoted = false;
        let ends_element = |byte: &u8| {
            is_quoted ^= *byte == b'"';
            *byte == b',' && !is_quoted
        };
        for text in value.as_bytes().rsplit(ends_element) {
            let (node, after) = element(str::from_utf8(text).map_err(|_| Unreadable)?)?;
            let address = node.and_then(parse_address).filter(|_| after.is_none()).ok_or(Unreadable)?;
            if !is_proxy(address) {
                return Ok(Some(address));
            }
            first = Some(address);
        }
    }
    Ok(first)
}

/// The `for` of the first element, and what follows its comma.
fn element(text: &str) -> Result<(Option<&str>, Option<&str>), Unreadable> {
    let (mut node, mut rest) = (None, text);
    loop {
        let (name, after) = rest.split_once('=').ok_or(Unreadable)?;
        let name = name.trim_matches([' ', '\t']);
        let (value, after) = value(after)?;
        if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() || name.contains([',', ';', '"'])
        {
            return Err(Unreadable);
        }
        let after = after.trim_start_matches([' ', '\t']);
        match after.as_bytes().first() {
            None => return Ok((node, None)),
            Some(b',') => return Ok((node, Some(&after[1..]))),
            Some(b';') => rest = &after[1..],
            Some(_) => return Err(Unreadable),
        }
    }
}

/// A token or a quoted string, and what follows it. An address needs no escape within its quotes.
fn value(text: &str) -> Result<(&str, &str), Unreadable> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, after) = quoted.split_once('"').ok_or(Unreadable)?;
        return if value.contains('\\') { Err(Unreadable) } else { Ok((value, after)) };
    }
    let end = text.find([',', ';', ' ', '\t', '"']).unwrap_or(text.len());
    Ok(text.split_at(end))
}

/// An address, with or without a port; IPv6 with or without brackets.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port).map(|address| address.to_canonical())
}

/// `Forwarded` for the upstream: one element, as nothing that was there before is passed on.
pub fn forwarded(client: IpAddr, host: &HeaderValue) -> Option<HeaderValue> {
    let host = host.to_str().ok()?;
    let mut text = String::with_capacity(64 + host.len());
    // What is no token stands in quotes, and neither an address nor a host holds one.
    match client {
        IpAddr::V4(client) => write!(text, "for={client}").ok()?,
        IpAddr::V6(client) => write!(text, "for=\"[{client}]\"").ok()?,
    }
    let quote = if host.contains([':', '[']) { "\"" } else { "" };
    write!(text, ";by={BY};host={quote}{host}{quote};proto=https").ok()?;
    HeaderValue::try_from(text).ok()
}
