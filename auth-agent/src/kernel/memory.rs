//! BPF arrays, mapped into this process's memory.

#![allow(unsafe_code, reason = "aya has no mmap of arrays")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use auth_common::table::Group;

/// What may lie in shared memory: atomics, and nothing else.
///
/// # Safety
/// Any bytes are a valid value, and every change goes through an atomic.
pub unsafe trait Atomic: Sync {}

// SAFETY: an atomic.
unsafe impl Atomic for AtomicU64 {}
// SAFETY: lines of eight atomics each.
unsafe impl Atomic for Group<AtomicU64> {}

/// A `BPF_F_MMAPABLE` array, shared with the kernel until it is dropped.
pub struct Shared<T> {
    count: NonZeroUsize,
    elements: NonNull<T>,
}

// SAFETY: the memory is owned by this value, and consists of atomics.
unsafe impl<T: Atomic> Send for Shared<T> {}
// SAFETY: as above: shared access goes through atomics alone.
unsafe impl<T: Atomic> Sync for Shared<T> {}

impl<T: Atomic> Shared<T> {
    /// Maps the first `count` elements of the array behind `map`, whose values are `T`.
    ///
    /// # Errors
    /// What `mmap` says; `EINVAL` where the array is smaller or not mappable.
    pub fn map(map: BorrowedFd, count: NonZeroUsize) -> io::Result<Self> {
        let bytes = count.get() * size_of::<T>();
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
                Ok(Self { count, elements: address.cast() })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The elements. The kernel changes them at any time, one atomic word at a time.
    pub fn elements(&self) -> &[T] {
        // SAFETY: the mapping holds `count` elements, is page-aligned, lives as long as `self`, and any bytes
        // are valid values.
        unsafe { std::slice::from_raw_parts(self.elements.as_ptr(), self.count.get()) }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let bytes = self.count.get() * size_of::<T>();
        // SAFETY: the mapping was made with this size, and no reference outlives `self`.
        unsafe { libc::munmap(self.elements.as_ptr().cast(), bytes) };
    }
}
