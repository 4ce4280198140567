//! Whether a file changed, as far as that can be seen without reading it.
//!
//! Files are looked at every second rather than watched: a look is one `stat`, and sees what inotify does not tell of: a
//! mounted volume that is swapped by a symbolic link some folders above, a network file system, a folder that is
//! replaced.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::clock::UnixTime;

/// So many seconds after its last change a file may change again without that being seen from outside.
const SETTLED_AFTER: u64 = 2;

/// What changes with a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    changed: (i64, i64),
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl Stamp {
    /// Of the file that a path leads to now.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
        })
    }

    /// Whether a change since would show.
    pub fn is_settled(&self, now: UnixTime) -> bool {
        let last = u64::try_from(self.changed.0.max(self.modified.0)).unwrap_or_default();
        now.0 >= last.saturating_add(SETTLED_AFTER)
    }
}

/// What some files looked like when they were last read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stamps(Option<Vec<Stamp>>);

impl Stamps {
    /// Of all these files; of no use where one of them is not there.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        Self(paths.into_iter().map(|path| Stamp::of(path).ok()).collect())
    }

    /// Whether the files that look like this `now` are surely what was read when they looked like `earlier`.
    pub fn are_those_of(&self, earlier: &Self, now: UnixTime) -> bool {
        self == earlier && self.0.as_ref().is_some_and(|all| all.iter().all(|stamp| stamp.is_settled(now)))
    }
}
