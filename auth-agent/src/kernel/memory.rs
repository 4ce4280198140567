//! The source table's memory: the BPF array, mapped into this process.

#![allow(unsafe_code, reason = "aya has no mmap of arrays")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use auth_common::table::Group;

/// A `BPF_F_MMAPABLE` array of groups, shared with the kernel until it is dropped.
pub struct SharedGroups {
    groups: NonNull<Group<AtomicU64>>,
    count: NonZeroUsize,
}

// SAFETY: the memory is owned by this value, and consists of atomics.
unsafe impl Send for SharedGroups {}
// SAFETY: as above: shared access goes through atomics alone.
unsafe impl Sync for SharedGroups {}

impl SharedGroups {
    /// Maps the first `count` elements of the array behind `map`, whose values are groups.
    ///
    /// # Errors
    /// What `mmap` says; `EINVAL` where the array is smaller or not mappable.
    pub fn map(map: BorrowedFd, count: NonZeroUsize) -> io::Result<Self> {
        let bytes = count.get() * size_of::<Group<AtomicU64>>();
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address) {
            Some(address) if address.as_ptr() != libc::MAP_FAILED => {
                Ok(Self { groups: address.cast(), count })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The groups. The kernel changes them at any time, one atomic word at a time.
    pub fn groups(&self) -> &[Group<AtomicU64>] {
        // SAFETY: the mapping holds `count` groups, is page-aligned, lives as long as `self`, and any bytes
        // are valid atomics.
        unsafe { std::slice::from_raw_parts(self.groups.as_ptr(), self.count.get()) }
    }
}

impl Drop for SharedGroups {
    fn drop(&mut self) {
        let bytes = self.count.get() * size_of::<Group<AtomicU64>>();
        // SAFETY: the mapping was made with this size, and no reference outlives `self`.
        unsafe { libc::munmap(self.groups.as_ptr().cast(), bytes) };
    }
}
