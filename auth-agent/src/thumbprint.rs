//! The thumbprint of a client certificate: what tokens are bound to (RFC 8705 3.1).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// SHA-256 of a certificate in DER. It is no secret: whoever connects shows the certificate, so comparing thumbprints
/// need not take the same time each time.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(hash)
    }

    /// As `x5t#S256` has it: base64url without padding, and in no other spelling.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Thumbprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_has_one_spelling() {
        // RFC 8705, 3.1, figure 3.
        const TEXT: &str = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";
        // Its last character has bits set that belong to no byte.
        assert_eq!(Thumbprint::parse(TEXT), None);
        let own = Thumbprint::of(b"certificate").to_string();
        assert_eq!(Thumbprint::parse(&own), Some(Thumbprint::of(b"certificate")));
        for other in ["", "AA", &own[1..], &format!("{own}="), &own.replace('_', "/"), &format!("{own}A")] {
            assert!(Thumbprint::parse(other).is_none() || other == own, "{other}");
        }
    }
}
