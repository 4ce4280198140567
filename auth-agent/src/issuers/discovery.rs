//! From an issuer to where its keys are: OpenID Connect Discovery 1.0 section 4, and RFC 8414 section 3.

use serde::Deserialize;

use crate::https_url::{HttpsUrl, UrlError};

/// Where the metadata may be, in the order in which it is looked for.
pub(super) fn metadata_urls(issuer: &HttpsUrl) -> Vec<HttpsUrl> {
    let authority = issuer.authority();
    let path = issuer.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let urls = [
        format!("https://{authority}{path}/.well-known/openid-configuration"),
        format!("https://{authority}/.well-known/oauth-authorization-server{path}"),
    ];
    urls.iter().filter_map(|url| HttpsUrl::parse(url).ok()).collect()
}

/// What is needed of the metadata; a member that stands twice is refused.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: Option<String>,
}

/// Why metadata can't be used.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum MetadataError {
    /// Somebody else's.
    #[error(
        "the metadata is that of issuer {found:?}, not of {wanted:?}; set `issuer` to exactly the former, if it is meant"
    )]
    Issuer {
        /// As it says.
        found: String,
        /// As configured.
        wanted: String,
    },
    /// Not JSON, or without an issuer.
    #[error("the metadata can't be read ({0}); check the issuer, or give jwks_url instead of discovery")]
    Json(String),
    /// No key set.
    #[error("the metadata names no jwks_uri; give jwks_url instead of discovery")]
    KeysMissing,
    /// A key set where it must not be.
    #[error("the metadata's jwks_uri {0}; give jwks_url instead of discovery")]
    KeysUrl(UrlError),
}

/// Where the keys of `issuer`, the exact value of its tokens' `iss`, are according to its metadata.
pub(super) fn keys_url(metadata: &[u8], issuer: &str) -> Result<HttpsUrl, MetadataError> {
    let metadata: Metadata =
        serde_json::from_slice(metadata).map_err(|error| MetadataError::Json(error.to_string()))?;
    if metadata.issuer != issuer {
        let found: String = metadata.issuer.chars().take(200).collect();
        return Err(MetadataError::Issuer { found, wanted: issuer.to_owned() });
    }
    let url = metadata.jwks_uri.ok_or(MetadataError::KeysMissing)?;
    HttpsUrl::parse(&url).map_err(MetadataError::KeysUrl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_is_where_both_specifications_say() {
        for (issuer, openid, oauth) in [
            (
                "https://id.example.com",
                "https://id.example.com/.well-known/openid-configuration",
                "https://id.example.com/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example.com/",
                "https://id.example.com/.well-known/openid-configuration",
                "https://id.example.com/.well-known/oauth-authorization-server",
            ),
            (
                "https://id.example.com:8443/realms/one/",
                "https://id.example.com:8443/realms/one/.well-known/openid-configuration",
                "https://id.example.com:8443/.well-known/oauth-authorization-server/realms/one",
            ),
        ] {
            let urls = metadata_urls(&HttpsUrl::parse(issuer).unwrap());
            let urls: Vec<_> = urls.iter().map(ToString::to_string).collect();
            assert_eq!(urls, [openid, oauth]);
        }
    }

    #[test]
    fn metadata_counts_only_for_exactly_its_issuer_and_with_keys_over_https() {
        let issuer = "https://id.example.com";
        let keys = "https://keys.example.com/jwks";
        let good = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}","extra":[1]}}"#);
        assert_eq!(keys_url(good.as_bytes(), issuer).unwrap().to_string(), keys);
        for (text, words) in [
            (
                good.replace(issuer, "https://id.example.com/"),
                "is that of issuer \"https://id.example.com/\"",
            ),
            (good.replace(issuer, "https://ID.example.com"), "is that of issuer"),
            (good.replace(issuer, "https://evil.example"), "is that of issuer"),
            (good.replace(keys, "http://keys.example.com/jwks"), "jwks_uri does not start with https://"),
            (good.replace(keys, "/jwks"), "jwks_uri does not start with https://"),
            (good.replace("jwks_uri", "jwks"), "names no jwks_uri"),
            (good.replace("extra", "issuer"), "can't be read"),
            (good.replace("\"issuer\"", "\"iss\""), "can't be read (missing field `issuer`"),
            (good.replace("extra", "jwks_uri"), "can't be read"),
            ("<html>".to_owned(), "can't be read"),
            ("[]".to_owned(), "can't be read"),
        ] {
            let error = keys_url(text.as_bytes(), issuer).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
