//! The directory in bpffs where links and maps outlive the agent.
//!
//!     <pin_directory>/maps/<MAP>          one file per map
//!     <pin_directory>/links/<interface>   one bpf_link per interface

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::FilterError;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The pin directory.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Opens the directory, making it where it is missing.
    ///
    /// # Errors
    /// [`FilterError::NoBpffs`], [`FilterError::Directory`].
    pub fn open(root: &Path) -> Result<Self, FilterError> {
        let pins = Self { root: root.to_owned() };
        if !on_bpffs(root) {
            return Err(FilterError::NoBpffs { path: root.to_owned() });
        }
        for directory in [pins.maps(), pins.links()] {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(at(&directory))?;
        }
        Ok(pins)
    }

    /// The directory, if there is one.
    pub fn existing(root: &Path) -> Option<Self> {
        root.is_dir().then(|| Self { root: root.to_owned() })
    }

    /// Where maps are pinned.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Where the link of `interface` is pinned.
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(interface)
    }

    /// Interfaces whose link is pinned.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn interfaces(&self) -> Result<Vec<String>, FilterError> {
        let directory = self.links();
        match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(at(&directory)(error)),
            Ok(entries) => entries
                .map(|entry| Ok(entry.map_err(at(&directory))?.file_name().to_string_lossy().into_owned()))
                .collect(),
        }
    }

    /// Lets the link of `interface` go: the filter is detached from it.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn remove_link(&self, interface: &str) -> Result<(), FilterError> {
        let path = self.link(interface);
        fs::remove_file(&path).map_err(at(&path))
    }

    /// Lets the maps go.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn remove_maps(&self) -> Result<(), FilterError> {
        let directory = self.maps();
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let path = entry.map_err(at(&directory))?.path();
            fs::remove_file(&path).map_err(at(&path))?;
        }
        Ok(())
    }

    /// Removes everything, links first.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn remove(&self) -> Result<(), FilterError> {
        for interface in self.interfaces()? {
            self.remove_link(&interface)?;
        }
        if self.maps().is_dir() {
            self.remove_maps()?;
        }
        for directory in [self.maps(), self.links(), self.root.clone()] {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&directory)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> FilterError + '_ {
    |source| FilterError::Directory { path: path.to_owned(), source }
}

/// Whether `path`, or its nearest existing ancestor, lies on a bpf file system.
fn on_bpffs(path: &Path) -> bool {
    path.ancestors().find(|ancestor| ancestor.exists()).is_some_and(|ancestor| {
        CString::new(ancestor.as_os_str().as_bytes())
            .is_ok_and(|name| file_system(&name) == Some(BPF_FS_MAGIC))
    })
}

#[allow(unsafe_code, reason = "std offers no statfs")]
fn file_system(path: &std::ffi::CStr) -> Option<i64> {
    let mut facts = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is NUL-terminated and `facts` has room for the answer.
    let result = unsafe { libc::statfs(path.as_ptr(), facts.as_mut_ptr()) };
    // SAFETY: the call said that it filled the structure in.
    (result == 0).then(|| unsafe { facts.assume_init() }.f_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_outside_bpffs_is_refused_with_the_mount_command() {
        let directory = tempfile::tempdir().unwrap();
        let error = Pins::open(&directory.path().join("pins")).unwrap_err().to_string();
        assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
