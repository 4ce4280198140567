//! What the operator's verbs need of tokens and issuers, without believing a token.

use super::claims::Claims;
use super::{TokenError, Verifier, wire};
use crate::clock::UnixTime;

impl Verifier {
    /// The `exp` of a token that claims to be of one of the issuers; nothing of it is verified.
    ///
    /// # Errors
    /// It is too long, no JWT, of no issuer here, or says nothing of when it ends: it would not be accepted anyway.
    pub fn expiry_of(&self, token: &str) -> Result<UnixTime, TokenError> {
        let current = self.current.load();
        current.check_size(token)?;
        let claims = wire::decode(wire::split(token)?.claims)?;
        let claims = Claims::parse(&claims)?;
        current.issuer(&claims)?;
        Ok(UnixTime(claims.times()?.expires))
    }

    /// Whether there is an issuer of that name.
    pub fn has_issuer(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// The names of the issuers, in order.
    pub fn issuer_names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.current.load().issuers.iter().map(|issuer| issuer.name().to_string()).collect();
        names.sort_unstable();
        names
    }
}
