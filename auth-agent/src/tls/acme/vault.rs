//! Accounts and certificates on disk: sealed, so that a copy of the folder alone shows nobody's private key.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::authorization_server::Sealer;

/// In the store's directory.
const FOLDER: &str = "acme";

/// Why something is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// It can't be read or written.
    #[error("{}: can't be {action}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not what was written, or sealed with another secret.
    #[error("{}: can't be opened with this host's secret; remove the file", path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
    },
}

/// Files that are written whole or not at all.
pub struct Vault {
    folder: PathBuf,
    sealer: Sealer,
}

impl Vault {
    /// In the store's directory.
    pub fn new(store: &Path, sealer: Sealer) -> Self {
        Self { folder: store.join(FOLDER), sealer }
    }

    /// The name of a file that is about all of these.
    pub fn name(kind: &str, about: &[&str]) -> String {
        let mut context = Context::new(&SHA256);
        for text in about {
            // With its length: no two lists make one text.
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let hash = context.finish();
        let digits: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{kind}-{digits}")
    }

    /// What was written under that name, if anything was. Blocks.
    ///
    /// # Errors
    /// If it is there and of no use.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, VaultError> {
        let path = self.folder.join(name);
        let sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(VaultError::Io { action: "read", path, source }),
        };
        let opened = self.sealer.open(&sealed, name).ok();
        let value = opened.and_then(|text| serde_json::from_slice(&text).ok());
        value.map(Some).ok_or(VaultError::Sealed { path })
    }

    /// Durable when this returns. Blocks.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), VaultError> {
        let path = self.folder.join(name);
        let unfinished = path.with_extension("new");
        let written = (|| {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            match fs::remove_file(&unfinished) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let sealed = self.sealer.seal(&serde_json::to_vec(value)?, name).map_err(io::Error::other)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(&sealed)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.folder)?.sync_all()
        })();
        written.map_err(|source| VaultError::Io { action: "written", path, source })
    }
}
