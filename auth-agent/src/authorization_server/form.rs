//! The form that a request to an endpoint carries (RFC 6749, 3.2 and appendix B).

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::refusal::Refusal;

/// Above a token of the longest kind, and its client's credentials.
const FORM_BYTES: usize = 16 * 1024;
const FORM_FIELDS: usize = 32;
/// For the whole of it, however steadily it trickles.
const FORM_TIME: Duration = Duration::from_secs(10);

/// Its parameters. One without a value is as good as absent.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads a body. What is not a form, is too long, takes too long or says anything twice is refused.
    pub async fn read<B>(headers: &HeaderMap, body: B) -> Result<Self, Refusal>
    where
        B: Body<Data = Bytes, Error: Into<Refusal>>,
    {
        check_type(headers)?;
        Self::parse(&timeout(FORM_TIME, whole(body)).await.unwrap_or(Err(Refusal::BodyTimeout))?)
    }

    /// The parameter's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a parameter that has to be there.
    pub fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.value(name).ok_or(Refusal::FormInvalid)
    }

    fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let mut seen = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            if seen.len() >= FORM_FIELDS || seen.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Refusal::FormInvalid);
            }
        }
        seen.retain(|_, value| !value.is_empty());
        Ok(Self(seen))
    }
}

/// `application/x-www-form-urlencoded`, with whatever parameters.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return Err(Refusal::FormInvalid) };
    let media = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let form = media.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded");
    if form { Ok(()) } else { Err(Refusal::FormInvalid) }
}

async fn whole<B: Body<Data = Bytes, Error: Into<Refusal>>>(body: B) -> Result<Bytes, Refusal> {
    let mut body = pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(Into::into)?.into_data() {
            if whole.len() + data.len() > FORM_BYTES {
                return Err(Refusal::FormInvalid);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// The credentials of a client as a form carries them: for `client_secret_basic`, where they are encoded in the same
/// way (RFC 6749, 2.3.1).
pub(super) fn decoded(text: &str) -> String {
    // One value, whatever stands in it: the separators can't occur unencoded.
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(escaped.as_bytes()).map(|(value, _)| value.into_owned()).collect()
}
