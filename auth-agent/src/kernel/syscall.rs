//! The one BPF command that aya has no name for.

#![allow(unsafe_code, reason = "bpf(2) itself")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `BPF_OBJ_GET` and `BPF_LINK_DETACH` of linux/bpf.h.
const OBJECT_GET: libc::c_int = 7;
const LINK_DETACH: libc::c_int = 34;

/// The parts of `union bpf_attr` that the two commands read.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    /// `pathname`; or `link_detach.link_fd` in its first four bytes.
    first: u64,
    file_descriptor: u32,
    flags: u32,
}

/// Takes the program of a pinned link off its interface, and returns when no packet sees it any more. Removing the
/// pin alone would do it some time later.
///
/// # Errors
/// What the kernel says.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let link = bpf(OBJECT_GET, &Attributes { first: path.as_ptr() as u64, ..Attributes::default() })?;
    // SAFETY: the kernel has just made the descriptor for us.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    // In the byte order in which the union's first member is 32 bits wide.
    let mut first = [0; 8];
    first[..4].copy_from_slice(&link.as_raw_fd().to_ne_bytes());
    bpf(LINK_DETACH, &Attributes { first: u64::from_ne_bytes(first), ..Attributes::default() })?;
    Ok(())
}

fn bpf(command: libc::c_int, attributes: &Attributes) -> io::Result<libc::c_int> {
    // SAFETY: the attributes outlive the call, their size is told, and the commands read no more of them; the path
    // that they may point to is NUL-terminated and outlives the call, too.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<Attributes>())
    };
    match libc::c_int::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
