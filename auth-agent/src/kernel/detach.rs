//! Detaching a pinned link, now.
//!
//! Removing the pin alone detaches too, but only after an RCU grace period: until then packets are still
//! filtered, and the next start would find a stranger's program on the interface.

#![allow(unsafe_code, reason = "aya has no BPF_LINK_DETACH, and lends no link's file descriptor")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `BPF_OBJ_GET` and `BPF_LINK_DETACH` of linux/bpf.h.
const OBJ_GET: libc::c_int = 7;
const LINK_DETACH: libc::c_int = 34;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_DETACH` reads.
#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// Takes the program of the link pinned at `pin` off its interface. The pin stays.
///
/// # Errors
/// What the kernel says.
pub fn detach(pin: &Path) -> io::Result<()> {
    let name = CString::new(pin.as_os_str().as_bytes())?;
    let get = ObjGet { pathname: name.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: the path is NUL-terminated, and outlives the call.
    let link = unsafe { bpf(OBJ_GET, &get) }?;
    // SAFETY: the kernel has just made this file descriptor for us.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    // SAFETY: the file descriptor is open, and the command takes nothing else.
    unsafe { bpf(LINK_DETACH, &LinkDetach { link_fd: link.as_raw_fd() as u32 }) }?;
    Ok(())
}

/// # Safety
/// `attributes` are those of `command`, and what they point to is valid.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads `size` bytes of `attributes`; the rest is the caller's promise.
    match unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) } {
        ..0 => Err(io::Error::last_os_error()),
        result => Ok(result as libc::c_int),
    }
}
