//! Tokens (RFC 9068): who they are for, what they say, how long they hold.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::signing::{SigningError, SigningKeys};
use crate::clock::UnixTime;
use crate::config::AuthorizationServer;

/// Makes tokens.
pub struct TokenIssuer {
    pub(super) config: AuthorizationServer,
    /// What it signs with.
    pub keys: SigningKeys,
}

/// What a token is to say.
pub struct Grant {
    /// The client that it is for: an API key's id, where it was exchanged for one.
    pub client: String,
    /// The first second in which it is no longer valid.
    pub expires: UnixTime,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Who it stands for.
    pub subject: String,
}

/// A token.
pub struct Issued {
    /// What it says.
    pub claims: Value,
    /// The token itself.
    pub token: String,
}

impl TokenIssuer {
    /// An issuer that signs with these keys.
    pub fn new(config: AuthorizationServer, keys: SigningKeys) -> Self {
        Self { config, keys }
    }

    /// A new token.
    ///
    /// # Errors
    /// If the crypto library fails.
    pub fn issue(&self, grant: &Grant, now: UnixTime) -> Result<Issued, SigningError> {
        let mut claims = json!({
            "iss": self.config.issuer.text,
            "sub": grant.subject,
            "aud": self.config.audience,
            "exp": grant.expires,
            "iat": now,
            "jti": token_id()?,
            "client_id": grant.client,
        });
        if !grant.scopes.is_empty() {
            claims["scope"] = grant.scopes.join(" ").into();
        }
        let token = self.keys.sign(&claims, now)?;
        Ok(Issued { claims, token })
    }
}

/// 128 random bits.
fn token_id() -> Result<String, Unspecified> {
    let mut id = [0; 16];
    rand::fill(&mut id)?;
    Ok(URL_SAFE_NO_PAD.encode(id))
}
