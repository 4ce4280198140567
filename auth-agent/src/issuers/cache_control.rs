//! How long a response says that it is fresh (RFC 9111).

use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES};
use http::{HeaderMap, HeaderName};

/// RFC 9111 1.2.2: who counts further than this counts as if it were this.
const MAX_SECONDS: u64 = 1 << 31;

/// What is left of the response's lifetime (RFC 9111 4.2), by a cache of our own: `s-maxage` is for shared ones. `None`:
/// it says nothing that can be understood. What must not be stored, or not be used again unasked, is stale at once.
pub(super) fn freshness(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let directives = directives(headers);
    if directives.iter().any(|(name, _)| name == "no-store" || name == "no-cache") {
        return Some(Duration::ZERO);
    }
    let max_age = directives.iter().find(|(name, _)| name == "max-age");
    let lifetime = match max_age {
        Some((_, value)) => seconds(value)?,
        None => expires(headers, now)?,
    };
    let age = text(headers, &AGE).and_then(seconds).unwrap_or_default();
    Some(lifetime.saturating_sub(age))
}

/// Names in lower case, and values without quotes; a quoted comma ends a value, which then is no number.
fn directives(headers: &HeaderMap) -> Vec<(String, &str)> {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let parts = lines.flat_map(|line| line.split(','));
    let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'))).collect()
}

fn expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    // RFC 9111 5.3: a date that is none, such as 0, lies in the past.
    let Ok(expires) = httpdate::parse_http_date(text(headers, &EXPIRES)?) else {
        return Some(Duration::ZERO);
    };
    let date = text(headers, &DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(expires.duration_since(date).unwrap_or_default())
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// RFC 9111 1.2.2: digits alone.
fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().unwrap_or(MAX_SECONDS).min(MAX_SECONDS)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    type Fields = &'static [(&'static str, &'static str)];

    fn fresh(fields: Fields) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        freshness(&headers, httpdate::parse_http_date(NOW).unwrap()).map(|left| left.as_secs())
    }

    #[test]
    fn freshness_is_what_the_fields_say() {
        let table: [(Fields, Option<u64>); _] = [
            (&[], None),
            (&[("cache-control", "max-age=600")], Some(600)),
            (&[("cache-control", "public, MAX-AGE=600, must-revalidate")], Some(600)),
            (&[("cache-control", "max-age=\"600\"")], Some(600)),
            (&[("cache-control", "public"), ("cache-control", "max-age=7")], Some(7)),
            (&[("cache-control", "max-age=600"), ("age", "100")], Some(500)),
            (&[("cache-control", "max-age=600"), ("age", "1000")], Some(0)),
            (&[("cache-control", "max-age=600"), ("age", "x")], Some(600)),
            (&[("cache-control", "s-maxage=600")], None),
            (&[("cache-control", "max-age=600, no-cache")], Some(0)),
            (&[("cache-control", "no-store")], Some(0)),
            (&[("cache-control", "max-age=0")], Some(0)),
            (&[("cache-control", "max-age=-1")], None),
            (&[("cache-control", "max-age=1.5")], None),
            (&[("cache-control", "max-age=+5")], None),
            (&[("cache-control", "max-age")], None),
            (&[("cache-control", "max-age=99999999999999999999999")], Some(MAX_SECONDS)),
            (&[("cache-control", "max-age=5"), ("expires", "0")], Some(5)),
            (&[("expires", "Sun, 06 Nov 1994 08:59:37 GMT")], Some(600)),
            (
                &[("expires", "Sun, 06 Nov 1994 08:59:37 GMT"), ("date", "Sun, 06 Nov 1994 08:58:37 GMT")],
                Some(60),
            ),
            (&[("expires", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0)),
            (&[("expires", "0")], Some(0)),
            (&[("expires", "Sun, 06 Nov 1994 08:59:37 GMT"), ("age", "500")], Some(100)),
        ];
        for (fields, expected) in table {
            assert_eq!(fresh(fields), expected, "{fields:?}");
        }
    }
}
