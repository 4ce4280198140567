//! The directory in bpffs where links and maps outlive the agent.
//!
//!     <pin_directory>/maps/<MAP>                  one file per map
//!     <pin_directory>/links/<index>:<interface>   one bpf_link per interface
//!
//! The index tells interfaces apart, since names change hands; the name is there for people. A dot in it is
//! written as a colon, which no interface name has: bpffs reserves names with dots.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use auth_common::layout;

use super::detach::detach;
use super::error::FilterError;
use super::interfaces::Interface;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The pin directory.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// A pinned link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Index of the interface that it was made for.
    pub index: u32,
    /// The name that the interface had when it was last attached or adopted.
    pub name: String,
    /// Where it is pinned.
    pub path: PathBuf,
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
        for directory in [pins.maps(), pins.link_directory()] {
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

    /// Takes the pins for this process, for as long as the file is open: of two agents that share maps, each
    /// would undo what the other does.
    ///
    /// # Errors
    /// [`FilterError::InUse`], [`FilterError::Directory`].
    pub fn lock(&self) -> Result<File, FilterError> {
        let directory = File::open(&self.root).map_err(at(&self.root))?;
        match directory.try_lock() {
            Ok(()) => Ok(directory),
            Err(TryLockError::Error(error)) => Err(at(&self.root)(error)),
            Err(TryLockError::WouldBlock) => Err(FilterError::InUse { path: self.root.clone() }),
        }
    }

    /// Where the link of `interface` is to be pinned.
    pub fn link(&self, interface: &Interface) -> PathBuf {
        self.link_directory().join(file_name(interface.index, &interface.name))
    }

    /// The pinned links.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn links(&self) -> Result<Vec<Link>, FilterError> {
        let directory = self.link_directory();
        match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(at(&directory)(error)),
            Ok(entries) => entries.map(|entry| Ok(link(entry.map_err(at(&directory))?.path()))).collect(),
        }
    }

    /// Lets the maps go.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn remove_maps(&self) -> Result<(), FilterError> {
        let directory = self.maps();
        // First, so that whatever is left if this is cut short counts as unfinished.
        match fs::remove_file(directory.join(layout::META)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&directory)(error)),
            _ => {}
        }
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
        for link in self.links()? {
            link.remove()?;
        }
        if self.maps().is_dir() {
            self.remove_maps()?;
        }
        for directory in [self.maps(), self.link_directory(), self.root.clone()] {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&directory)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn link_directory(&self) -> PathBuf {
        self.root.join("links")
    }
}

impl Link {
    /// Lets it go: the filter is detached from its interface.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn remove(&self) -> Result<(), FilterError> {
        // Where this fails, the link is dead, or something else; removing the pin is all there is to do.
        let _ = detach(&self.path);
        fs::remove_file(&self.path).map_err(at(&self.path))
    }

    /// Writes down the interface's new name.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn rename(&self, name: &str) -> Result<(), FilterError> {
        let renamed = self.path.with_file_name(file_name(self.index, name));
        fs::rename(&self.path, &renamed).map_err(at(&renamed))
    }
}

fn file_name(index: u32, name: &str) -> String {
    format!("{index}:{}", name.replace('.', ":"))
}

/// What a file name of [`file_name`] says; an index of 0, which no interface has, where it is another's.
fn link(path: PathBuf) -> Link {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let (index, name) = file.split_once(':').unwrap_or(("0", &file));
    Link { index: index.parse().unwrap_or(0), name: name.replace(':', "."), path: path.clone() }
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
    fn a_link_is_found_by_the_name_it_is_pinned_under() {
        let pins = Pins { root: PathBuf::from("/pins") };
        for (index, name) in [(1, "lo"), (7, "eth0"), (12, "eth0.100")] {
            let path = pins.link(&Interface { ethernet: true, index, name: name.to_owned(), program: None });
            assert!(!path.to_string_lossy().contains('.'), "bpffs refuses {}", path.display());
            assert_eq!(link(path.clone()), Link { index, name: name.to_owned(), path });
        }
    }

    #[test]
    fn a_directory_outside_bpffs_is_refused_with_the_mount_command() {
        let directory = tempfile::tempdir().unwrap();
        let error = Pins::open(&directory.path().join("pins")).unwrap_err().to_string();
        assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
