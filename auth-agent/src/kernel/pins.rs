//! The directory in bpffs where links and maps outlive the agent.
//!
//! ```text
//! <pin_directory>/maps/<MAP>                              one file per map
//! <pin_directory>/links/<namespace>:<index>:<interface>   one bpf_link per interface
//! ```
//!
//! The index tells interfaces apart, since names change hands; the name is there for people. A dot in it is
//! written as a colon, which no interface name has: bpffs reserves names with dots. Indexes repeat in every network
//! namespace, so the namespace's inode is there too: an agent never takes another namespace's filter for its own.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use auth_common::layout;

use super::error::FilterError;
use super::interfaces::Interface;
use super::syscall;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The network namespace of this thread.
const NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The pin directory.
#[derive(Clone, Debug)]
pub struct Pins {
    /// The inode of our network namespace.
    namespace: u64,
    root: PathBuf,
}

/// A pinned link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Index of the interface that it was made for.
    pub index: u32,
    /// Inode of the network namespace that the index belongs to; 0 where the file is none of ours.
    pub namespace: u64,
    /// The name that the interface had when it was last attached or adopted.
    pub name: String,
    /// Where it is pinned.
    pub path: PathBuf,
}

/// An agent that is just ending holds the lock for a moment, and so does what another thread has forked and what has not
/// run its program yet.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

impl Pins {
    /// Opens the directory, making it where it is missing.
    ///
    /// # Errors
    /// [`FilterError::NoBpffs`], [`FilterError::Directory`].
    pub fn open(root: &Path) -> Result<Self, FilterError> {
        if !on_bpffs(root) {
            return Err(FilterError::NoBpffs { path: root.to_owned() });
        }
        let pins = Self::at(root)?;
        for directory in [pins.maps(), pins.link_directory()] {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(at(&directory))?;
        }
        Ok(pins)
    }

    /// The directory, if there is one.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn existing(root: &Path) -> Result<Option<Self>, FilterError> {
        if root.is_dir() { Self::at(root).map(Some) } else { Ok(None) }
    }

    fn at(root: &Path) -> Result<Self, FilterError> {
        let namespace = fs::metadata(NAMESPACE).map_err(at(Path::new(NAMESPACE)))?.ino();
        Ok(Self { namespace, root: root.to_owned() })
    }

    /// Where maps are pinned.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Takes the pins for this process, for as long as the file is open: of two agents that share maps, each
    /// would undo what the other does. An earlier agent may have handed its lock over.
    ///
    /// # Errors
    /// [`FilterError::InUse`], [`FilterError::Directory`].
    pub fn lock(&self, handed: Option<File>) -> Result<File, FilterError> {
        let directory = File::open(&self.root).map_err(at(&self.root))?;
        if let Some(handed) = handed
            && same_file(&handed, &directory).map_err(at(&self.root))?
        {
            return Ok(handed);
        }
        for _ in 0..LOCK_TRIES {
            match directory.try_lock() {
                Ok(()) => return Ok(directory),
                Err(TryLockError::Error(error)) => return Err(at(&self.root)(error)),
                Err(TryLockError::WouldBlock) => sleep(LOCK_PAUSE),
            }
        }
        Err(FilterError::InUse { path: self.root.clone() })
    }

    /// Where the link of `interface` is to be pinned.
    pub fn link(&self, interface: &Interface) -> PathBuf {
        self.link_directory().join(file_name(self.namespace, interface.index, &interface.name))
    }

    /// Refuses a directory in which filters of another network namespace are pinned; what is left of one that is gone
    /// is removed.
    ///
    /// # Errors
    /// [`FilterError::OtherNamespace`], [`FilterError::Directory`].
    pub fn refuse_other_namespaces(&self) -> Result<(), FilterError> {
        let (alive, dead): (Vec<_>, Vec<_>) = self.strangers()?.into_iter().partition(Link::holds);
        if let Some(Link { namespace, .. }) = alive.first() {
            return Err(FilterError::OtherNamespace {
                interfaces: alive.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", "),
                namespace: *namespace,
                path: self.root.clone(),
            });
        }
        dead.iter().try_for_each(Link::remove)
    }

    /// The pinned links of our own network namespace.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn own_links(&self) -> Result<Vec<Link>, FilterError> {
        Ok(self.links()?.into_iter().filter(|link| link.namespace == self.namespace).collect())
    }

    /// The pinned links of other network namespaces.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn strangers(&self) -> Result<Vec<Link>, FilterError> {
        Ok(self.links()?.into_iter().filter(|link| link.namespace != self.namespace).collect())
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
    /// Index of the interface that it holds a program on, if it still does and that can be seen.
    pub fn interface(&self) -> Option<u32> {
        syscall::pinned_interface(&self.path).ok().filter(|index| *index != 0)
    }

    /// Whether it holds a program on an interface, wherever that is; one that can't be asked does.
    pub fn holds(&self) -> bool {
        match syscall::pinned_interface(&self.path) {
            Ok(index) => index != 0,
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        }
    }

    /// Lets it go: the filter is off its interface when this returns.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn remove(&self) -> Result<(), FilterError> {
        // What is no link, or has lost its interface, can't be detached; the pin goes all the same.
        if let Err(error) = syscall::detach_link(&self.path) {
            tracing::debug!(link = %self.path.display(), %error, "not detached");
        }
        fs::remove_file(&self.path).map_err(at(&self.path))
    }

    /// Writes down the interface's present name and index.
    ///
    /// # Errors
    /// [`FilterError::Directory`].
    pub fn keep_as(&self, pins: &Pins, interface: &Interface) -> Result<(), FilterError> {
        let path = pins.link(interface);
        if path == self.path {
            return Ok(());
        }
        fs::rename(&self.path, &path).map_err(at(&path))
    }
}

/// Whether both are one file.
pub(crate) fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

fn file_name(namespace: u64, index: u32, name: &str) -> String {
    format!("{namespace}:{index}:{}", name.replace('.', ":"))
}

/// What a file name of [`file_name`] says; an index and a namespace of 0, which none has, where it is another's.
fn link(path: PathBuf) -> Link {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut parts = file.splitn(3, ':');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let numbers = number().zip(number().and_then(|index| u32::try_from(index).ok()));
    let (namespace, index) = numbers.unwrap_or_default();
    let name = parts.next().filter(|_| numbers.is_some()).unwrap_or(&file).replace(':', ".");
    Link { index, name, namespace, path }
}

fn at(path: &Path) -> impl Fn(io::Error) -> FilterError + '_ {
    |source| FilterError::Directory { path: path.to_owned(), source }
}

/// Whether `path`, or its nearest existing ancestor, lies on a bpf file system.
pub fn on_bpffs(path: &Path) -> bool {
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
        let pins = Pins { namespace: 4_026_531_840, root: PathBuf::from("/pins") };
        for (index, name) in [(1, "lo"), (7, "eth0"), (12, "eth0.100")] {
            let path = pins.link(&Interface { ethernet: true, index, name: name.to_owned(), program: None });
            assert!(!path.to_string_lossy().contains('.'), "bpffs refuses {}", path.display());
            let expected =
                Link { index, name: name.to_owned(), namespace: pins.namespace, path: path.clone() };
            assert_eq!(link(path), expected);
        }
        for stray in ["", "7", "7:eth0", "x:7:eth0", "1:4294967296:eth0"] {
            let link = link(PathBuf::from("/pins/links").join(stray));
            assert_eq!((link.namespace, link.index), (0, 0), "{stray}");
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
