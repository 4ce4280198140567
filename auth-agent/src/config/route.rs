//! Which requests go where, and what they need.

/// `[[route]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Whether a credential is needed.
    pub auth: Auth,
    /// Path prefix, on segment boundaries; canonical.
    pub path: String,
    /// Scopes that are all needed.
    pub scopes: Vec<String>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
}

/// `route.auth`: has no default, so that nothing is open by forgetting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Auth {
    /// Open to anyone; still limited per source.
    None,
    /// A valid credential is needed.
    Required,
}
