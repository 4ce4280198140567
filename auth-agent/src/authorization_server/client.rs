//! The client of an endpoint: an API key, its id as the client id, the whole key as the secret (RFC 6749, 2.3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::form::{Form, decoded};
use crate::api_key::ApiKey;
use crate::refusal::Refusal;

/// What a client says that it is. Not yet verified.
pub(super) struct ClientCredentials {
    /// The whole API key: a secret.
    pub key: String,
}

/// Whether the client tried to authenticate in the header.
pub(super) fn uses_header(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION)
}

/// Finds the client's credentials, in the header or in the form, and never in both.
pub(super) fn find(headers: &HeaderMap, form: &Form) -> Result<ClientCredentials, Refusal> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (id, secret) = match (fields.next(), fields.next(), form.value("client_secret")) {
        (None, _, None) => return Err(Refusal::ClientMissing),
        (None, _, Some(secret)) => (form.required("client_id")?.to_owned(), secret.to_owned()),
        (Some(value), None, None) => {
            let (id, secret) = value.to_str().ok().and_then(basic).ok_or(Refusal::CredentialMalformed)?;
            // Some libraries name the client in the form as well.
            if form.value("client_id").is_some_and(|other| other != id) {
                return Err(Refusal::FormInvalid);
            }
            (id, secret)
        }
        (Some(_), ..) => return Err(Refusal::FormInvalid),
    };
    // Neither is secret: the id stands in the key.
    let key = ApiKey::parse(&secret).map_err(|_| Refusal::ApiKeyInvalid)?;
    if key.id().to_string() == id {
        Ok(ClientCredentials { key: secret })
    } else {
        Err(Refusal::ApiKeyInvalid)
    }
}

/// RFC 7617, 2, with both parts encoded as RFC 6749, 2.3.1 wants it.
fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, text) = value.split_once(' ')?;
    let text = scheme.eq_ignore_ascii_case("basic").then_some(text)?;
    let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decoded(id), decoded(secret)))
}
