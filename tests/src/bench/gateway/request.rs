//! What is asked: requests as they are sent, made before anything is measured.

use std::borrow::Cow;
use std::cell::{Cell as Slot, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cell::{Cell, Guard};
use super::upstream;
use crate::issuer::{AUDIENCE, ISSUER, Issuer};

/// The `iss` of the tokens that are signed with RS256.
pub const RSA_ISSUER: &str = "https://rsa.issuer.test";
/// Seconds that tokens are valid.
const LIFETIME: i64 = 3_000;
/// What needs no credential with auth-agent, and what does: as long as each other.
const OPEN: &str = "/open/";
const CLOSED: &str = "/auth/";

/// Who signs, and the API key.
pub struct Credentials {
    /// Signs with ES256.
    pub es256: Issuer,
    /// Signs with RS256.
    pub rs256: Issuer,
    /// Empty where nobody asks for one.
    pub api_key: String,
}

/// The requests of a measurement.
pub enum Requests {
    /// Each of these once.
    Each(RefCell<std::vec::IntoIter<Vec<u8>>>),
    /// With another signature each time.
    Forged {
        /// With some signature.
        request: Vec<u8>,
        /// Where that begins.
        signature: usize,
        /// How many there were.
        count: Slot<u64>,
    },
    /// This one, without end.
    Same(Vec<u8>),
}

impl Requests {
    /// What a cell asks; where each request is another, `count` of them.
    pub fn of(cell: Cell, credentials: &Credentials, count: usize) -> Result<Self> {
        let Credentials { es256, rs256, api_key } = credentials;
        Ok(match cell {
            Cell::ApiKey => Self::Same(request(CLOSED, &format!("x-api-key: {api_key}\r\n"))),
            Cell::Body1m => Self::Same(request(&format!("{OPEN}{}", upstream::LARGE), "")),
            Cell::Es256Distinct => {
                let requests = (0..count).map(|number| Ok(bearer(&token(es256, ISSUER, number, LIFETIME)?)));
                Self::Each(RefCell::new(requests.collect::<Result<Vec<_>>>()?.into_iter()))
            }
            Cell::Es256Repeat => Self::Same(bearer(&token(es256, ISSUER, 0, LIFETIME)?)),
            Cell::Expired401 => Self::Same(bearer(&token(es256, ISSUER, 0, -LIFETIME)?)),
            Cell::Garbage401 => {
                let request = bearer(&token(es256, ISSUER, 0, LIFETIME)?);
                let signature = request.iter().rposition(|byte| *byte == b'.').context("no token")? + 1;
                Self::Forged { request, signature, count: Slot::new(0) }
            }
            Cell::Handshake => Self::Same(request(OPEN, "Connection: close\r\n")),
            Cell::Http2 | Cell::Keepalive | Cell::Memory => Self::Same(request(OPEN, "")),
            Cell::Rs256 => Self::Same(bearer(&token(rs256, RSA_ISSUER, 0, LIFETIME)?)),
        })
    }

    /// The next, if there is one.
    pub fn next(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Each(requests) => requests.borrow_mut().next().map(Cow::Owned),
            Self::Forged { request, signature, count } => {
                count.set(count.get() + 1);
                let mut request = request.clone();
                forge(&mut request[*signature..], count.get());
                Some(Cow::Owned(request))
            }
            Self::Same(request) => Some(Cow::Borrowed(request)),
        }
    }
}

/// The path of a request to what this guard guards, for auth-agent.
pub fn path(guard: Guard) -> &'static str {
    match guard {
        Guard::None => OPEN,
        Guard::ApiKey | Guard::Es256 | Guard::Rs256 => CLOSED,
    }
}

fn request(path: &str, field: &str) -> Vec<u8> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n");
    format!("{head}{field}\r\n").into_bytes()
}

fn bearer(token: &str) -> Vec<u8> {
    request(CLOSED, &format!("Authorization: Bearer {token}\r\n"))
}

/// Of about 400 bytes and the signature; valid for so many seconds, or over since so many.
fn token(issuer: &Issuer, name: &str, number: usize, seconds: i64) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    let (issued, expires) =
        if seconds < 0 { (now + 2 * seconds, now + seconds) } else { (now, now + seconds) };
    let claims: Value = json!({
        "iss": name, "aud": AUDIENCE, "sub": format!("8d0a4c1e-4111-4111-8111-{number:012}"),
        "exp": expires, "iat": issued, "jti": format!("{issued:016}-{number:016}"),
        "client_id": "app", "scope": "read write",
    });
    issuer.sign(&claims)
}

/// Writes a number over the beginning of a signature, in base64url.
fn forge(signature: &mut [u8], mut number: u64) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // Behind the first few, so that the number stays below the group's order.
    for letter in signature.iter_mut().skip(8).take(8) {
        *letter = ALPHABET[(number % 64) as usize];
        number /= 64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_requests_differ_in_their_signature_alone() -> Result<()> {
        let (es256, rs256) = (Issuer::new()?, Issuer::rs256()?);
        let credentials = Credentials { es256, rs256, api_key: String::new() };
        let requests = Requests::of(Cell::Garbage401, &credentials, 0)?;
        let [first, second] = [requests.next(), requests.next()].map(Option::unwrap_or_default);
        assert_ne!(first, second);
        let same = first.iter().zip(second.iter()).filter(|(one, other)| one == other).count();
        assert!(first.len() == second.len() && first.len() - same <= 8);
        Ok(())
    }

    #[test]
    fn distinct_requests_come_once_each() -> Result<()> {
        let (es256, rs256) = (Issuer::new()?, Issuer::rs256()?);
        let credentials = Credentials { es256, rs256, api_key: String::new() };
        let requests = Requests::of(Cell::Es256Distinct, &credentials, 3)?;
        let all: Vec<_> = std::iter::from_fn(|| requests.next()).collect();
        assert_eq!(all.len(), 3);
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        Ok(())
    }
}
