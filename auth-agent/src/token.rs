//! Strict JWT verification. (skeleton; owned by the token work)
/// Why a token was refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TokenError {
    /// past `exp`
    Expired,
}
impl TokenError {
    /// The reason's name.
    pub fn name(self) -> &'static str {
        "token-expired"
    }
    /// What is wrong, for the client.
    pub fn description(self) -> &'static str {
        "the token is past its expiry"
    }
}
