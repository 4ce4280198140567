//! Who a verified credential stands for.

use std::sync::Arc;

/// How the client proved who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// `X-API-Key`.
    ApiKey,
    /// `Authorization: Bearer` with a JWT.
    Jwt,
}

impl Method {
    /// The name sent to the upstream.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
            Self::Jwt => "jwt",
        }
    }
}

/// Who is meant by a subject: a token's and a key's of the same name are two.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// How the client proved it.
    pub method: Method,
    /// [`Identity::subject`].
    pub subject: Arc<str>,
}

/// A client whose credential was valid when this was made. Only `authenticate` makes one.
#[derive(Clone, Debug)]
pub struct Identity {
    method: Method,
    scopes: Vec<Arc<str>>,
    subject: Arc<str>,
}

impl Identity {
    /// For `authenticate` alone: whoever calls this has verified the credential.
    pub(crate) fn verified(method: Method, subject: Arc<str>, scopes: Vec<Arc<str>>) -> Self {
        Self { method, scopes, subject }
    }

    /// How the client proved it.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Who it is.
    pub fn principal(&self) -> Principal {
        Principal { method: self.method, subject: Arc::clone(&self.subject) }
    }

    /// What it may do.
    pub fn scopes(&self) -> &[Arc<str>] {
        &self.scopes
    }

    /// The token's subject, or the API key's name.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}
