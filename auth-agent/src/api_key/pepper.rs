//! The secret that keys the hashes of API keys: a copied database alone does not let anyone test
//! guesses against it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{array, fmt};

use aws_lc_rs::{digest, hmac, rand};

use super::{ApiKey, KEY_LENGTH, RandomError};

const FILE: &str = "api-key.pepper";
const LENGTH: usize = 32;

/// Keyed hash of a whole API key: SHA-256 of the secret and the key, both of which have one length, so that nothing can
/// be appended to either. HMAC would be the same for any length, at three times the cost of every request.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct KeyHash(pub(crate) [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// The secret behind [`KeyHash`].
pub struct Pepper([u8; LENGTH]);

/// Why the pepper can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// Can't be read or made.
    #[error("{}: can't {action} the API-key secret: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store holds keys, and this file is gone.
    #[error(
        "{}: the API-key secret is missing, and without it none of the stored API keys can be verified: restore \
         it from a backup, or move the whole store directory away to start without keys and bans",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{}: the API-key secret has mode {mode:04o}, open to others than its owner: chmod 600 it", path.display())]
    Mode {
        /// Permission bits.
        mode: u32,
        /// The file.
        path: PathBuf,
    },
    /// No random bytes.
    #[error("the system's random number generator failed: no API-key secret was made, try again")]
    Random,
    /// Cut off, or something else.
    #[error("{}: the API-key secret must be exactly {LENGTH} bytes long: restore it from a backup", path.display())]
    Size {
        /// The file.
        path: PathBuf,
    },
}

impl Pepper {
    /// Reads the secret from the store's directory, or makes it there if the store holds no keys yet.
    /// The caller holds the store's lock.
    pub fn open(directory: &Path, keys_exist: bool) -> Result<Self, PepperError> {
        let path = directory.join(FILE);
        match File::open(&path) {
            Ok(file) => Self::read(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound && keys_exist => {
                Err(PepperError::Missing { path })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(directory, path),
            Err(source) => Err(PepperError::Io { action: "open", path, source }),
        }
    }

    /// A secret that no file holds.
    pub(super) fn random() -> Result<Self, RandomError> {
        let mut secret = [0; LENGTH];
        rand::fill(&mut secret).map_err(|_| RandomError)?;
        Ok(Self(secret))
    }

    /// A secret of its own for another purpose: who knows one learns nothing of the other.
    pub(crate) fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), purpose);
        array::from_fn(|at| tag.as_ref()[at])
    }

    /// Hash of a key under this secret.
    pub fn hash(&self, key: &ApiKey) -> KeyHash {
        let mut text = [0; LENGTH + KEY_LENGTH];
        text[..LENGTH].copy_from_slice(&self.0);
        text[LENGTH..].copy_from_slice(key.expose().as_bytes());
        let hash = digest::digest(&digest::SHA256, &text);
        let hash = hash.as_ref();
        KeyHash(array::from_fn(|at| hash[at]))
    }

    fn read(file: File, path: PathBuf) -> Result<Self, PepperError> {
        let mut secret = Vec::with_capacity(LENGTH + 1);
        let mode = file.metadata().and_then(|metadata| {
            file.take(LENGTH as u64 + 1).read_to_end(&mut secret)?;
            Ok(metadata.mode() & 0o7777)
        });
        match mode {
            Err(source) => Err(PepperError::Io { action: "read", path, source }),
            Ok(mode) if mode & 0o077 != 0 => Err(PepperError::Mode { mode, path }),
            Ok(_) => secret.try_into().map(Self).map_err(|_| PepperError::Size { path }),
        }
    }

    /// Whole or not at all: a crash half-way must not leave a short secret that the next start refuses.
    fn create(directory: &Path, path: PathBuf) -> Result<Self, PepperError> {
        let mut secret = [0; LENGTH];
        rand::fill(&mut secret).map_err(|_| PepperError::Random)?;
        let unfinished = path.with_extension("pepper.new");
        let written = (|| {
            match fs::remove_file(&unfinished) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(&secret)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(directory)?.sync_all()
        })();
        match written {
            Ok(()) => Ok(Self(secret)),
            Err(source) => Err(PepperError::Io { action: "write", path, source }),
        }
    }
}
