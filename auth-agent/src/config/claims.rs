//! `issuer.claims`: which of an issuer's claims say who a token stands for, and what it may do.

use std::fmt;
use std::sync::Arc;

/// Where an issuer's tokens carry what this edge asks of them. Where a list names several claims and a token
/// has more than one of them, they must agree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimMap {
    /// The client that a token was issued to.
    pub client: Vec<ClaimPath>,
    /// Other claims that routes and policies ask for: sorted, each once, `sub` not among them.
    pub kept: Arc<[ClaimPath]>,
    /// What it may do: strings separated by spaces, or arrays of them.
    pub scopes: Vec<ClaimPath>,
    /// Whom it stands for.
    pub subject: ClaimPath,
    /// Whose customer that is; empty: tokens name no tenant.
    pub tenant: Vec<ClaimPath>,
}

impl Default for ClaimMap {
    fn default() -> Self {
        let named = |names: &[&str]| names.iter().map(|name| ClaimPath(vec![(*name).to_owned()])).collect();
        Self {
            client: named(&["client_id", "azp"]),
            kept: Arc::default(),
            scopes: named(&["scope", "scp"]),
            subject: ClaimPath(vec!["sub".to_owned()]),
            tenant: Vec::new(),
        }
    }
}

/// A claim: its name, or, where the text starts with a slash, a JSON pointer (RFC 6901) to one inside others.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ClaimPath(Vec<String>);

/// The text is neither a name nor a pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotAClaim;

impl ClaimPath {
    /// Reads a name like `scope`, or a pointer like `/realm_access/roles`.
    ///
    /// # Errors
    /// An empty name, or a `~` in a pointer that is not `~0` or `~1`.
    pub fn parse(text: &str) -> Result<Self, NotAClaim> {
        let names = match text.strip_prefix('/') {
            None => vec![text.to_owned()],
            Some(pointer) => pointer.split('/').map(unescaped).collect::<Option<_>>().ok_or(NotAClaim)?,
        };
        if names.iter().any(String::is_empty) { Err(NotAClaim) } else { Ok(Self(names)) }
    }

    /// Whether it is `sub`, which stands for the subject in whatever claim an issuer has it.
    pub fn is_subject(&self) -> bool {
        matches!(self.0.as_slice(), [name] if name == "sub")
    }

    /// The names to follow, from the outermost object; at least one.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

/// A reference token of a pointer (RFC 6901, 4).
fn unescaped(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        name.push(match part.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        name.push_str(&part[1..]);
    }
    Some(name)
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [name] if !name.starts_with('/') => f.write_str(name),
            names => {
                names.iter().try_for_each(|name| write!(f, "/{}", name.replace('~', "~0").replace('/', "~1")))
            }
        }
    }
}

/// What becomes of a token with personal data or secrets in its claims: a token is encoded, not encrypted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SensitiveClaims {
    /// It is not looked for.
    Ignore,
    /// The token is refused.
    Reject,
    /// Once for each issuer and claim, the log says so.
    #[default]
    Warn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_named_by_its_name_or_by_a_pointer() {
        for (text, names) in [
            ("sub", &["sub"][..]),
            ("https://example.com/roles", &["https://example.com/roles"]),
            ("a.b", &["a.b"]),
            ("a~1b", &["a~1b"]),
            ("/sub", &["sub"]),
            ("/realm_access/roles", &["realm_access", "roles"]),
            ("/a~1b/c~0d/e~01", &["a/b", "c~d", "e~1"]),
            ("/~1x", &["/x"]),
        ] {
            let path = ClaimPath::parse(text).unwrap();
            assert_eq!(path.names(), names, "{text}");
            assert_eq!(ClaimPath::parse(&path.to_string()), Ok(path), "{text}");
        }
        for text in ["", "/", "//", "/a/", "/a//b", "/a~", "/~2", "/a~x/b", "/~é"] {
            assert_eq!(ClaimPath::parse(text), Err(NotAClaim), "{text}");
        }
    }
}
