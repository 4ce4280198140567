//! Addresses that keys are fetched from: `https`, a host, and nothing that could mislead whoever reads them.

use std::fmt;
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::ServerName;

/// Longer ones are no addresses of key sets.
const MAX_BYTES: usize = 2048;

/// A checked `https` address without user name and fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpsUrl(Arc<Uri>);

/// Why a text is not such an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UrlError {
    /// A `#`: it would not be sent.
    #[error("has a fragment (#)")]
    Fragment,
    /// No host, or not one that a certificate can be for.
    #[error("has no host name or address that a certificate could be for")]
    Host,
    /// Too long.
    #[error("is longer than {MAX_BYTES} bytes")]
    Long,
    /// Clear text, or something else altogether.
    #[error("does not start with https://")]
    Scheme,
    /// Not a URL at all.
    #[error("is not a URL")]
    Syntax,
    /// A user name or password would be shown in logs.
    #[error("holds a user name")]
    User,
}

impl HttpsUrl {
    /// Reads an absolute address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_BYTES {
            return Err(UrlError::Long);
        }
        let rest = text.strip_prefix("https://").ok_or(UrlError::Scheme)?;
        if text.contains('#') {
            return Err(UrlError::Fragment);
        }
        if rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
            return Err(UrlError::User);
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::Syntax)?;
        let url = Self(Arc::new(uri));
        if !url.has_right_port() {
            return Err(UrlError::Syntax);
        }
        url.server_name().map(|_| url).ok_or(UrlError::Host)
    }

    /// `http` takes a port of any length, and none at all behind a colon.
    fn has_right_port(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        match self.authority().strip_prefix(host) {
            None => false,
            Some("") => true,
            Some(port) => self.0.port_u16().is_some_and(|number| number != 0 && port == format!(":{number}")),
        }
    }

    /// Host and port as they are written.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    /// The path; `/` where there is none.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// What stands behind the `?`.
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// Whom the server's certificate must be for.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        let host = self.0.host()?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ServerName::try_from(host.to_owned()).ok()
    }

    /// The path and the query, for a request line.
    pub fn target(&self) -> &str {
        self.0.path_and_query().map_or("/", |target| target.as_str())
    }

    /// The whole.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_https_address_is_one() {
        for good in [
            "https://id.example.com",
            "https://id.example.com/",
            "https://id.example.com:8443/a/b?p=sign-in",
            "https://192.0.2.7/keys",
            "https://[2001:db8::7]:443/keys",
            "https://id.example.com/a@b",
        ] {
            assert!(HttpsUrl::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", UrlError::Scheme),
            ("http://id.example.com", UrlError::Scheme),
            ("HTTPS://id.example.com", UrlError::Scheme),
            ("id.example.com", UrlError::Scheme),
            ("https://user:secret@id.example.com/", UrlError::User),
            ("https://id.example.com@evil.example/", UrlError::User),
            ("https://id.example.com/#keys", UrlError::Fragment),
            ("https://", UrlError::Syntax),
            ("https://id.example.com:0443/", UrlError::Syntax),
            ("https:///keys", UrlError::Syntax),
            ("https://id.example.com:0/", UrlError::Syntax),
            ("https://id.example.com:/", UrlError::Syntax),
            ("https://id.example.com:99999/", UrlError::Syntax),
            ("https://id example.com/", UrlError::Syntax),
            ("https://id.example.com/\r\nHost: evil", UrlError::Syntax),
            ("https://-/", UrlError::Host),
            ("https://a..b/", UrlError::Host),
        ] {
            assert_eq!(HttpsUrl::parse(bad), Err(why), "{bad}");
        }
        let long = format!("https://id.example.com/{}", "a".repeat(MAX_BYTES));
        assert_eq!(HttpsUrl::parse(&long), Err(UrlError::Long));
    }
}
