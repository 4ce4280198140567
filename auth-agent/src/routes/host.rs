//! Host names as they are looked up.

use std::io::Write as _;
use std::net::Ipv6Addr;

/// RFC 1035, 2.3.4, in text; any IPv6 address is shorter.
pub(super) const MAX_BYTES: usize = 253;

/// The one spelling of a name or an address; none for what no route can name.
pub(super) fn key<'k>(host: &'k str, buffer: &'k mut [u8; MAX_BYTES]) -> Option<&'k str> {
    if host.contains(':') {
        let address: Ipv6Addr = host.parse().ok()?;
        let mut rest = &mut buffer[..];
        write!(rest, "{address}").ok()?;
        let left = rest.len();
        return str::from_utf8(&buffer[..MAX_BYTES - left]).ok();
    }
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(host);
    }
    let lower = buffer.get_mut(..host.len())?;
    lower.copy_from_slice(host.as_bytes());
    lower.make_ascii_lowercase();
    str::from_utf8(lower).ok()
}

/// What remains of a name without its first label, its first two, and so on: the longest first.
pub(super) fn parents(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(host.split_once('.'), |(_, parent)| parent.split_once('.'))
        .map(|(_, parent)| parent)
}
