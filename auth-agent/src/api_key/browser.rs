//! Whether a request came from a browser: an API key has no business there, where every script and every extension
//! of the page can read it.

use http::HeaderMap;
use http::header::ORIGIN;

/// Fetch metadata (W3C): browsers set these by themselves, and no script can.
const FETCH_METADATA: &str = "sec-fetch-";

/// Whether it has an `Origin` (RFC 6454, 7; whatever it says) or any `Sec-Fetch-*` field.
pub fn has_browser_marks(headers: &HeaderMap) -> bool {
    // Names are in lower case here, however the client spelt them.
    headers.contains_key(ORIGIN) || headers.keys().any(|name| name.as_str().starts_with(FETCH_METADATA))
}
