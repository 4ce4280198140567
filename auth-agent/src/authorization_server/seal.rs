//! Sealing private keys for the store (AES-256-GCM): a copied database alone lets nobody sign.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;

use crate::api_key::Pepper;

/// What the sealing key is derived for: another purpose would have another key.
const PURPOSE: &[u8] = b"auth-agent: signing keys of the built-in issuer";
const ACME: &[u8] = b"auth-agent: accounts and certificates of acme";

/// Seals and opens.
#[derive(Clone)]
pub struct Sealer(Arc<RandomizedNonceKey>);

impl Sealer {
    /// With a key that is derived from the secret beside the database.
    ///
    /// # Errors
    /// If the crypto library fails.
    pub fn new(pepper: &Pepper) -> Result<Self, Unspecified> {
        Self::derived(pepper, PURPOSE)
    }

    /// The same for accounts and certificates of ACME.
    ///
    /// # Errors
    /// If the crypto library fails.
    pub fn for_acme(pepper: &Pepper) -> Result<Self, Unspecified> {
        Self::derived(pepper, ACME)
    }

    fn derived(pepper: &Pepper, purpose: &[u8]) -> Result<Self, Unspecified> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &pepper.derive(purpose))?;
        Ok(Self(Arc::new(key)))
    }

    /// Nonce, ciphertext and tag. `name` must be the same to open it.
    pub(crate) fn seal(&self, secret: &[u8], name: &str) -> Result<Vec<u8>, Unspecified> {
        let mut text = secret.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(name), &mut text)?;
        Ok([nonce.as_ref().as_slice(), &text].concat())
    }

    pub(crate) fn open(&self, sealed: &[u8], name: &str) -> Result<Vec<u8>, Unspecified> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(Unspecified)?;
        let mut text = text.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce)?;
        Ok(self.0.open_in_place(nonce, Aad::from(name), &mut text)?.to_vec())
    }
}
